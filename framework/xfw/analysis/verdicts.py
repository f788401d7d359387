"""Judge measured trials against a published number: reproduced, missed, or no data.

There is one rule: what is measured lies in an interval. A kind of target says what is measured and which interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis import statistics
from xfw.analysis.matching import Published, Sample
from xfw.analysis.tables import Rounded, decimals_of
from xfw.analysis.targets import Suite, Target, Tolerance
from xfw.terminal import counted

__all__ = ["MISSED", "NO_DATA", "REPRODUCED", "Judgement", "SuiteJudgement", "judge", "judge_suite"]

REPRODUCED, MISSED, NO_DATA = "reproduced", "missed", "no data"
MEMBER = 0.005
"""How near a value must lie to one of ``one_of``: half of the second decimal of a percentage."""

ROUNDING = 1e-9
"""A share such as 0.95 of 20 is 19, whatever its binary fraction."""

Values = NDArray[np.float64]


@attrs.frozen(eq=False)
class Judgement:
    """What came of one target: the verdict, and the numbers it rests on (NaN where there is none).

    ``n`` counts the values of every group of trials; ``found`` says in words what a mean does not.
    """

    published: Published
    verdict: str
    n: tuple[int, ...]
    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    difference: float = math.nan
    tolerance: float = math.nan
    p: Mapping[str, float] = attrs.field(factory=dict)
    found: str = ""
    notes: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()

    @property
    def target(self) -> Target:
        """Return the target."""
        return self.published.target


@attrs.frozen
class SuiteJudgement:
    """What came of a suite: how many of its targets have data, and how many of those are reproduced."""

    suite: Suite
    targets: int
    judged: int
    reproduced: int

    @property
    def verdict(self) -> str:
        """Return the verdict of the suite."""
        if not self.judged:
            return NO_DATA
        return REPRODUCED if self.reproduced >= self.suite.share * self.judged - ROUNDING else MISSED


def judge_suite(suite: Suite, judgements: Sequence[Judgement]) -> SuiteJudgement:
    """Return the verdict of a suite over the judgements of all targets."""
    verdicts = [judgement.verdict for judgement in judgements if suite.takes(judgement.target)]
    return SuiteJudgement(suite, len(verdicts), len(verdicts) - verdicts.count(NO_DATA), verdicts.count(REPRODUCED))


@attrs.frozen(eq=False)
class Asked:
    """What a target asks: numbers that must all lie in an interval, and what a reader is told of them.

    The difference is that from ``centre`` where there is one, else how far the farthest number lies outside; a kind
    may give its own. ``too_few`` says why these values prove nothing, ``wrong`` what is wrong beside the interval.
    """

    numbers: Values
    low: float = -math.inf
    high: float = math.inf
    centre: float | None = None
    tolerance: float = math.nan
    difference: float | None = None
    p: Mapping[str, float] = attrs.field(factory=dict)
    found: str = ""
    too_few: str = ""
    wrong: str = ""

    def outside(self) -> float:
        """Return how far the farthest number lies outside the interval, negative below it."""
        apart = np.where(self.numbers < self.low, self.numbers - self.low, np.maximum(self.numbers - self.high, 0.0))
        return float(apart[np.argmax(np.abs(apart))])

    def apart(self) -> float:
        """Return the difference that a reader is shown."""
        if self.difference is not None:
            return self.difference
        if self.centre is None:
            return self.outside()
        apart = self.numbers - self.centre
        return float(apart[np.argmax(np.abs(apart))])


def judge(published: Published, samples: Sequence[Sample]) -> Judgement:
    """Judge one target by the values of each group of its trials."""
    target, n = published.target, tuple(len(sample.values) for sample in samples)
    runs = tuple(dict.fromkeys(run for sample in samples for run in sample.runs))
    missing = sum(sample.missing for sample in samples)
    if min(n) < max(1, target.min_n):
        lacking = f"{counted(missing, 'trial')} without a value" if missing else ""
        note = f"needs {target.min_n} values, has {min(n)}" if min(n) else lacking
        return Judgement(published, NO_DATA, n, notes=tuple(filter(None, [note])), runs=runs)
    asked = KINDS[target.kind](target, samples)
    made = Judgement(published, NO_DATA, n, runs=runs)
    if target.kind != "order":
        found = statistics.summarise(samples[0].values, ddof=target.ddof)
        made = attrs.evolve(made, mean=found.mean, sd=found.sd, low=found.low, high=found.high)
    if asked.too_few or not np.isfinite(asked.numbers).all():
        return attrs.evolve(made, notes=(asked.too_few or "an SD needs two values",))
    if target.of == "sd":
        made = attrs.evolve(made, low=math.nan, high=math.nan)
    wanted = target.n or len(target.values or ())
    notes = (
        asked.wrong,
        f"n = {min(n)}, published {wanted}" if min(n) < wanted else "",
        f"{counted(missing, 'trial')} without a value left out" if missing else "",
        target.note,
    )
    return attrs.evolve(
        made,
        verdict=MISSED if asked.outside() or asked.wrong else REPRODUCED,
        difference=asked.apart(),
        tolerance=asked.tolerance,
        p=asked.p,
        found=asked.found,
        notes=tuple(filter(None, notes)),
    )


# --- the kinds -------------------------------------------------------------------------------------------


def mean_of(target: Target, samples: Sequence[Sample]) -> Asked:
    """Ask for a mean near the published one, and for few trials far from it."""
    values, value, tolerance = samples[0].values, target.value, target.tolerance
    assert value is not None
    assert tolerance is not None
    limit = width(target, tolerance, values)
    if not math.isfinite(limit):
        return Asked(values, too_few="an SD needs two values")
    wrong = ""
    if target.sd is not None and tolerance.factor is not None:
        far = joined(tolerance, tolerance.far * target.sd)
        escaped = int((np.abs(values - value) > far).sum())
        if escaped > tolerance.escapes * len(values) + ROUNDING:
            wrong = f"{escaped} of {counted(len(values), 'trial')} more than {far:.3g} off"
    return Asked(np.array([values.mean()]), value - limit, value + limit, value, limit, wrong=wrong)


def width(target: Target, tolerance: Tolerance, values: Values) -> float:
    """Return how far the mean of some values may lie from the published one."""
    assert target.value is not None
    if tolerance.single is not None and len(values) == 1:
        return joined(tolerance, tolerance.single * (target.sd or 0.0))
    if tolerance.absolute is not None:
        return tolerance.absolute
    if tolerance.relative is not None:
        return tolerance.relative * abs(target.value)
    assert tolerance.factor is not None
    return joined(tolerance, tolerance.factor * standard_error(target, tolerance.spread, values))


def joined(tolerance: Tolerance, scaled: float) -> float:
    """Return the floor of a tolerance and what depends on the spread, as one width."""
    return max(tolerance.floor, scaled) if tolerance.combine == "max" else tolerance.floor + scaled


def standard_error(target: Target, spread: str, values: Values) -> float:
    """Return the standard error of own mean minus published mean; one value has the published SD.

    An outlier of our own must not widen what it is judged by: our spread is the smaller of SD and scaled median
    absolute deviation, and no more than the published one.
    """
    assert target.n is not None
    n, theirs = len(values), math.nan if target.sd is None else target.sd
    ours = (theirs, statistics.robust_sd(values), float(values.std(ddof=target.ddof))) if n > 1 else (theirs,)
    own = min((spread for spread in ours if math.isfinite(spread)), default=math.nan)
    first = own if spread == "own" else theirs
    second = theirs if spread == "published" else own
    return math.sqrt(first**2 / target.n + second**2 / n)


def exact(target: Target, samples: Sequence[Sample]) -> Asked:
    """Ask for one value in every trial."""
    assert target.value is not None
    limit = (target.tolerance.absolute if target.tolerance else None) or 0.0
    return Asked(samples[0].values, target.value - limit, target.value + limit, target.value, limit)


def between(target: Target, samples: Sequence[Sample]) -> Asked:
    """Ask for mean, SD or every trial between two ends."""
    values = samples[0].values
    low = -math.inf if target.low is None else target.low
    high = math.inf if target.high is None else target.high
    if target.of == "each":
        return Asked(values, low, high, found=f"{values.min():.5g} to {values.max():.5g}")
    if target.of == "mean":
        return Asked(np.array([values.mean()]), low, high)
    sd = float(values.std(ddof=target.ddof)) if len(values) > target.ddof else math.nan
    return Asked(np.array([sd]), low, high, found=f"SD {sd:.3g}")


def share(target: Target, samples: Sequence[Sample]) -> Asked:
    """Ask for the share of the trials whose values lie where they should."""
    values = samples[0].values
    inside = np.ones(len(values), np.bool_)
    if target.low is not None:
        inside &= values >= target.low
    if target.high is not None:
        inside &= values <= target.high
    if target.one_of is not None:
        given = target.tolerance.absolute if target.tolerance else None
        near = MEMBER if given is None else given
        inside &= (np.abs(values[:, None] - np.array(target.one_of)[None, :]) <= near).any(axis=1)
    found = f"{int(inside.sum())} of {len(values)} ({inside.mean():.1%})"
    most = 1.0 if target.at_most is None else target.at_most
    ends = (target.at_least or 0.0) - ROUNDING, most + ROUNDING
    return Asked(np.array([inside.mean()]), *ends, difference=math.nan, found=found)


def order(target: Target, samples: Sequence[Sample]) -> Asked:
    """Ask for means in an order; the difference is the smallest distance, negative where it is wrong."""
    means = np.array([sample.values.mean() for sample in samples])
    gaps = {
        "decreasing": means[:-1] - means[1:],
        "first_largest": means[0] - means[1:],
        "first_smallest": means[1:] - means[0],
    }[target.rule]
    digits = decimals_of(min(1.0, abs(float(gaps.min()))))
    found = ", ".join(format(Rounded(mean, digits), "") for mean in means)
    return Asked(gaps, math.ulp(0.0), difference=float(gaps.min()), found=found)


def distribution(target: Target, samples: Sequence[Sample]) -> Asked:
    """Ask for p-values of Kolmogorov and Smirnov's test, and of Fisher's on the trials above a threshold."""
    from scipy import stats

    values, wanted = samples[0].values, np.array(target.values, np.float64)
    p = {"ks": float(stats.ks_2samp(values, wanted).pvalue)}
    if target.above is not None:
        above = [int((side > target.above).sum()) for side in (values, wanted)]
        p["fisher"] = float(
            stats.fisher_exact([[above[0], len(values) - above[0]], [above[1], len(wanted) - above[1]]])[1]
        )
    smallest = 2 / math.comb(len(values) + len(wanted), len(values))
    return Asked(
        np.array(list(p.values())),
        math.nextafter(target.alpha, 1.0),
        difference=float(values.mean() - wanted.mean()),
        p=p,
        found=", ".join(f"p({name}) = {value:.3g}" for name, value in p.items()),
        too_few=f"needs more than {counted(len(values), 'trial')} to be missed" if smallest > target.alpha else "",
    )


KINDS: Mapping[str, Callable[[Target, Sequence[Sample]], Asked]] = {
    "mean": mean_of,
    "exact": exact,
    "range": between,
    "share": share,
    "order": order,
    "distribution": distribution,
}
