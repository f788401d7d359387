"""Summaries and differences of samples, with the number of values they rest on.

Values that are not finite (a trial that diverged, or recorded nothing) are left out and counted.
``sd`` is computed with divisor n - ``ddof``; standard errors and intervals always rest on n - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Difference",
    "Summary",
    "finite",
    "holm",
    "mean_interval",
    "paired_difference",
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
    (difference over the pooled SD, corrected for small samples); ``p`` is two-sided.
    """

    kind: str
    n_first: int
    n_second: int
    missing: int
    mean: float
    low: float
    high: float
    confidence: float
    t: float
    df: float
    p: float
    effect: float
    effect_name: str


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Return the finite values as float64."""
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def summarise(values: ArrayLike, *, confidence: float = 0.95, ddof: int = 1) -> Summary:
    """Describe a sample; what cannot be computed from so few values is NaN."""
    sample = finite(values)
    n = len(sample)
    mean = float(sample.mean()) if n else NAN
    sem = _sd(sample, 1) / math.sqrt(n) if n else NAN
    half = _half_width(sem, n - 1, confidence)
    return Summary(
        n=n,
        missing=np.size(values) - n,
        mean=mean,
        sd=_sd(sample, ddof),
        ddof=ddof,
        sem=sem,
        low=mean - half,
        high=mean + half,
        confidence=confidence,
        minimum=float(sample.min()) if n else NAN,
        maximum=float(sample.max()) if n else NAN,
    )


def _sd(sample: NDArray[np.float64], ddof: int) -> float:
    return float(sample.std(ddof=ddof)) if len(sample) > ddof else NAN


def _half_width(error: float, df: float, confidence: float) -> float:
    from scipy import stats

    if not (df > 0 and math.isfinite(error)):
        return NAN
    return float(stats.t.ppf(0.5 + confidence / 2, df)) * error


def mean_interval(
    values_TE: ArrayLike, *, confidence: float = 0.95
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return, along the first axis, the number of values, the mean and the half width of its t interval."""
    from scipy import stats

    values = np.asarray(values_TE, dtype=np.float64)
    n, mean, sd = moments(values)
    quantile = np.full(n.shape, NAN)
    quantile[n > 1] = stats.t.ppf(0.5 + confidence / 2, n[n > 1] - 1)
    return n, mean, quantile * sd / np.sqrt(np.maximum(n, 1))


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


def paired_difference(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Difference:
    """Compare two samples value by value; a pair with a missing side is left out."""
    all_pairs = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    sample = finite(all_pairs)
    n = len(sample)
    mean, sd = (float(sample.mean()) if n else NAN), _sd(sample, 1)
    error = sd / math.sqrt(n) if n else NAN
    half = _half_width(error, n - 1, confidence)
    t = mean / error if error > 0 else NAN
    return Difference(
        kind="paired",
        n_first=n,
        n_second=n,
        missing=np.size(all_pairs) - n,
        mean=mean,
        low=mean - half,
        high=mean + half,
        confidence=confidence,
        t=t,
        df=float(n - 1),
        p=_two_sided(t, n - 1),
        effect=mean / sd if sd > 0 else NAN,
        effect_name="d_z",
    )


def welch_difference(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Difference:
    """Compare two independent samples without assuming equal variances (Welch)."""
    a, b = finite(first), finite(second)
    mean = (float(a.mean()) if len(a) else NAN) - (float(b.mean()) if len(b) else NAN)
    error, df = _welch_error(a, b)
    half = _half_width(error, df, confidence)
    t = mean / error if error > 0 else NAN
    return Difference(
        kind="Welch",
        n_first=len(a),
        n_second=len(b),
        missing=np.size(first) + np.size(second) - len(a) - len(b),
        mean=mean,
        low=mean - half,
        high=mean + half,
        confidence=confidence,
        t=t,
        df=df,
        p=_two_sided(t, df),
        effect=_hedges_g(mean, a, b),
        effect_name="g",
    )


def _welch_error(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """Return the standard error of the difference and Satterthwaite's degrees of freedom."""
    if len(a) < 2 or len(b) < 2:
        return NAN, NAN
    parts = [float(each.var(ddof=1)) / len(each) for each in (a, b)]
    total = sum(parts)
    if total == 0:
        return 0.0, float(len(a) + len(b) - 2)
    df = total**2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (a, b), strict=True))
    return math.sqrt(total), df


def _hedges_g(mean: float, a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Hedges' g: Cohen's d with the pooled SD times the exact small-sample factor (Hedges 1981)."""
    if len(a) < 2 or len(b) < 2:
        return NAN
    df = len(a) + len(b) - 2
    pooled = math.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / df)
    if pooled == 0:
        return NAN
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return correction * mean / pooled


def _two_sided(t: float, df: float) -> float:
    from scipy import stats

    return float(2 * stats.t.sf(abs(t), df)) if math.isfinite(t) and df > 0 else NAN


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979); NaN counts as no test."""
    tests = sorted((p, index) for index, p in enumerate(p_values) if math.isfinite(p))
    adjusted = [NAN] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(tests):
        highest = max(highest, min(1.0, (len(tests) - rank) * p))
        adjusted[index] = highest
    return adjusted
