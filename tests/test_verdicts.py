"""How targets are judged: against formulas worked out by hand, and against tests done by enumeration."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xfw
from xfw.analysis.matching import Published, Sample
from xfw.analysis.targets import Suite, Target
from xfw.analysis.verdicts import Judgement, judge, judge_suite
from xfw.analysis.verification import line

BEST = xfw.Metric("best", "best", "1", lambda results: results.array("best").astype(float))


def verdict(values: Sequence[float] | Sequence[Sequence[float]], missing: int = 0, /, **keys: Any) -> Judgement:
    """Judge values (or groups of them) by a target with these keys."""
    from xfw.analysis.targets import converter

    groups = values if values and isinstance(values[0], list | tuple) else [values]
    target = converter().structure({"name": "a", "metric": "best", **keys}, Target)
    samples = [Sample(np.array(group, float), missing, ("run",)) for group in groups]
    return judge(Published(target, BEST, ((),)), samples)


TEN = [91.0, 91.2, 91.4, 90.9, 91.1, 91.3, 91.0, 91.5, 90.8, 91.3]


def scaled_mad(values: Sequence[float]) -> float:
    middle = statistics.median(values)
    return 1.4826 * statistics.median([abs(value - middle) for value in values])


def test_tolerance_with_both_spreads_is_the_formula_of_psa() -> None:
    # 0.10 + 3 sqrt(s_r^2 / 10 + s_o^2 / n_o), population SDs; s_o is the smallest of own SD, own scaled MAD and s_r
    mean = sum(TEN) / 10
    own = math.sqrt(sum((value - mean) ** 2 for value in TEN) / 10)
    tolerance = {"floor": 0.10, "factor": 3.0, "spread": "both"}
    for sd in (0.1, 0.24, 2.0):
        limit = 0.10 + 3 * math.sqrt(sd**2 / 10 + min(own, scaled_mad(TEN), sd) ** 2 / 10)
        good = verdict(TEN, value=mean + limit - 1e-6, sd=sd, n=10, ddof=0, tolerance={**tolerance, "far": 99})
        bad = verdict(TEN, value=mean + limit + 1e-6, sd=sd, n=10, ddof=0, tolerance={**tolerance, "far": 99})
        assert (good.verdict, bad.verdict) == ("reproduced", "missed")
        assert good.tolerance == pytest.approx(limit, rel=1e-12)
        assert good.difference == pytest.approx(-limit + 1e-6, abs=1e-9)


# The cell `18*18 hidden` of psa: published 10.11 ± 0.47, n = 10; one trial of our ten reached 77 %.
PSA = {"value": 10.11, "sd": 0.47, "n": 10, "ddof": 0, "tolerance": {"floor": 0.10, "factor": 3.0}}
STUCK = [10.1, 9.8, 10.3, 10.1, 9.9, 10.4, 10.2, 9.7, 10.1]


@pytest.mark.parametrize("outlier", [77.0, 30.0, 14.5, -40.0])
def test_an_outlier_of_our_own_does_not_widen_its_tolerance(outlier: float) -> None:
    found = verdict([*STUCK, outlier], **PSA)
    assert found.tolerance <= 0.10 + 3 * 0.47 * math.sqrt(2 / 10)
    assert found.verdict == "missed"
    assert "1 of 10 trials more than 2.92 off" in found.notes
    assert verdict([*STUCK, 10.0], **PSA).verdict == "reproduced"


def test_outliers_on_both_sides_escape_though_the_mean_is_right() -> None:
    found = verdict([*STUCK[:-1], 30.1, -9.9], **PSA)
    assert abs(found.difference) < found.tolerance
    assert (found.verdict, found.notes) == ("missed", ("2 of 10 trials more than 2.92 off",))


def test_a_mean_that_is_off_is_missed_however_wide_our_own_spread() -> None:
    wide = [4.0, 28.0, 6.0, 26.0, 5.0, 27.0, 7.0, 25.0, 16.0, 16.0]
    assert verdict(wide, **PSA).verdict == "missed"
    assert verdict([value + 0.8 for value in [*STUCK, 10.0]], **PSA).verdict == "missed"


def test_a_share_of_escapes_can_be_allowed() -> None:
    values = [10.1] * 39 + [13.2]
    assert verdict(values, **PSA).verdict == "reproduced"
    assert verdict([*values[:-3], 13.2, 13.2, 13.2], **PSA).verdict == "missed"
    loose = {**PSA, "tolerance": {"floor": 0.5, "factor": 3.0, "far": 2.0, "escapes": 0.2}}
    assert verdict([*[10.1] * 8, 11.7, 11.7], **loose).verdict == "reproduced"


@pytest.mark.parametrize("n", [3, 10, 15])
def test_a_published_sample_passes_its_own_numbers_whatever_it_looks_like(n: int) -> None:
    """With up to 37 values none lies six SDs from their mean, and the mean is the mean."""
    for sample in ([0.0] * (n - 1) + [1e3], list(range(n)), [-5.0] + [7.0] * (n - 1)):
        mean, sd = sum(sample) / n, statistics.pstdev(sample)
        keys = {"value": mean, "sd": sd, "n": n, "ddof": 0, "tolerance": {"factor": 3.0}}
        assert verdict([float(value) for value in sample], **keys).verdict == "reproduced"


def test_too_few_values_for_any_test_to_miss_are_no_data() -> None:
    assert verdict([0.0, 1.0], kind="distribution", values=[50.0 + k for k in range(10)]).verdict == "no data"
    assert verdict([0.0, 1.0, 2.0], kind="distribution", values=[50.0 + k for k in range(10)]).verdict == "missed"


def test_tolerance_with_the_published_spread_is_the_formula_of_neuronal_decay() -> None:
    # max(f, 3.5 s sqrt(1/15 + 1/n))
    tolerance = {"floor": 0.15, "factor": 3.5, "spread": "published", "combine": "max", "single": 4.0}
    found = verdict(TEN[:5], value=91.0, sd=0.478, n=15, tolerance=tolerance)
    assert found.tolerance == pytest.approx(3.5 * 0.478 * math.sqrt(1 / 15 + 1 / 5), rel=1e-12)
    assert verdict(TEN, value=91.0, sd=0.001, n=15, tolerance=tolerance).tolerance == 0.15
    assert verdict([91.0], value=91.0, sd=0.5, n=15, tolerance=tolerance).tolerance == 2.0


def test_the_own_spread_can_stand_for_both() -> None:
    own = min(scaled_mad(TEN), statistics.stdev(TEN))
    found = verdict(TEN, value=91.0, n=15, tolerance={"factor": 4.0, "spread": "own"})
    assert found.tolerance == pytest.approx(4 * own * math.sqrt(1 / 15 + 1 / 10), rel=1e-12)
    outlier = verdict([*TEN, 60.0], value=91.0, n=15, tolerance={"factor": 4.0, "spread": "own"})
    assert outlier.verdict == "missed"
    assert outlier.tolerance < 0.6
    alone = verdict(TEN[:1], value=91.0, n=15, tolerance={"factor": 4.0, "spread": "own"})
    assert (alone.verdict, alone.notes) == ("no data", ("an SD needs two values",))


def test_one_value_has_the_published_spread() -> None:
    found = verdict([5.0], value=5.0, sd=2.0, n=4, tolerance={"factor": 1.0})
    assert found.tolerance == pytest.approx(math.sqrt(2.0**2 / 4 + 2.0**2), rel=1e-12)


@pytest.mark.parametrize(("tolerance", "limit"), [({"absolute": 0.06}, 0.06), ({"relative": 0.1}, 5.0)])
def test_plain_tolerances(tolerance: dict[str, float], limit: float) -> None:
    assert verdict([50.0, 50.0], value=50.0, tolerance=tolerance).tolerance == limit


def test_the_interval_of_the_mean_has_the_quantile_of_student() -> None:
    # t(0.975; 9) = 2.262157 (table)
    found = verdict(TEN, value=91, tolerance={"absolute": 1})
    mean = sum(TEN) / 10
    sd = math.sqrt(sum((value - mean) ** 2 for value in TEN) / 9)
    assert found.high - mean == pytest.approx(2.262157 * sd / math.sqrt(10), rel=1e-6)
    assert mean - found.low == pytest.approx(found.high - mean, rel=1e-9)


def test_exact_looks_at_every_trial() -> None:
    keys = {"kind": "exact", "value": 2529, "tolerance": {"absolute": 0.5}}
    assert verdict([2529, 2529.4], **keys).verdict == "reproduced"
    found = verdict([2529, 2528.0, 2529.9], **keys)
    assert (found.verdict, found.difference) == ("missed", -1.0)


@pytest.mark.parametrize(
    ("of", "values", "expected"),
    [
        ("mean", [1.0, 9.0], "reproduced"),
        ("each", [1.0, 9.0], "missed"),
        ("each", [4.0, 6.0], "reproduced"),
        ("sd", [0.0, 7.0], "reproduced"),
        ("sd", [5.0, 5.1], "missed"),
        ("sd", [5.0], "no data"),
    ],
)
def test_ranges_of_the_mean_of_each_trial_and_of_the_spread(of: str, values: list[float], expected: str) -> None:
    assert verdict(values, kind="range", low=4.0, high=6.0, of=of).verdict == expected


def test_an_open_range_has_one_end() -> None:
    assert verdict([1e9], kind="range", low=4.0).verdict == "reproduced"
    assert verdict([3.0], kind="range", low=4.0).difference == -1.0


def test_share_of_trials_below_a_limit() -> None:
    values = [9.8] * 28 + [40.0, 50.0]
    keys = {"kind": "share", "high": 11.02}
    assert verdict(values, at_least=28 / 30, **keys).verdict == "reproduced"
    assert verdict([*values, 60.0], at_least=28 / 30, **keys).verdict == "missed"
    assert verdict(values, at_most=0.9, **keys).verdict == "missed"


def test_a_tolerance_of_zero_asks_for_the_values_themselves() -> None:
    keys = {"kind": "share", "one_of": [9.87], "at_least": 0.5, "tolerance": {"absolute": 0.0}}
    assert verdict([9.87, 9.87, 9.874], **keys).found == "2 of 3 (66.7%)"


def test_share_of_trials_that_are_one_of_some_values() -> None:
    keys = {"kind": "share", "one_of": [9.87, 11.02], "at_least": 0.95}
    assert verdict([9.87, 11.02, 9.8651], **keys).verdict == "reproduced"
    assert verdict([9.87, 11.02, 9.86], **keys).verdict == "missed"
    assert verdict([9.87, 11.02, 9.86], tolerance={"absolute": 0.02}, **keys).verdict == "reproduced"


@pytest.mark.parametrize(
    ("rule", "groups", "expected"),
    [
        ("decreasing", [[3, 3], [2, 2], [1, 1]], "reproduced"),
        ("decreasing", [[3, 3], [1, 1], [2, 2]], "missed"),
        ("decreasing", [[3], [3]], "missed"),
        ("first_largest", [[3], [1], [2]], "reproduced"),
        ("first_largest", [[2], [1], [3]], "missed"),
        ("first_smallest", [[1], [3], [2]], "reproduced"),
        ("first_smallest", [[1], [0], [2]], "missed"),
        ("decreasing", [[3], [], [1]], "no data"),
    ],
)
def test_orders_of_means(rule: str, groups: list[list[float]], expected: str) -> None:
    found = verdict(groups, kind="order", rule=rule, wheres=[{}] * len(groups))
    assert found.verdict == expected
    assert found.n == tuple(len(group) for group in groups)


def ks_by_enumeration(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the exact two-sided p of Kolmogorov and Smirnov, by every way of dealing the pooled values."""

    def distance(a: Sequence[float], b: Sequence[float]) -> float:
        return max(abs(sum(x <= t for x in a) / len(a) - sum(x <= t for x in b) / len(b)) for t in (*a, *b))

    pooled, observed = [*first, *second], distance(first, second)
    deals = list(itertools.combinations(range(len(pooled)), len(first)))
    extreme = 0
    for deal in deals:
        mine = [pooled[place] for place in deal]
        others = [pooled[place] for place in range(len(pooled)) if place not in deal]
        extreme += distance(mine, others) >= observed - 1e-12
    return extreme / len(deals)


