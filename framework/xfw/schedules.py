"""Values that change with the step: what an optimizer's value, or a scalar of the model, may be instead of a number.

A schedule is a function of the number of updates (or, ``by_pass``, of passes) before the present one. It is evaluated
on the device within the step, for all trials at once: in float64, without a Python branch on it. Formulas are those of
``torch.optim.lr_scheduler``, but values are absolute, not factors of a base rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import torch

__all__ = [
    "Schedule",
    "by_pass",
    "constant",
    "cosine",
    "cosine_restarts",
    "custom",
    "exponential",
    "linear",
    "multi_step",
    "one_cycle",
    "one_cycle_momentum",
    "polynomial",
    "sequence",
    "step",
    "warm_up",
]


@attrs.frozen
class Schedule:
    """A formula of the step with its numbers; numbers may differ between the trials of a block, the formula may not.

    ``values`` holds numbers, and other schedules, which the formula gets as functions of the step.
    """

    formula: Callable[..., torch.Tensor]
    values: tuple[tuple[str, Any], ...] = ()
    unit: str = "step"

    def __mul__(self, other: float | Schedule) -> Schedule:
        return Schedule(_product, (("left", self), ("right", other if callable(other) else constant(other))), self.unit)

    __rmul__ = __mul__

    def __call__(self, at: torch.Tensor) -> torch.Tensor:
        """Return the value at a step (a float64 tensor of any shape)."""
        return self.formula(at, **dict(self.values))


def _schedule(formula: Callable[..., torch.Tensor], **values: Any) -> Schedule:
    return Schedule(formula, tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in values.items()))


def by_pass(schedule: Schedule) -> Schedule:
    """Return the schedule as a function of the number of the pass, from 0, instead of the update."""
    return attrs.evolve(schedule, unit="pass")


def custom(formula: Callable[..., torch.Tensor], **values: Any) -> Schedule:
    """Return a schedule of the author's own formula ``formula(step, **values)``, written in tensors."""
    return _schedule(formula, **values)


def constant(value: float) -> Schedule:
    """Return a schedule that does not change."""
    return _schedule(_constant, value=value)


def linear(start: float, end: float, steps: float) -> Schedule:
    """Go from ``start`` to ``end`` in ``steps``, and stay there (``LinearLR``)."""
    return _schedule(_linear, start=start, end=end, steps=steps)


def warm_up(value: float, steps: float, start: float = 0.0) -> Schedule:
    """Rise linearly from ``start`` to ``value`` in ``steps``, and stay there."""
    return linear(start, value, steps)


def cosine(start: float, steps: float, end: float = 0.0) -> Schedule:
    """Fall from ``start`` to ``end`` along half a cosine, and stay there (``CosineAnnealingLR``)."""
    return _schedule(_cosine, start=start, end=end, steps=steps)


def cosine_restarts(start: float, steps: float, end: float = 0.0) -> Schedule:
    """Fall along half a cosine again every ``steps`` (``CosineAnnealingWarmRestarts`` with ``T_mult=1``)."""
    return _schedule(_cosine_restarts, start=start, end=end, steps=steps)


def step(start: float, every: float, gamma: float = 0.1) -> Schedule:
    """Multiply by ``gamma`` after ``every`` so many steps (``StepLR``)."""
    return _schedule(_step, start=start, every=every, gamma=gamma)


def multi_step(start: float, milestones: Sequence[float], gamma: float = 0.1) -> Schedule:
    """Multiply by ``gamma`` at every milestone (``MultiStepLR``)."""
    return _schedule(_multi_step, start=start, gamma=gamma, milestones=tuple(milestones))


def exponential(start: float, gamma: float) -> Schedule:
    """Multiply by ``gamma`` in every step (``ExponentialLR``)."""
    return _schedule(_exponential, start=start, gamma=gamma)


def polynomial(start: float, steps: float, power: float = 1.0, end: float = 0.0) -> Schedule:
    """Fall from ``start`` to ``end`` as a power of what is left of ``steps``, and stay there (``PolynomialLR``)."""
    return _schedule(_polynomial, start=start, end=end, steps=steps, power=power)


def one_cycle(
    top: float, steps: float, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4,
    *, linear: bool = False,
) -> Schedule:  # fmt: skip
    """Rise from ``top / div_factor`` to ``top``, fall to the first value over ``final_div_factor`` (``OneCycleLR``).

    The rise takes ``pct_start`` of the steps; along cosines, or ``linear``.
    """
    low = top / div_factor
    formula = _ramps_linear if linear else _ramps_cosine
    return _schedule(formula, start=low, top=top, end=low / final_div_factor, steps=steps, pct_start=pct_start)


def one_cycle_momentum(
    steps: float, pct_start: float = 0.3, low: float = 0.85, high: float = 0.95, *, linear: bool = False
) -> Schedule:
    """Fall from ``high`` to ``low`` and rise again: the momentum (or first beta) that goes with ``one_cycle``."""
    formula = _ramps_linear if linear else _ramps_cosine
    return _schedule(formula, start=high, top=low, end=high, steps=steps, pct_start=pct_start)


def sequence(parts: Sequence[Schedule], starts: Sequence[float]) -> Schedule:
    """Follow one schedule after the other, each from its own step 0 on (``SequentialLR``).

    ``starts`` are the steps at which the second, third, ... begin.
    """
    return _schedule(_sequence, parts=tuple(parts), starts=tuple(starts))


# --- the formulas: n is the step, the other arguments are numbers or tensors that broadcast against it --------------


def _constant(n: Any, value: Any) -> Any:
    return value + 0 * n


def _product(n: Any, left: Any, right: Any) -> Any:
    return left(n) * right(n)


def _linear(n: Any, start: Any, end: Any, steps: Any) -> Any:
    return start + (end - start) * (n / steps).clamp(0, 1)


def _cosine(n: Any, start: Any, end: Any, steps: Any) -> Any:
    return end + (start - end) * (1 + ((n / steps).clamp(0, 1) * math.pi).cos()) / 2


def _cosine_restarts(n: Any, start: Any, end: Any, steps: Any) -> Any:
    return _cosine(n % steps, start, end, steps)


def _step(n: Any, start: Any, every: Any, gamma: Any) -> Any:
    return start * gamma ** (n / every).floor()


def _multi_step(n: Any, start: Any, gamma: Any, milestones: Any) -> Any:
    return start * gamma ** sum(((n >= milestone) + 0 * n for milestone in milestones), 0 * n)


def _exponential(n: Any, start: Any, gamma: Any) -> Any:
    return start * gamma**n


def _polynomial(n: Any, start: Any, end: Any, steps: Any, power: Any) -> Any:
    return end + (start - end) * (1 - (n / steps).clamp(0, 1)) ** power


def _ramps_linear(n: Any, start: Any, top: Any, end: Any, steps: Any, pct_start: Any, shape: Any = _linear) -> Any:
    turn = pct_start * steps - 1
    return shape(n, start, top, turn).where(n <= turn, shape(n - turn, top, end, steps - 1 - turn))


def _ramps_cosine(n: Any, start: Any, top: Any, end: Any, steps: Any, pct_start: Any) -> Any:
    return _ramps_linear(n, start, top, end, steps, pct_start, shape=_cosine)


def _sequence(n: Any, parts: Any, starts: Any) -> Any:
    value = parts[0](n)
    for part, start in zip(parts[1:], starts, strict=True):
        value = part(n - start).where(n >= start, value)
    return value
