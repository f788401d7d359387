"""The broken conservation laws, one update at a time: exact solutions and the published approximations.

A law predicts a quantity of a group of parameters from its measured value at step 0 and from what each update does:
the learning rate, and the group's bilinear form of the applied direction with itself. Quantities are *linear* (a sum
of entries, kept by a translation symmetry: r = 1) or *quadratic* (a sum of squares, or a difference of two; r = 2).
All numbers are tensors that broadcast (trials, channels), so a step branches on no value and reads none back.
Kunin et al., *Neural Mechanics* (ICLR 2021, arXiv 2012.04728), with momentum, dampening and Nesterov's form in full.

Symbols: ``eta`` learning rate, ``decay`` lambda, ``beta`` momentum, ``alpha`` dampening, ``h`` the time of a step;
``force`` U = B(u, u) of the applied direction u, ``residual`` s = B(theta, G) (zero where the symmetry is exact),
``cross`` B(u, v) of the direction with the new velocity (Nesterov only).
"""

from __future__ import annotations

from typing import Literal

import attrs
import torch

from xfw_neural_mechanics.config import LAWS

__all__ = ["LAWS", "QUADRATURES", "Hyper", "Kicks", "Law", "initial", "propagator", "step"]

QUADRATURES = ("midpoint", "left")
"""Where in a step the oscillator is pushed: ``left`` is the published rule; the parameters really move in between."""

Law = Literal["flow", "first_order", "oscillator", "exact", "identity"]

CRITICAL = 1e-8
"""Below this |delta| tau^2 sine and cosine come from their series: the two exact forms lose their digits there."""


@attrs.frozen(eq=False)
class Hyper:
    """What the optimizer does at a step; every field is a tensor that broadcasts, ``nesterov`` a plain choice."""

    eta: torch.Tensor
    decay: torch.Tensor
    beta: torch.Tensor
    alpha: torch.Tensor
    nesterov: bool = False

    @property
    def h(self) -> torch.Tensor:
        """Return the time of a step: the dampened rate, which has no effect without momentum."""
        return torch.where(self.beta > 0, self.eta * (1 - self.alpha), self.eta)


@attrs.frozen(eq=False)
class Kicks:
    """The bilinear forms of one update for every group; zero for linear quantities, but for the residual."""

    force: torch.Tensor
    residual: torch.Tensor
    cross: torch.Tensor


def initial(law: str, value: torch.Tensor) -> torch.Tensor:
    """Return a law's state at step 0, ``[2, …]``: the measured value, and a velocity (product, moment) of zero."""
    if law not in LAWS:
        raise ValueError(f"unknown law '{law}', expected one of {', '.join(LAWS)}")
    return torch.stack([value, torch.zeros_like(value)])


def step(
    law: str, state: torch.Tensor, kicks: Kicks, hyper: Hyper, order: int, quadrature: str = "midpoint"
) -> torch.Tensor:
    """Return the state after one update; ``order`` is 1 for linear quantities, 2 for quadratic ones."""
    if law == "oscillator":
        return _oscillator(state, kicks, hyper, order, quadrature)
    if law in ("exact", "identity"):
        residual = kicks.residual if law == "identity" else torch.zeros_like(kicks.residual)
        return (_exact_linear if order == 1 else _exact_quadratic)(state, kicks, hyper, residual)
    value, rest = state
    if law == "flow":
        return torch.stack([value * torch.exp(-order * hyper.decay * hyper.h / (1 - hyper.beta)), rest])
    shrink = torch.exp(-order * hyper.decay * hyper.eta)
    kicked = value if order == 1 else value + hyper.eta**2 * kicks.force
    return torch.stack([shrink * kicked, rest])