def fisher_by_enumeration(a: int, b: int, c: int, d: int) -> float:
    """Return the two-sided p of Fisher's exact test: all tables that are no likelier than this one."""
    rows, columns, total = (a + b, c + d), (a + c, b + d), a + b + c + d

    def chance(x: int) -> float:
        return math.comb(columns[0], x) * math.comb(columns[1], rows[0] - x) / math.comb(total, rows[0])

    possible = range(max(0, rows[0] - columns[1]), min(rows[0], columns[0]) + 1)
    return sum(chance(x) for x in possible if chance(x) <= chance(a) * (1 + 1e-9))


def test_distributions_are_compared_by_two_exact_tests() -> None:
    own, theirs = [9.8, 9.9, 10.1, 45.0, 60.0, 71.0], [9.7, 10.0, 11.3, 12.5, 13.6]
    found = verdict(own, kind="distribution", values=theirs, above=11.02)
    assert found.p["ks"] == pytest.approx(ks_by_enumeration(own, theirs), rel=1e-9)
    assert found.p["fisher"] == pytest.approx(fisher_by_enumeration(3, 3, 3, 2), rel=1e-9)
    assert found.verdict == "reproduced"


def test_a_distribution_is_missed_where_one_test_says_so() -> None:
    low, high = [1.0 + each / 100 for each in range(10)], [50.0 + each for each in range(10)]
    assert verdict(low, kind="distribution", values=high).verdict == "missed"
    assert verdict(low, kind="distribution", values=low, above=1.05).verdict == "reproduced"


