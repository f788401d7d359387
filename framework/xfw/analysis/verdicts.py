"""Judge measured trials against a published number: reproduced, missed, or no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis import statistics
from xfw.analysis.matching import Published, Sample
from xfw.analysis.tables import decimals_of
from xfw.analysis.targets import Suite, Target, Tolerance

__all__ = ["MISSED", "NO_DATA", "REPRODUCED", "Judgement", "SuiteJudgement", "judge", "judge_suite", "width"]

REPRODUCED, MISSED, NO_DATA = "reproduced", "missed", "no data"
MEMBER = 0.005
"""How near a value must lie to one of ``one_of``: half of the second decimal of a percentage."""


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
        # A share such as 0.95 of 20 is 19, whatever its binary fraction.
        return REPRODUCED if self.reproduced >= self.suite.share * self.judged - 1e-9 else MISSED


def judge_suite(suite: Suite, judgements: Sequence[Judgement]) -> SuiteJudgement:
    """Return the verdict of a suite over the judgements of all targets."""
    mine = [each for each in judgements if suite.takes(each.target)]
    judged = [each for each in mine if each.verdict != NO_DATA]
    reproduced = sum(each.verdict == REPRODUCED for each in judged)
    return SuiteJudgement(suite, len(mine), len(judged), reproduced)


def judge(published: Published, samples: Sequence[Sample]) -> Judgement:
    """Judge one target by the values of each group of its trials."""
    target, n = published.target, tuple(len(sample.values) for sample in samples)
    runs = tuple(dict.fromkeys(run for sample in samples for run in sample.runs))
    if min(n) < max(1, target.min_n):
        return Judgement(published, NO_DATA, n, notes=without_data(target, samples), runs=runs)
    made = JUDGES[target.kind](published, samples)
    notes = made.notes if made.verdict == NO_DATA else (*made.notes, *remarks(target, samples))
    return attrs.evolve(made, notes=notes, runs=runs)


def without_data(target: Target, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return why a target cannot be judged."""
    found = min(len(sample.values) for sample in samples)
    missing = sum(sample.missing for sample in samples)
    if found:
        return (f"needs {target.min_n} values, has {found}",)
    return (f"{trials(missing)} without a value",) if missing else ()


