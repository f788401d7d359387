"""The network, the penalty and the optimizer against formulas and float64 (acceptance tests M1 to M7, E3).

Axes: B example, H hidden unit, P input.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional
from xfw.experiment import Experiment
from xfw.testing.blocks import block_session
from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.data import Phase
from xfw_neuronal_decay.model import Network, activity, build, loss_terms, products

PHASE = Phase(task=1, tasks=1, tested=4, mean_batch=False)


def small(decay_lambda: float = 0.125, width: int = 6) -> Network:
    torch.manual_seed(3)
    return Network(width, decay_lambda).double()


def batch(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(count, 784, generator=generator, dtype=torch.float64), torch.arange(count) % 10


@torch.no_grad()
def terms(
    network: Network, examples: tuple[torch.Tensor, torch.Tensor], phase: Phase
) -> tuple[torch.Tensor, torch.Tensor]:
    return loss_terms(network, examples, phase)


@pytest.mark.parametrize(
    ("number", "mode", "parameters"),
    [
        (1, "declared", 5_824_522),
        (12, "declared", 1_863_690),
        (13, "declared", 20_037_642),
        (12, "as_published", 5_824_522),
    ],
)
def test_parameters_are_counted_as_published(number: int, mode: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build(Config(number=number, width_mode=mode))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_multiply_accumulates_of_a_batch_are_those_of_the_published_profile() -> None:
    assert products(Config(number=15), 512) == 2_980_052_992
    assert products(Config(number=16), 512) == 2_982_150_144


@pytest.mark.parametrize("layer", ["first", "second", "head"])
def test_initial_weights_are_uniform_in_one_over_the_root_of_the_fan_in(layer: str) -> None:
    torch.manual_seed(0)
    linear = getattr(build(Config()), layer)
    bound = 1.0 / math.sqrt(linear.in_features)
    for values in (linear.weight, linear.bias):
        assert values.abs().max() <= bound
    # The variance of a uniform variable is bound² / 3; of n draws its relative SD is √(4 / 5n), below 0.1 % for the two
    # large matrices and 0.6 % for the head.
    assert linear.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.02)


def test_the_penalty_is_the_sum_over_units_layers_and_batch() -> None:
    network, (images, labels) = small(), batch()
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    h1 = np.maximum(0.0, images.numpy() @ weights["first.weight"].T + weights["first.bias"])
    h2 = np.maximum(0.0, h1 @ weights["second.weight"].T + weights["second.bias"])
    loss_ce, penalty = terms(network, (images, labels), PHASE)
    assert float(penalty) == pytest.approx(0.125 * ((h1**2).sum() + (h2**2).sum()), rel=1e-12)
    logits = h2 @ weights["head.weight"].T + weights["head.bias"]
    shifted = logits - logits.max(1, keepdims=True)
    own = shifted[np.arange(5), labels.numpy()] - np.log(np.exp(shifted).sum(1))
    assert float(loss_ce) == pytest.approx(-own.mean(), rel=1e-12)


def test_float32_keeps_the_penalty_of_a_large_batch_to_1e5() -> None:
    torch.manual_seed(0)
    network = Network(2048, 1e-5)
    images = torch.rand(512, 784)
    labels = torch.zeros(512, dtype=torch.int64)
    single = terms(network, (images, labels), PHASE)[1]
    double = terms(network.double(), (images.double(), labels), PHASE)[1]
    assert float(single) == pytest.approx(float(double), rel=1e-5)


def test_repeating_the_batch_doubles_the_penalty_and_leaves_the_cross_entropy() -> None:
    network, (images, labels) = small(), batch()
    once = terms(network, (images, labels), PHASE)
    twice = terms(network, (torch.cat([images, images]), torch.cat([labels, labels])), PHASE)
    assert float(twice[0]) == pytest.approx(float(once[0]), rel=1e-12)
    assert float(twice[1]) == pytest.approx(2 * float(once[1]), rel=1e-12)


def test_the_mean_penalty_is_the_sum_divided_by_the_batch() -> None:
    network, examples = small(), batch()
    mean = Phase(task=1, tasks=1, tested=4, mean_batch=True)
    assert float(terms(network, examples, mean)[1]) == pytest.approx(
        float(terms(network, examples, PHASE)[1]) / 5, rel=1e-12
    )


def test_gradients_are_central_differences() -> None:
    network, examples = small(), batch()

    def loss() -> torch.Tensor:
        loss_ce, penalty = loss_terms(network, examples, PHASE)
        return loss_ce + penalty

    found = torch.autograd.grad(loss(), list(network.parameters()))
    generator = torch.Generator().manual_seed(5)
    for parameter, gradient in zip(network.parameters(), found, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        start, step = parameter.detach().clone(), 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.copy_(start + sign * step * direction)
            values.append(float(loss().detach()))
        with torch.no_grad():
            parameter.copy_(start)
        slope = (values[0] - values[1]) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_the_penalty_knows_neither_logits_nor_inputs() -> None:
    network, (images, labels) = small(), batch()
    before = terms(network, (images, labels), PHASE)[1]
    with torch.no_grad():
        network.head.bias.add_(7.0)
    assert torch.equal(terms(network, (images, labels), PHASE)[1], before)
    silent = torch.zeros(2, 3)
    assert float(activity(silent, silent)) == 0.0


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_decay_of_zero_trains_as_no_decay(train: Callable[..., object], strategy: str) -> None:
    off = train("iterations_per_task=20", "rotations=[0]", strategy=strategy)
    zero = train("iterations_per_task=20", "rotations=[0]", "decay=true", "decay_lambda=0", strategy=strategy)
    assert np.array_equal(off.parameters(), zero.parameters())  # type: ignore[attr-defined]


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_steps_over_a_task_switch_are_those_of_adam_by_hand(experiment: Experiment, strategy: str) -> None:
    """Two steps of task 1 and two of task 2: moments and counter go on at the switch."""
    overrides = ["number=4", "n_neurons=8", "iterations_per_task=2", "default_lambda=0.001", "rotations=[0,80]"]
    how = {"preset": "quick", "trials": 1, "dtype": "float64", "strategy": strategy}
    session = block_session(experiment, overrides, **how)
    network = session.block.module(0)
    weights = [parameter.detach().clone() for parameter in network.parameters()]
    first = [torch.zeros_like(weight) for weight in weights]
    second = [torch.zeros_like(weight) for weight in weights]
    count = 0
    for task in (1, 2):
        session.trainer.begin(session.epochs[task - 1], task - 1)
        batches = session.trainer._batches[session.epochs[task - 1]]
        for place in range(2):
            batches.position.fill_(place)
            raw = tuple(part[0] for part in batches.take(32 * task))
            images, labels = raw[0].double() / 255.0, raw[1]
            count += 1
            leaves = [weight.clone().requires_grad_() for weight in weights]
            h1 = functional.relu(images @ leaves[0].T + leaves[1])
            h2 = functional.relu(h1 @ leaves[2].T + leaves[3])
            loss = functional.cross_entropy(h2 @ leaves[4].T + leaves[5], labels)
            loss = loss + 0.001 * (h1.square().sum() + h2.square().sum())
            for index, gradient in enumerate(torch.autograd.grad(loss, leaves)):
                first[index] = 0.9 * first[index] + 0.1 * gradient
                second[index] = 0.999 * second[index] + 0.001 * gradient**2
                step = (first[index] / (1 - 0.9**count)) / ((second[index] / (1 - 0.999**count)).sqrt() + 1e-8)
                weights[index] = weights[index] - 1e-3 * step
    trained = block_session(experiment, overrides, **how)
    trained.run()
    for found, expected in zip(trained.block.module(0).parameters(), weights, strict=True):
        # The image bytes are divided in float32 before the cast, 1e-8 relative; Adam's first steps amplify it at most
        # where a gradient is close to zero, so compare with a tolerance on the scale of one step.
        assert (found - expected).abs().max() <= 1e-6 * 1e-3 + 1e-6 * expected.abs().max()


@pytest.mark.parametrize(
    ("width", "penalty", "tolerance"), [(2048, 0.232, 0.03), (1024, 0.116, 0.02), (4096, 0.464, 0.05)]
)
def test_the_first_penalty_is_that_of_the_width_that_is_built(
    mnist: object, width: int, penalty: float, tolerance: float
) -> None:
    from xfw.data.sources import Sources

    images = Sources().load("mnist").train_images[:512].flatten(1).float() / 255.0
    torch.manual_seed(1)
    number = {2048: 4, 1024: 12, 4096: 14}[width]
    network = build(Config(number=number, width_mode="declared"))
    found = terms(network, (images, torch.zeros(512, dtype=torch.int64)), PHASE)[1]
    assert float(found) == pytest.approx(penalty, abs=tolerance)
