"""What an ablative mode changes against the undamaged control: difference, spread and both tests."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray
from xfw.analysis import statistics

from xfw_psa.analysis.cells import Study
from xfw_psa.config import ABLATIVE

__all__ = ["LEVEL", "TESTS", "Effect", "effect_of"]

TESTS = ("paired", "welch")
LEVEL = 0.05
DIGITS = 9
"""Differences of percentages are rounded: equal ones may otherwise differ in the last bits, and t be huge."""


@attrs.frozen
class Effect:
    """An ablative mode minus the control: mean and SD (ddof 0) of the differences by trial index, two p-values.

    ``difference`` is that of the two means, which missing trials may set apart from ``mean``.
    """

    mode: str
    n: int
    mean: float
    sd: float
    p_paired: float
    difference: float
    p_welch: float

    def category(self, test: str) -> str:
        """Return the sign of a significant difference in words; an undefined test is neutral."""
        p, mean = (self.p_paired, self.mean) if test == "paired" else (self.p_welch, self.difference)
        if not p < LEVEL:
            return "Neutral"
        return "Beneficial" if mean > 0 else "Harmful"

    @property
    def size(self) -> float:
        """Return the mean difference in units of its SD, at most 1; 0 where the SD is 0."""
        return min(abs(self.mean) / self.sd, 1.0) if self.sd > 0 else 0.0


def effect_of(study: Study, name: str, mode: str) -> Effect | None:
    """Return the effect of a mode on a network; None where it or the control has no trials.

    ``best`` is the ablative mode with the largest mean. The trials are independent: pairing them by index,
    as published, is arbitrary.
    """
    chosen = _best(study, name) if mode == "best" else mode
    ablated, control = study.cell(name, chosen), study.cell(name, "none")
    if ablated is None or control is None or not len(ablated.peaks_T) or not len(control.peaks_T):
        return None
    first, second = _same_length(ablated.peaks_T, control.peaks_T)
    differences = np.round(first - second, DIGITS)
    differences = differences[np.isfinite(differences)]
    paired = statistics.paired_difference(differences, np.zeros(len(differences)))
    welch = statistics.welch_difference(ablated.peaks_T, control.peaks_T)
    sd = float(differences.std(ddof=0)) if len(differences) else np.nan
    return Effect(chosen, len(differences), paired.mean, sd, paired.p, welch.mean, welch.p)


def _best(study: Study, name: str) -> str:
    means = {mode: cell.summary.mean for mode, cell in study.modes(name).items() if mode in ABLATIVE}
    return max(means, key=lambda mode: means[mode]) if means else ABLATIVE[0]


def _same_length(
    first_T: NDArray[np.float64], second_T: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = min(len(first_T), len(second_T))
    return first_T[:count], second_T[:count]