def test_fewer_values_than_published_are_judged_and_said() -> None:
    found = verdict(TEN[:3], value=91.0, sd=0.3, n=10, tolerance={"factor": 3})
    assert found.verdict == "reproduced"
    assert found.notes == ("n = 3, published 10",)


def test_values_that_are_missing_are_said() -> None:
    found = verdict(TEN, 2, value=91.0, tolerance={"absolute": 1}, note="as printed")
    assert found.notes == ("2 trials without a value left out", "as printed")


def test_too_few_values_are_no_data() -> None:
    found = verdict(TEN[:4], value=91.0, tolerance={"absolute": 1}, min_n=5)
    assert (found.verdict, found.notes) == ("no data", ("needs 5 values, has 4",))


def test_a_suite_passes_by_its_share_of_the_targets_with_data() -> None:
    good = verdict([1.0], kind="exact", value=1, tags=["cells"])
    bad = verdict([2.0], kind="exact", value=1, tags=["cells"])
    none = verdict([], kind="exact", value=1, tags=["cells"])
    other = verdict([2.0], kind="exact", value=1)
    suite = Suite(name="cells", share=0.95, tags=["cells"])
    passed = judge_suite(suite, [good] * 19 + [bad, none, other])
    assert (passed.verdict, passed.targets, passed.judged, passed.reproduced) == ("reproduced", 21, 20, 19)
    assert judge_suite(suite, [good] * 18 + [bad]).verdict == "missed"
    assert judge_suite(suite, [none]).verdict == "no data"


