"""Predicted times beside those that docs/performance.md reports."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from xfw.engine.work import work_of
from xfw.experiment import Dataset, Pass
from xfw.plan.estimate import estimate


def vgg() -> nn.Sequential:
    """VGG-16 with batch normalisation on 64×64 images of 200 classes."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 1024), nn.ReLU(), nn.Dropout(), nn.Linear(1024, 200))


IMAGES = Dataset(
    (torch.empty(4, 3, 64, 64, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)), lambda x, y: (x / 255, y)
)


def by_hand(side: int = 64) -> tuple[int, int]:
    """Return products, and the values kept: what enters every convolution, normalisation, pooling and map."""
    products, kept, channels = 0, 0, 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if width:
            products += 9 * channels * width * side**2
            kept += 2 * width * side**2  # the output of the convolution, and that of the rectifier
            channels = width
        else:
            side //= 2
            kept += channels * side**2 * 3  # the pooled values, and where they came from (64 bits)
    products += 2048 * 1024 + 1024 * 200
    return products, kept + 2 * 1024


def test_convolutions_are_counted_at_every_place() -> None:
    with torch.device("meta"):
        model = vgg()
    work = work_of(model, IMAGES)
    products, kept = by_hand()
    assert work.products == products
    assert work.outputs == pytest.approx(kept, rel=0.01)
    assert work.widest == 64 * 64 * 64


def test_counting_changes_nothing_of_a_model() -> None:
    model = vgg()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train(False)
    work_of(model, IMAGES)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_takes_something_else_is_counted_by_its_parameters() -> None:
    class Odd(nn.Linear):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x) * mask

    assert work_of(Odd(3, 2), Dataset((torch.zeros(4, 3),))) == work_of(Odd(3, 2))


def test_a_block_of_a_large_convolutional_network_does_not_fit() -> None:
    with torch.device("meta"):
        work = work_of(vgg(), IMAGES)
    needed = [
        estimate(work, [Pass(batch_size=256)], {"train": 100_000}, trials, "cuda", 4, "streams").memory / 2**30
        for trials in (1, 64)
    ]
    activations = 256 * work.outputs * 4 / 2**30
    assert activations < needed[0] < 5 * activations + 5
    assert needed[1] > 80


class Residual(nn.Module):
    """A residual network: a projection, two maps in every block, a readout."""

    def __init__(self, *stacks: tuple[int, int]) -> None:
        super().__init__()
        maps, current = [], 784
        for depth, width in stacks:
            maps.append(nn.Linear(current, width))
            maps += [nn.Linear(width, width) for _ in range(2 * depth)]
            current = width
        self.maps = nn.ModuleList([*maps, nn.Linear(current, 10)])


SQUARE, MIXED, WIDE = ((18, 18),), ((4, 4), (2, 8), (1, 16)), ((1, 1024),)


def per_step(stacks: tuple[tuple[int, int], ...], trials: int, device: str) -> float:
    """Return the predicted microseconds of one step of a block."""
    found = estimate(work_of(Residual(*stacks)), [Pass(batch_size=256)], {"train": 50_000}, trials, device)
    return 1e6 * found.seconds / found.steps


@pytest.mark.parametrize(
    ("stacks", "trials", "measured"),
    [
        (SQUARE, 10, 100.6),
        (SQUARE, 64, 21.6),
        (SQUARE, 256, 10.4),
        (MIXED, 10, 47.5),
        (MIXED, 64, 10.7),
        (MIXED, 256, 5.6),
        (WIDE, 10, 160.5),
        (WIDE, 64, 131.2),
        (WIDE, 256, 125.4),
    ],
)
def test_times_on_a_gpu_are_those_measured_within_a_third(
    stacks: tuple[tuple[int, int], ...], trials: int, measured: float
) -> None:
    assert measured / 1.34 < per_step(stacks, trials, "cuda") / trials < measured * 1.34


@pytest.mark.parametrize(("stacks", "measured"), [(SQUARE, 1.34), (MIXED, 0.75), (WIDE, 23.3)])
def test_times_on_a_cpu_are_those_measured_within_a_factor_of_two(
    stacks: tuple[tuple[int, int], ...], measured: float
) -> None:
    # Two processes of five trials each took `measured` ms for every one of the ten trials' steps.
    expected = 1000 * measured * 10
    assert expected / 2 < per_step(stacks, 5, "cpu") < expected * 2


def test_examples_that_only_due_steps_evaluate_count_in_those_steps() -> None:
    work = work_of(nn.Linear(1000, 1000))

    def seconds(**evaluation: int) -> float:
        epoch = Pass(batch_size=1, steps=1000, **evaluation)
        return estimate(work, [epoch], {"train": 10}, 10, "cpu").seconds

    alone = seconds()
    assert seconds(observed=9000, observe_every=9) - alone == pytest.approx((seconds(observed=1000) - alone), rel=0.01)
