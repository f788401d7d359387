"""The update of all trials against the published formulas, computed entry by entry in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xfw
from xfw.engine.optimizer import ArenaOptimizer

STEPS = 10
TOLERANCE = 1e-12
"""Ten steps in float64: rounding of a few operations each, far below this; a wrong formula is far above."""


def adam(spec: xfw.Adam | xfw.AdamW, start: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2."""
    theta, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    beta1, beta2 = spec.betas
    for count, gradient in enumerate(gradients, start=1):
        g = gradient if isinstance(spec, xfw.AdamW) else gradient + spec.weight_decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**count), v / (1 - beta2**count)
        decay = spec.lr * spec.weight_decay * theta if isinstance(spec, xfw.AdamW) else 0.0
        theta = theta - decay - spec.lr * m_hat / (np.sqrt(v_hat) + spec.eps)
    return theta


def sgd(spec: xfw.SGD, start: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    theta, buffer = start.copy(), np.zeros_like(start)
    for gradient in gradients:
        g = gradient + spec.weight_decay * theta
        buffer = spec.momentum * buffer + g
        theta = theta - spec.lr * (g + spec.momentum * buffer if spec.nesterov else buffer)
    return theta


SPECS: dict[str, list[xfw.experiment.Optimizer]] = {
    "adamw": [xfw.AdamW(lr=1e-2, weight_decay=decay) for decay in (0.0, 1e-4, 0.01)],
    "adam": [xfw.Adam(lr=rate, weight_decay=0.1) for rate in (1e-3, 1e-2, 1e-1)],
    "mixed": [xfw.AdamW(lr=1e-1), xfw.AdamW(lr=1e-3, betas=(0.8, 0.9)), xfw.AdamW(lr=1e-2, eps=1e-3)],
    "sgd": [xfw.SGD(lr=rate, momentum=0.9, weight_decay=0.01) for rate in (0.1, 0.01, 0.1)],
    "nesterov": [xfw.SGD(lr=0.1, momentum=momentum, nesterov=True) for momentum in (0.5, 0.9, 0.99)],
}


def stepped(specs: list[xfw.experiment.Optimizer], start: np.ndarray, gradients: np.ndarray, device: str) -> np.ndarray:
    arena = torch.tensor(start, device=device)
    gradient = torch.zeros_like(arena)
    optimizer = ArenaOptimizer(specs, arena, gradient)
    for each in gradients:
        gradient.copy_(torch.tensor(each))
        optimizer.step()
    return arena.cpu().numpy()


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SPECS)
def test_update_follows_the_formula_for_every_trial(name: str, device: str) -> None:
    rng = np.random.default_rng(1)
    start, gradients = rng.normal(size=(3, 1500)), rng.normal(size=(STEPS, 3, 1500))
    found = stepped(SPECS[name], start, gradients, device)
    for lane, spec in enumerate(SPECS[name]):
        formula = sgd if isinstance(spec, xfw.SGD) else adam
        expected = formula(spec, start[lane], gradients[:, lane])  # type: ignore[arg-type,operator]
        assert np.abs(found[lane] - expected).max() <= TOLERANCE


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [5, 64, 1003])
def test_neighbours_change_no_bit(width: int, device: str) -> None:
    rng = np.random.default_rng(2)
    start = rng.normal(size=(3, width)).astype(np.float32)
    gradients = rng.normal(size=(STEPS, 3, width)).astype(np.float32)
    together = stepped(SPECS["adamw"], start, gradients, device)
    alone = stepped(SPECS["adamw"][2:], start[2:], gradients[:, 2:], device)
    assert np.array_equal(together[2], alone[0])


def test_reset_forgets_the_marked_trials_only() -> None:
    arena, gradient = torch.zeros(2, 4), torch.ones(2, 4)
    optimizer = ArenaOptimizer([xfw.AdamW(lr=0.1)] * 2, arena, gradient)
    optimizer.step()
    optimizer.reset(torch.tensor([True, False]))
    assert optimizer.state["step"].tolist() == [0, 1]
    assert not optimizer.state["exp_avg"][0].any()
    assert optimizer.state["exp_avg"][1].all()


def test_the_first_step_after_a_reset_is_a_first_step() -> None:
    arena, gradient = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[0.5, -2.0, 1e-9]], dtype=torch.float64)
    optimizer = ArenaOptimizer([xfw.AdamW(lr=0.1)], arena, gradient)
    optimizer.step()
    optimizer.reset()
    before = arena.clone()
    optimizer.step()
    moved = (before - arena)[0].tolist()
    for step, g in zip(moved, gradient[0].tolist(), strict=True):
        assert math.isclose(step, 0.1 * g / (abs(g) + 1e-8), rel_tol=1e-9)


def test_dampened_momentum_is_refused() -> None:
    """torch.optim.SGD does not dampen the first gradient, which an arena of zero moments would."""
    with pytest.raises(xfw.UserError, match="dampening"):
        ArenaOptimizer([xfw.SGD(lr=0.1, momentum=0.9, dampening=0.5)], torch.zeros(1, 3), torch.zeros(1, 3))


def test_different_optimizers_in_one_block_are_refused() -> None:
    with pytest.raises(xfw.UserError, match="different optimizers: Adam, SGD"):
        ArenaOptimizer([xfw.Adam(lr=0.1), xfw.SGD(lr=0.1)], torch.zeros(2, 3), torch.zeros(2, 3))
