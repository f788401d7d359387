"""The laws against published vectors, closed formulas and the updates themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from xfw_neural_mechanics.laws import Hyper, Kicks, initial, propagator, step

Rate = Callable[[int], float]


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def forcing(k: int) -> float:
    return 0.5 * (1 + 0.5 * math.sin(k / 7)) * math.exp(-k / 200)


def predicted(
    law: str,
    order: int,
    *,
    eta: Rate | float,
    decay: float,
    beta: float = 0.0,
    alpha: float = 0.0,
    quadrature: str = "midpoint",
    start: float | None = None,
    steps: int = 500,
    at: Sequence[int] = (1, 10, 100, 500),
) -> list[float]:
    state = initial(law, number((1.0 if order == 1 else 2.0) if start is None else start))
    values = []
    for k in range(steps):
        rate = eta(k) if callable(eta) else eta
        hyper = Hyper(number(rate), number(decay), number(beta), number(alpha))
        kicks = Kicks(number(forcing(k) if order == 2 else 0.0), number(0.0), number(0.0))
        state = step(law, state, kicks, hyper, order, quadrature)
        if k + 1 in at:
            values.append(state[0].item())
    return values


VECTORS = [
    ("first_order", 1, {"eta": 0.1, "decay": 5e-3}, (0.999500124979, 0.995012479193, 0.951229424501, 0.778800783071)),
    ("exact", 1, {"eta": 0.1, "decay": 5e-3}, (0.9995, 0.995011235013, 0.951217530242, 0.778752093313)),
    ("first_order", 2, {"eta": 0.1, "decay": 5e-3}, (2.00299600217, 2.04201255434, 2.19962287703, 1.88138215244)),
    ("exact", 2, {"eta": 0.1, "decay": 5e-3}, (2.003, 2.0420644615, 2.19991185094, 1.88163692196)),
    (
        "oscillator", 1, {"eta": 0.05, "decay": 2e-3, "beta": 0.9},
        (0.999949167993, 0.996187423918, 0.912801624862, 0.609503648415),
    ),
    (
        "exact", 1, {"eta": 0.05, "decay": 2e-3, "beta": 0.9},
        (0.9999, 0.995865506635, 0.912340598112, 0.609195838352),
    ),
    (
        "oscillator", 2, {"eta": 0.05, "decay": 2e-3, "beta": 0.9, "quadrature": "left"},
        (2.00216950938, 2.10135896835, 3.31279290418, 3.07490443891),
    ),
    (
        "oscillator", 2, {"eta": 0.05, "decay": 2e-3, "beta": 0.9},
        (2.00101433791, 2.09172738533, 3.30559120563, 3.07599346667),
    ),
    (
        "exact", 2, {"eta": 0.05, "decay": 2e-3, "beta": 0.9},
        (2.00085, 2.09077391292, 3.30418655454, 3.07517088403),
    ),
    (
        "oscillator", 2, {"eta": 0.05, "decay": 2e-3, "beta": 0.9, "alpha": 0.1, "quadrature": "left"},
        (2.00218985001, 2.10289990116, 3.35838769234, 3.30276731285),
    ),
    (
        "exact", 2, {"eta": 0.05, "decay": 2e-3, "beta": 0.9, "alpha": 0.1},
        (2.00089, 2.09243981761, 3.34979058992, 3.30293957894),
    ),
    (
        "first_order", 2, {"eta": lambda k: 0.1 if k < 250 else 0.01, "decay": 5e-3},
        (2.00299600217, 2.04201255434, 2.19962287703, 2.13819184723),
    ),
    (
        "exact", 2, {"eta": lambda k: 0.1 if k < 250 else 0.01, "decay": 5e-3},
        (2.003, 2.0420644615, 2.19991185094, 2.13857138691),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("law", "order", "how", "expected"), VECTORS)
def test_laws_give_the_reference_vectors(
    law: str, order: int, how: dict[str, float], expected: Sequence[float]
) -> None:
    assert predicted(law, order, **how) == pytest.approx(expected, rel=1e-11)


def test_critical_damping_is_smooth() -> None:
    def at(factor: float) -> list[float]:
        return predicted(
            "oscillator", 2, eta=0.1, decay=0.25 / 0.6 * factor, beta=0.5, quadrature="left", steps=100, at=(1, 10, 100)
        )

    assert at(1.0) == pytest.approx((1.917915475, 0.4079432904, 0.0740185499), rel=1e-9)
    for factor in (1 - 1e-9, 1 + 1e-9):
        assert at(factor) == pytest.approx(at(1.0), abs=1e-8)


@pytest.mark.parametrize(("gamma", "omega2"), [(0.3, 4.0), (3.0, 1.0), (1.5, 2.25)])
def test_the_propagator_solves_the_oscillator(gamma: float, omega2: float) -> None:
    """Against the closed solutions at any time, and as one step of many."""
    tau, steps = 0.07, 60
    whole = [entry.item() for entry in propagator(number(gamma), number(omega2), number(tau * steps))]
    one = torch.stack(propagator(number(gamma), number(omega2), number(tau))).view(2, 2)
    many = torch.linalg.matrix_power(one, steps).flatten().tolist()
    assert many == pytest.approx(whole, rel=1e-11, abs=1e-14)
    exact = torch.linalg.matrix_exp(
        torch.tensor([[0.0, 1.0], [-omega2, -2 * gamma]], dtype=torch.float64) * tau * steps
    )
    assert whole == pytest.approx(exact.flatten().tolist(), rel=1e-9, abs=1e-12)


def test_a_closed_sum_equals_the_recursion() -> None:
    """Q_n = H(t_n) Q_0 + 2 h sum G(t_n - t_k) F_k for a constant rate, left rule."""
    h, beta, decay, steps = 0.05, 0.9, 2e-3, 200
    gamma, omega2 = (1 - beta) / (h * (1 + beta)), 4 * decay / (h * (1 + beta))
    root = math.sqrt(gamma**2 - omega2)
    slow, fast = -gamma + root, -gamma - root

    def green(t: float) -> float:
        return (math.exp(slow * t) - math.exp(fast * t)) / (slow - fast)

    def free(t: float) -> float:
        return (slow * math.exp(fast * t) - fast * math.exp(slow * t)) / (slow - fast)

    closed = free(steps * h) * 2.0 + 2 * h * sum(green((steps - k) * h) * forcing(k) for k in range(steps))
    recursion = predicted("oscillator", 2, eta=h, decay=decay, beta=beta, quadrature="left", steps=steps, at=(steps,))
    assert recursion == pytest.approx([closed], rel=1e-12)


def test_a_million_steps_with_momentum_stay_finite() -> None:
    hyper = Hyper(number(0.1), number(1e-4), number(0.9), number(0.0))
    kicks = Kicks(number(1e-3), number(0.0), number(0.0))
    gamma, omega2 = 0.1 / (0.1 * 1.9), 4e-4 / (0.1 * 1.9)
    state = initial("oscillator", number(2.0))
    for _ in range(2_000):
        state = step("oscillator", state, kicks, hyper, 2)
    entries = torch.stack(propagator(number(gamma), number(omega2), number(0.1))).view(2, 2)
    assert torch.linalg.matrix_power(entries, 1_000_000).isfinite().all()
    assert state.isfinite().all()


@pytest.mark.parametrize("law", ["oscillator", "flow", "first_order", "exact", "identity"])
@pytest.mark.parametrize("order", [1, 2])
def test_at_a_rate_of_zero_nothing_moves(law: str, order: int) -> None:
    hyper = Hyper(number(0.0), number(1e-2), number(0.9), number(0.0))
    kicks = Kicks(number(0.3), number(0.1), number(0.2))
    assert step(law, initial(law, number(2.0)), kicks, hyper, order)[0].item() == 2.0


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("beta", "alpha"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.1)])
def test_the_identity_law_follows_any_update(beta: float, alpha: float, nesterov: bool) -> None:
    """Random gradients, no symmetry at all: the identity holds to rounding, for sums and for sums of squares."""
    if nesterov and (beta == 0 or alpha > 0):
        pytest.skip("Nesterov's form needs momentum, and no dampening")
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(7, generator=generator, dtype=torch.float64)
    velocity = torch.zeros_like(theta)
    hyper = Hyper(number(0.05), number(3e-3), number(beta), number(alpha), nesterov)
    linear, quadratic = initial("identity", theta.sum()), initial("identity", theta @ theta)
    for _ in range(200):
        gradient = torch.randn(7, generator=generator, dtype=torch.float64)
        d = gradient + 3e-3 * theta
        velocity = beta * velocity + (1 - alpha if beta > 0 else 1.0) * d
        u = d + beta * velocity if nesterov else velocity
        linear = step("identity", linear, Kicks(number(0.0), gradient.sum(), number(0.0)), hyper, 1)
        quadratic = step("identity", quadratic, Kicks(u @ u, theta @ gradient, u @ velocity), hyper, 2)
        theta = theta - 0.05 * u
    assert linear[0].item() == pytest.approx(theta.sum().item(), abs=1e-12)
    assert quadratic[0].item() == pytest.approx((theta @ theta).item(), rel=1e-12)