# --- what is said of them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sd", "tolerance", "cells"),
    [
        (89.07, 0.45, 3.0, ("89.07 ± 0.45", "91.15", "+2.08", "3.00")),
        (2529, None, 0.5, ("2529.00", "91.15", "-2437.85", "0.50")),
        (91.15, None, 1e-6, ("91.1500000", "91.1500000", "+0.0000000", "0.0000010")),
        (0.0332, 0.0132, 0.02, ("0.0332 ± 0.0132", "91.1500", "+91.1168", "0.0200")),
    ],
)
def test_numbers_have_the_digits_of_the_tolerance_and_of_what_was_published(
    value: float, sd: float | None, tolerance: float, cells: tuple[str, ...]
) -> None:
    spread = {} if sd is None else {"sd": sd}
    found = line(verdict(TEN, value=value, tolerance={"absolute": tolerance}, **spread))
    assert (found[2], found[3], found[6], found[7]) == cells


def test_spreads_and_ranges_say_what_was_found_without_an_interval_of_a_spread() -> None:
    spread = line(verdict(TEN, kind="range", of="sd", low=0.0, high=100.0))
    assert (spread[3], spread[4]) == (f"SD {statistics.stdev(TEN):.3g}", "–")
    each = line(verdict(TEN, kind="range", of="each", low=0.0, high=100.0))
    assert (each[3], each[4] == "–") == ("90.8 to 91.5", False)


def test_means_of_an_order_have_the_digits_of_their_smallest_gap() -> None:
    keys = {"kind": "order", "wheres": [{}, {}, {}]}
    assert verdict([[16.823], [11.1317], [5.7335]], **keys).found == "16.8, 11.1, 5.7"
    assert verdict([[97.904], [97.621], [97.6]], **keys).found == "97.904, 97.621, 97.600"