def propagator(gamma: torch.Tensor, omega2: torch.Tensor, tau: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the four entries of the matrix that moves (value, velocity) of a damped oscillator on by ``tau``.

    The oscillator is x'' + 2 gamma x' + omega2 x = 0, in any of its three regimes; overdamped exponentials are taken
    without cancellation.
    """
    delta = omega2 - gamma**2
    x = delta * tau**2
    series = x.abs() < CRITICAL
    under = torch.sqrt(delta.clamp(min=0.0))
    over = torch.sqrt((-delta).clamp(min=0.0))
    ones = torch.ones_like(x)
    fade = torch.exp(-gamma * tau)
    swing = torch.where(delta > 0, under, ones)
    slow = torch.exp(-omega2 / (gamma + over) * tau)
    fast = torch.exp(-(gamma + over) * tau)
    gap = torch.where(delta < 0, 2 * over, ones)
    cosine = torch.where(delta > 0, fade * torch.cos(swing * tau), (slow + fast) / 2)
    sine = torch.where(delta > 0, fade * torch.sin(swing * tau) / swing, (slow - fast) / gap)
    cosine = torch.where(series, fade * (1 - x / 2), cosine)
    sine = torch.where(series, fade * tau * (1 - x / 6), sine)
    return cosine + gamma * sine, sine, -omega2 * sine, cosine - gamma * sine


def _moved(state: torch.Tensor, entries: tuple[torch.Tensor, ...]) -> torch.Tensor:
    value, velocity = state
    return torch.stack([entries[0] * value + entries[1] * velocity, entries[2] * value + entries[3] * velocity])


def _oscillator(state: torch.Tensor, kicks: Kicks, hyper: Hyper, order: int, quadrature: str) -> torch.Tensor:
    """Push and move the damped oscillator of the second-order modified flow.

    From (h/2)(1 + beta) theta'' + (1 - beta) theta' + lambda theta = -G, and with Nesterov's look-ahead
    beta h d'/(1 + beta) on the right. At a rate of zero time stands still.
    """
    h, beta, decay = hyper.h, hyper.beta, hyper.decay
    still = h <= 0
    time = torch.where(still, torch.ones_like(h), h)
    friction = 1 - beta + (order * decay * beta * time if hyper.nesterov else 0.0)
    gamma, omega2 = friction / (time * (1 + beta)), 2 * order * decay / (time * (1 + beta))
    if hyper.nesterov:
        force = ((1 - beta) * kicks.force + 2 * beta**2 * kicks.cross) / (1 + beta)
    else:
        force = kicks.force / torch.where(beta > 0, (1 - hyper.alpha) ** 2, torch.ones_like(beta))
    push = torch.stack([torch.zeros_like(state[0]), 2 * time * force + torch.zeros_like(state[0])])
    if order == 1:
        after = _moved(state, propagator(gamma, omega2, time))
    elif quadrature == "left":
        after = _moved(state + push, propagator(gamma, omega2, time))
    else:
        half = propagator(gamma, omega2, time / 2)
        after = _moved(_moved(state, half) + push, half)
    return torch.where(still, state, after)


def _exact_linear(state: torch.Tensor, _kicks: Kicks, hyper: Hyper, residual: torch.Tensor) -> torch.Tensor:
    """Sum the update over the group: m <- beta m + (1 - alpha) d, q <- q - eta u, with d = lambda q + s."""
    value, moment = state
    pull = hyper.decay * value + residual
    dampened = torch.where(hyper.beta > 0, 1 - hyper.alpha, torch.ones_like(hyper.alpha))
    moment = hyper.beta * moment + dampened * pull
    direction = pull + hyper.beta * moment if hyper.nesterov else moment
    return torch.stack([value - hyper.eta * direction, moment])


def _exact_quadratic(state: torch.Tensor, kicks: Kicks, hyper: Hyper, residual: torch.Tensor) -> torch.Tensor:
    """Expand B(theta - eta u, theta - eta u) and B(theta - eta u, v): the discrete law, without expansion in eta."""
    value, product = state
    pull = hyper.decay * value + residual
    dampened = torch.where(hyper.beta > 0, 1 - hyper.alpha, torch.ones_like(hyper.alpha))
    product = hyper.beta * product + dampened * pull  # B(theta, v) with the new velocity
    along = pull + hyper.beta * product if hyper.nesterov else product  # B(theta, u)
    swept = kicks.cross if hyper.nesterov else kicks.force  # B(u, v)
    value = value - 2 * hyper.eta * along + hyper.eta**2 * kicks.force
    return torch.stack([value, product - hyper.eta * swept])
