"""The ten figures of the paper as data: which curves each one shows, and in what form (spec 7.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import attrs

from xfw_neuronal_decay.sample import Parameters

__all__ = ["AVERAGE", "PLOTS", "Curve", "Plot", "scientific"]

AVERAGE = 0
"""Stands for the average accuracy where a curve names its task."""

RED, BLUE, GREEN = "#ff1f5a", "#0073a6", "#31a354"
FIRST_TASK = "Test accuracy in Task 1 (%)"


@attrs.frozen
class Curve:
    """One curve: an experiment, a task (or ``AVERAGE``), its legend (made of its parameters, where a function)."""

    number: int
    legend: str | Callable[[Parameters], str]
    colour: str
    task: int = 1

    def text(self, parameters: Parameters) -> str:
        """Return the entry of the legend."""
        return self.legend if isinstance(self.legend, str) else self.legend(parameters)


@attrs.frozen
class Plot:
    """One figure by its published file name; ``low`` is the lower end of the y axis, which ends at 100."""

    name: str
    curves: tuple[Curve, ...]
    label: str = FIRST_TASK
    low: float = 75.0
    bands: bool = True
    zoom: bool = True
    legend: str = "lower right"
    width: float = 1.75

    @property
    def numbers(self) -> list[int]:
        """Return the experiments that the figure needs."""
        return sorted({curve.number for curve in self.curves})


def scientific(value: float) -> str:
    """Return a positive number as mathematical text, such as 5 times a power of ten."""
    exponent = math.floor(math.log10(value))
    mantissa = value / 10.0**exponent
    return rf"{mantissa:.3g}\cdot 10^{{{exponent}}}"


def _strength(parameters: Parameters) -> str:
    value = parameters.decay_lambda
    return rf"$\lambda = {scientific(value) if value else 0}$"


def _pair(baseline: int, decay: int) -> Plot:
    curves = (Curve(baseline, "Baseline", RED), Curve(decay, "ND", BLUE))
    return Plot(f"experiments_[{baseline}, {decay}]_task_1", curves)


def _all_tasks(number: int) -> Plot:
    colours = ("#ef9b20", "#27aeef", "#87bc45")
    curves = tuple(Curve(number, f"Task {task}", colour, task) for task, colour in enumerate(colours, start=1))
    return Plot(f"experiment_{number}_all_tasks", curves, "Test accuracy in the given task (%)")


_STRENGTHS: Mapping[int, str] = {1: "#414c66", 5: "#0000b3", 4: "#0020ff", 6: "#0080ff"}

PLOTS = (
    *(_pair(baseline, baseline + 3 if baseline == 1 else baseline + 1) for baseline in (1, 7, 9, 11, 13)),
    Plot(
        "experiments_[1, 5, 4, 6]_task_1",
        tuple(Curve(n, "Baseline" if n == 1 else _strength, colour) for n, colour in _STRENGTHS.items()),
        bands=False,
    ),
    Plot(
        "experiments_[1, 2, 3]_task_1",
        (
            Curve(1, "Baseline, replay", RED),
            Curve(2, "Baseline, no replay", GREEN),
            Curve(3, "ND, no replay", BLUE),
        ),
        low=20.0,
        zoom=False,
        legend="center right",
    ),
    Plot(
        "experiments_[1, 4]_avg",
        (Curve(1, "Baseline", "#a166c3", AVERAGE), Curve(4, "ND", "#86c982", AVERAGE)),
        "Average test accuracy in all tasks (%)",
        low=50.0,
        bands=False,
        zoom=False,
        width=3.15,
    ),
    _all_tasks(1),
    _all_tasks(4),
)