def remarks(target: Target, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return what a reader has to know of the sample: fewer values than published, values left out."""
    found = []
    n, wanted = min(len(sample.values) for sample in samples), target.n or len(target.values or ())
    if n < wanted:
        found.append(f"n = {n}, published {wanted}")
    missing = sum(sample.missing for sample in samples)
    if missing:
        found.append(f"{trials(missing)} without a value left out")
    return (*found, target.note) if target.note else tuple(found)


def trials(count: int) -> str:
    """Return a number of trials in words."""
    return f"{count} trial" if count == 1 else f"{count} trials"


def described(published: Published, samples: Sequence[Sample], good: bool) -> Judgement:
    """Return a judgement with the mean and interval of the first group."""
    found = statistics.summarise(samples[0].values, ddof=published.target.ddof)
    return Judgement(
        published,
        REPRODUCED if good else MISSED,
        tuple(len(sample.values) for sample in samples),
        mean=found.mean,
        sd=found.sd,
        low=found.low,
        high=found.high,
    )


def judge_mean(published: Published, samples: Sequence[Sample]) -> Judgement:
    """Judge the mean against a published mean, and by the share of trials that lie far from it."""
    target, values = published.target, samples[0].values
    assert target.value is not None
    assert target.tolerance is not None
    made = described(published, samples, False)
    difference, limit = made.mean - target.value, width(target, target.tolerance, values)
    if not math.isfinite(limit):
        return attrs.evolve(made, verdict=NO_DATA, notes=("an SD needs two values",))
    known = target.sd is not None and target.tolerance.factor is not None
    escape = joined(target.tolerance, target.tolerance.far * (target.sd or 0.0)) if known else math.inf
    escaped = int((np.abs(values - target.value) > escape).sum())
    many = escaped > target.tolerance.escapes * len(values) + 1e-9
    notes = (f"{escaped} of {trials(len(values))} more than {escape:.3g} off",) if many else ()
    verdict = REPRODUCED if abs(difference) <= limit and not many else MISSED
    return attrs.evolve(made, verdict=verdict, difference=difference, tolerance=limit, notes=notes)


def width(target: Target, tolerance: Tolerance, values: NDArray[np.float64]) -> float:
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


def standard_error(target: Target, spread: str, values: NDArray[np.float64]) -> float:
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


def judge_exact(published: Published, samples: Sequence[Sample]) -> Judgement:
    """Judge every trial against one value; the difference is the largest."""
    target, values = published.target, samples[0].values
    assert target.value is not None
    limit = (target.tolerance.absolute if target.tolerance else None) or 0.0
    differences = values - target.value
    largest = float(differences[np.argmax(np.abs(differences))])
    made = described(published, samples, abs(largest) <= limit)
    return attrs.evolve(made, difference=largest, tolerance=limit)


def judge_range(published: Published, samples: Sequence[Sample]) -> Judgement:
    """Judge mean, SD or every trial against two ends; the difference is the largest way outside."""
    target, values = published.target, samples[0].values
    made = described(published, samples, False)
    tested = {"mean": np.array([made.mean]), "sd": np.array([made.sd]), "each": values}[target.of]
    if not np.isfinite(tested).all():
        return attrs.evolve(made, verdict=NO_DATA, notes=("an SD needs two values",))
    low = -math.inf if target.low is None else target.low
    high = math.inf if target.high is None else target.high
    outside = np.where(tested < low, tested - low, np.where(tested > high, tested - high, 0.0))
    largest = float(outside[np.argmax(np.abs(outside))])
    found = ""
    if target.of == "each":
        found = f"{number(values.min())} to {number(values.max())}"
    elif target.of == "sd":
        found = f"SD {made.sd:.3g}"
        made = attrs.evolve(made, low=math.nan, high=math.nan)
    return attrs.evolve(made, verdict=MISSED if largest else REPRODUCED, difference=largest, found=found)


def judge_share(published: Published, samples: Sequence[Sample]) -> Judgement:
    """Judge the share of the trials whose values lie where they should."""
    target, values = published.target, samples[0].values
    inside = np.ones(len(values), np.bool_)
    if target.low is not None:
        inside &= values >= target.low
    if target.high is not None:
        inside &= values <= target.high
    if target.one_of is not None:
        given = target.tolerance.absolute if target.tolerance else None
        near = MEMBER if given is None else given
        inside &= (np.abs(values[:, None] - np.array(target.one_of)[None, :]) <= near).any(axis=1)
    count, share = int(inside.sum()), float(inside.mean())
    least, most = target.at_least or 0.0, 1.0 if target.at_most is None else target.at_most
    good = least - 1e-9 <= share <= most + 1e-9
    return attrs.evolve(described(published, samples, good), found=f"{count} of {len(values)} ({share:.1%})")


def judge_order(published: Published, samples: Sequence[Sample]) -> Judgement:
    """Judge the order of the groups' means; the difference is the smallest distance, negative where it is wrong."""
    target = published.target
    means = np.array([sample.values.mean() for sample in samples])
    gaps = {
        "decreasing": means[:-1] - means[1:],
        "first_largest": means[0] - means[1:],
        "first_smallest": means[1:] - means[0],
    }[target.rule]
    smallest = float(gaps.min())
    digits = min(9, decimals_of(min(1.0, abs(smallest))))
    found = ", ".join(f"{mean:.{digits}f}" for mean in means)
    n = tuple(len(sample.values) for sample in samples)
    return Judgement(published, REPRODUCED if smallest > 0 else MISSED, n, difference=smallest, found=found)


def judge_distribution(published: Published, samples: Sequence[Sample]) -> Judgement:
    """Judge by the Kolmogorov-Smirnov test, and by Fisher's exact test of the trials above a threshold."""
    from scipy import stats

    target, values = published.target, samples[0].values
    wanted = np.array(target.values, np.float64)
    if 2 / math.comb(len(values) + len(wanted), len(values)) > target.alpha:
        return attrs.evolve(
            described(published, samples, False), verdict=NO_DATA, notes=(f"{len(values)} values cannot miss",)
        )
    p = {"ks": float(stats.ks_2samp(values, wanted).pvalue)}
    if target.above is not None:
        counts = [[int((each > target.above).sum()), int((each <= target.above).sum())] for each in (values, wanted)]
        p["fisher"] = float(stats.fisher_exact(counts)[1])
    found = ", ".join(f"p({name}) = {value:.3g}" for name, value in p.items())
    made = described(published, samples, all(value > target.alpha for value in p.values()))
    return attrs.evolve(made, p=p, found=found, difference=made.mean - float(wanted.mean()))


def number(value: float) -> str:
    """Return a number with five significant digits."""
    return f"{value:.5g}"


JUDGES: Mapping[str, Callable[[Published, Sequence[Sample]], Judgement]] = {
    "mean": judge_mean,
    "exact": judge_exact,
    "range": judge_range,
    "share": judge_share,
    "order": judge_order,
    "distribution": judge_distribution,
}
