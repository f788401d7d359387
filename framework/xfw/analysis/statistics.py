"""Summaries and differences of samples, with the number of values they rest on.

Values that are not finite (a trial that diverged, or recorded nothing) are left out and counted.
``sd`` is computed with divisor n - ``ddof``; standard errors and intervals always rest on n - 1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Difference",
    "Summary",
    "finite",
    "holm",
    "moments",
    "paired_difference",
    "robust_sd",
    "summarise",
    "welch_difference",
]

NAN = math.nan


@attrs.frozen
class Summary:
    """Describe one sample: its size, what is missing, location, spread, and the t interval of the mean."""

    n: int
    missing: int
    mean: float
    sd: float
    ddof: int
    sem: float
    low: float
    high: float
    confidence: float
    minimum: float
    maximum: float


@attrs.frozen
class Difference:
    """Describe the difference of two means, first minus second.

    ``effect`` is Cohen's d_z for pairs (mean difference over the SD of the differences), else Hedges' g
    (difference over the pooled SD, corrected for small samples); ``p`` is two-sided. Where the values do not
    spread (``constant``, rounding apart) there is no test and no effect, and the interval is the difference itself.
    """

    kind: str
    n_first: int
    n_second: int
    missing: int
    mean: float
    low: float = NAN
    high: float = NAN
    t: float = NAN
    df: float = NAN
    p: float = NAN
    effect: float = NAN
    effect_name: str = ""
    constant: bool = False


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Return the finite values as float64."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def summarise(values: ArrayLike, *, confidence: float = 0.95, ddof: int = 1) -> Summary:
    """Describe a sample; what cannot be computed from so few values is NaN."""
    from scipy import stats

    sample = finite(values)
    n = len(sample)
    mean = float(sample.mean()) if n else NAN
    sem = float(sample.std(ddof=1)) / math.sqrt(n) if n > 1 else NAN
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * sem if n > 1 else NAN
    return Summary(
        n=n,
        missing=np.size(values) - n,
        mean=mean,
        sd=float(sample.std(ddof=ddof)) if n > ddof else NAN,
        ddof=ddof,
        sem=sem,
        low=mean - half,
        high=mean + half,
        confidence=confidence,
        minimum=float(sample.min()) if n else NAN,
        maximum=float(sample.max()) if n else NAN,
    )


def robust_sd(values: ArrayLike) -> float:
    """Return the median absolute deviation, scaled to the SD of normal values: one outlier does not move it far."""
    sample = finite(values)
    return 1.4826 * float(np.median(np.abs(sample - np.median(sample)))) if len(sample) else NAN


def moments(
    values_TE: NDArray[np.float64], ddof: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return, along the first axis, the number of finite values, their mean and their SD (NaN if too few)."""
    there = np.isfinite(values_TE)
    n = there.sum(axis=0)
    filled = np.where(there, values_TE, 0.0)
    mean = np.where(n > 0, filled.sum(axis=0) / np.maximum(n, 1), NAN)
    squares = np.where(there, (values_TE - mean) ** 2, 0.0).sum(axis=0)
    sd = np.where(n > ddof, np.sqrt(squares / np.maximum(n - ddof, 1)), NAN)
    return n, mean, sd


def rounding(*samples: NDArray[np.float64]) -> float:
    """Return the spread that rounding alone can give to values of this size and precision."""
    values = np.concatenate(samples)
    with np.errstate(over="ignore"):
        single = (values == values.astype(np.float32)).all() and not (values == np.round(values)).all()
    precision = np.finfo(np.float32 if single else np.float64).eps
    return 8.0 * float(precision) * float(np.abs(values).max(initial=0.0))


def paired_difference(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Difference:
    """Compare two samples value by value; a pair with a missing side is left out."""
    from scipy import stats

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    there = np.isfinite(a) & np.isfinite(b)
    a, b = a[there], b[there]
    n, sample = len(a), a - b
    mean = float(sample.mean()) if n else NAN
    found = Difference("paired", n, n, np.size(there) - n, mean, effect_name="d_z")
    if n < 2:
        return found
    sd = float(sample.std(ddof=1))
    if sd <= rounding(a, b):
        return attrs.evolve(found, low=mean, high=mean, df=n - 1, constant=True)
    return attrs.evolve(found, **tested(stats.ttest_1samp, (sample, 0.0), confidence), effect=mean / sd)


def welch_difference(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Difference:
    """Compare two independent samples without assuming equal variances (Welch)."""
    from scipy import stats

    a, b = finite(first), finite(second)
    n, m = len(a), len(b)
    mean = (float(a.mean()) if n else NAN) - (float(b.mean()) if m else NAN)
    found = Difference("Welch", n, m, np.size(first) + np.size(second) - n - m, mean, effect_name="g")
    if n < 2 or m < 2:
        return found
    df, limit = n + m - 2, rounding(a, b)
    if a.std(ddof=1) <= limit and b.std(ddof=1) <= limit:
        return attrs.evolve(found, low=mean, high=mean, df=df, constant=True)
    pooled = math.sqrt(((n - 1) * a.var(ddof=1) + (m - 1) * b.var(ddof=1)) / df)
    # The exact small-sample factor of Hedges (1981).
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return attrs.evolve(
        found,
        **tested(lambda *pair: stats.ttest_ind(*pair, equal_var=False), (a, b), confidence),
        effect=correction * mean / pooled,
    )


def tested(test: Any, samples: tuple[Any, ...], confidence: float) -> dict[str, Any]:
    """Return t, degrees of freedom, p and interval of one of scipy's t tests."""
    with warnings.catch_warnings():
        # One of two samples may be constant but for rounding; the other then gives the test its spread.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        found = test(*samples)
        low, high = found.confidence_interval(confidence)
    numbers = {"t": found.statistic, "df": found.df, "p": found.pvalue, "low": low, "high": high}
    return {name: float(value) for name, value in numbers.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979); NaN counts as no test."""
    tests = sorted((p, index) for index, p in enumerate(p_values) if math.isfinite(p))
    adjusted = [NAN] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(tests):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        adjusted[index] = highest
    return adjusted
