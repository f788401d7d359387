"""Predicted times beside those that docs/performance.md reports."""

from __future__ import annotations

import pytest
from torch import nn
from xfw.experiment import Pass
from xfw.plan.estimate import estimate, work_of


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
    assert seconds(evaluated=9000, every=9) - alone == pytest.approx((seconds(evaluated=1000) - alone), rel=0.01)
