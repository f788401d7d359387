"""Statistics against scipy, and against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from xfw.analysis import statistics

NAN = math.nan
SAMPLE = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


def spread(sample: list[float]) -> bool:
    return float(np.std(sample)) > 1e-6 * (1 + float(np.abs(sample).max()))


def test_sd_of_one_and_three() -> None:
    assert statistics.summarise([1, 3], ddof=0).sd == 1.0
    assert statistics.summarise([1, 3]).sd == pytest.approx(math.sqrt(2))
    assert statistics.summarise([1, 3], ddof=0).sem == pytest.approx(1.0)


def test_interval_of_one_to_four_by_hand() -> None:
    found = statistics.summarise([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * math.sqrt(5 / 3) / 2  # t quantile 0.975 at 3 degrees of freedom
    assert found.mean == 2.5
    assert (found.low, found.high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-6)


@given(SAMPLE)
def test_summary_agrees_with_scipy(sample: list[float]) -> None:
    found = statistics.summarise(sample, confidence=0.9)
    assert found.mean == pytest.approx(np.mean(sample), abs=1e-9)
    assert found.sem == pytest.approx(stats.sem(sample), abs=1e-9)
    if spread(sample):
        low, high = stats.t.interval(0.9, len(sample) - 1, loc=np.mean(sample), scale=stats.sem(sample))
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


def test_missing_values_are_left_out_and_counted() -> None:
    found = statistics.summarise([1.0, NAN, 3.0, math.inf])
    assert (found.n, found.missing, found.mean) == (2, 2, 2.0)


def test_one_value_has_no_spread() -> None:
    found = statistics.summarise([5.0])
    assert (found.n, found.mean, found.minimum) == (1, 5.0, 5.0)
    assert all(math.isnan(each) for each in (found.sd, found.sem, found.low, found.high))
    assert statistics.summarise([5.0], ddof=0).sd == 0.0


def test_no_value_at_all() -> None:
    found = statistics.summarise([NAN])
    assert (found.n, found.missing) == (0, 1)
    assert math.isnan(found.mean)


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=12))
def test_paired_difference_agrees_with_scipy(pairs: list[tuple[float, float]]) -> None:
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    if not spread(list(first - second)):
        return
    found = statistics.paired_difference(first, second)
    theirs = stats.ttest_rel(first, second)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    interval = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)


@given(SAMPLE, SAMPLE)
def test_welch_difference_agrees_with_scipy(first: list[float], second: list[float]) -> None:
    if not (spread(first) and spread(second)):
        return
    found = statistics.welch_difference(first, second)
    theirs = stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    interval = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


def test_published_quantile_gives_the_published_level() -> None:
    differences = np.array([1.0, -1.0] * 5)  # SD 1.054, SEM 1/3 at n = 10
    shifted = differences + 2.262157 / 3
    assert statistics.paired_difference(shifted, np.zeros(10)).p == pytest.approx(0.05, abs=1e-6)


def test_pairs_with_a_missing_side_are_left_out() -> None:
    found = statistics.paired_difference([1.0, 2.0, NAN, 4.0], [0.0, NAN, 0.0, 1.0])
    assert (found.n_first, found.missing, found.mean) == (2, 2, 2.0)


def test_equal_differences_have_no_test_and_no_effect() -> None:
    found = statistics.paired_difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)
    assert math.isnan(found.p)
    assert math.isnan(found.effect)


def test_cohens_d_z_is_the_mean_over_the_spread_of_the_differences() -> None:
    assert statistics.paired_difference([1.0, 3.0], [0.0, 0.0]).effect == pytest.approx(2 / math.sqrt(2))


def test_hedges_g_by_hand() -> None:
    found = statistics.welch_difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    cohen = 2 / math.sqrt((4 + 1) / 2)
    exact = math.gamma(2) / (math.sqrt(2) * math.gamma(1.5))  # 4 degrees of freedom
    assert found.effect == pytest.approx(cohen * exact)
    assert exact == pytest.approx(1 - 3 / (4 * 4 - 1), abs=0.003)


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_ignores_what_was_not_tested() -> None:
    adjusted = statistics.holm([NAN, 0.02])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == 0.02


@given(st.lists(st.lists(st.one_of(st.just(NAN), st.floats(-50, 50)), min_size=3, max_size=3), min_size=1, max_size=6))
def test_moments_along_the_trials_are_those_of_each_column(rows: list[list[float]]) -> None:
    values = np.array(rows)
    n, mean, sd = statistics.moments(values)
    for column in range(3):
        single = statistics.summarise(values[:, column])
        assert n[column] == single.n
        assert (mean[column], sd[column]) == pytest.approx((single.mean, single.sd), nan_ok=True, abs=1e-9)


# --- values that do not spread ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(shift=st.floats(0.01, 10), seed=st.integers(0, 1000))
def test_a_difference_that_is_constant_but_for_rounding_has_no_test(dtype: type, shift: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=5)
    first, second = ((value + noise).astype(dtype) for value in (0.1 + shift, 0.1))
    found = statistics.paired_difference(first, second)
    assert found.constant
    assert (found.low, found.high) == (found.mean, found.mean)
    assert math.isnan(found.p)
    assert math.isnan(found.effect)


@given(seed=st.integers(0, 1000))
def test_a_small_spread_that_is_more_than_rounding_is_tested(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=5)
    found = statistics.paired_difference(0.4 + noise + 1e-12 * noise**2, 0.1 + noise)
    assert not found.constant
    assert found.p < 1e-6


def test_two_constant_samples_have_no_test() -> None:
    found = statistics.welch_difference([0.1 + 0.2, 0.3, 0.3], [0.1, 0.1])
    assert found.constant
    assert found.mean == pytest.approx(0.2)
    assert math.isnan(found.p)


def test_counts_of_one_apart_are_a_spread() -> None:
    assert not statistics.paired_difference([10_000_000.0, 10_000_001.0], [9_999_998.0, 9_999_998.0]).constant


def test_the_robust_spread_of_normal_values_is_the_sd_and_no_outlier_moves_it_far() -> None:
    sample = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)
    assert statistics.robust_sd(sample) == pytest.approx(1.0, abs=0.01)
    assert statistics.robust_sd([10.0, 10.1, 9.9, 10.2, 9.8, 77.0]) < 0.3
