"""The metrics of the stability gap on series made by hand and on random ones (acceptance tests A2 to A4).

Axes: R trial, G iteration, K task.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from xfw_neuronal_decay import gap

NAN = float("nan")
BY_HAND = [0.0, 50.0, 80.0, 90.0, 90.0, 60.0, 70.0, 90.0]


def one(*series: float) -> np.ndarray:
    return np.array([series])


def three(length: int, first: list[float]) -> np.ndarray:
    """Accuracies of three tasks, the first as given, the others 50 from their start on."""
    accuracy = np.full((1, 3 * length, 3), NAN)
    accuracy[0, :, 0] = first
    for task in (1, 2):
        accuracy[0, task * length :, task] = 50.0
    return accuracy


def test_depth_position_and_recovery_by_hand() -> None:
    found = gap.gaps(one(*BY_HAND), 4)
    assert (found.depth.tolist(), found.position.tolist(), found.recovery.tolist()) == ([[30.0]], [[1.0]], [[3.0]])


def test_recovery_that_never_comes_is_undefined() -> None:
    found = gap.gaps(np.array([BY_HAND, [*BY_HAND[:-1], 89.0]]), 4)
    assert found.depth.tolist() == [[30.0], [30.0]]
    assert found.recovery[0].tolist() == [3.0]
    assert np.isnan(found.recovery[1]).all()


def test_of_equal_minima_the_first_counts() -> None:
    found = gap.gaps(one(0, 0, 0, 90, 90, 60, 60, 90), 4)
    assert found.position.tolist() == [[1.0]]


def test_a_rise_after_the_switch_is_a_negative_depth_that_recovers_at_once() -> None:
    found = gap.gaps(one(0, 0, 0, 80, 90, 91, 92, 85), 4)
    assert found.depth.tolist() == [[-5.0]]
    assert found.recovery.tolist() == found.position.tolist() == [[3.0]]


def test_recovery_is_looked_for_beyond_the_next_switch() -> None:
    found = gap.gaps(one(0, 0, 0, 80, 70, 60, 65, 70, 75, 79, 80, 81), 4)
    assert found.recovery[0, 0] == 6.0
    assert found.recovery[0, 0] > 4


def test_the_window_of_the_minimum_ends_at_the_next_switch() -> None:
    found = gap.gaps(one(0, 0, 0, 80, 70, 75, 79, 79, 10, 79, 80, 81), 4)
    assert found.depth.tolist() == [[10.0, 69.0]]


def test_the_average_takes_the_new_task_in_at_its_first_record() -> None:
    accuracy = three(2, [10, 90, 80, 80, 70, 70])
    assert gap.average(accuracy, 2).tolist() == [[10, 90, (80 + 50) / 2, 65, (70 + 100) / 3, 170 / 3]]


def test_one_task_has_no_gap() -> None:
    found = gap.gaps(one(1, 2, 3), 3)
    assert found.depth.shape == (1, 0)
    assert gap.before_switches(one(1, 2, 3), 3).tolist() == [[3.0]]


def test_windowed_forgetting_by_hand() -> None:
    series = one(10, 50, 40, 30, 45, 20)
    # Largest falls within 2, 3 and 6 consecutive records: 45 to 20; 45 to 20 again, 50 to 30 less; 50 to 20.
    assert [gap.forgetting(series, window)[0] for window in (2, 3, 6)] == [25.0, 25.0, 30.0]
    assert gap.forgetting(one(1, 2, 3), 10).tolist() == [0.0]


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (2, 25), elements=st.floats(0, 100)), st.integers(2, 30))
def test_windowed_forgetting_is_the_largest_fall_in_any_window(series: np.ndarray, window: int) -> None:
    expected = [
        max([0.0, *(row[a] - row[b] for a in range(25) for b in range(a + 1, min(25, a + window)))]) for row in series
    ]
    assert gap.forgetting(series, window).tolist() == expected


def test_measures_at_the_end_of_the_run_by_hand() -> None:
    accuracy = three(2, [10, 90, 80, 85, 60, 70])
    accuracy[0, 2:, 1] = [20, 90, 75, 88]
    accuracy[0, 4:, 2] = [30, 95]
    found = gap.summary(accuracy, 2, 3)
    assert found.min_acc.tolist() == [(60 + 75) / 2]
    assert found.wc_acc.tolist() == pytest.approx([95 / 3 + 2 / 3 * 67.5])
    assert found.wf10.tolist() == pytest.approx([(30 + 15 + 0) / 3])
    assert found.anytime_accuracy.tolist() == pytest.approx([np.mean([10, 90, 50, 87.5, 55, (70 + 88 + 95) / 3])])


def test_measures_at_the_end_of_task_two_cut_the_series_there() -> None:
    accuracy = three(2, [10, 90, 80, 85, 0, 0])
    accuracy[0, 2:, 1] = [20, 90, 0, 0]
    found = gap.summary(accuracy, 2, 2)
    assert found.min_acc.tolist() == [80.0]
    assert found.wc_acc.tolist() == [90 / 2 + 80 / 2]
    assert found.anytime_accuracy.tolist() == [np.mean([10, 90, 50, 87.5])]


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (3, 24), elements=st.floats(0, 100)))
def test_gaps_follow_their_definition(series: np.ndarray) -> None:
    """Against the sets of the definition, switch by switch."""
    length, found = 8, gap.gaps(series, 8)
    for trial, row in enumerate(series):
        for switch in (1, 2):
            start, before = switch * length, row[switch * length - 1]
            window = row[start : start + length]
            position = min(place for place in range(length) if window[place] == window.min())
            later = [g - start for g in range(start + position, 24) if row[g] >= before]
            assert found.depth[trial, switch - 1] == before - window.min()
            assert found.position[trial, switch - 1] == position
            recovered = found.recovery[trial, switch - 1]
            assert np.isnan(recovered) if not later else recovered == min(later)


def test_thinned_records_use_the_last_one_before_a_switch() -> None:
    series = one(50, NAN, NAN, 90, NAN, 70, NAN, 95)
    assert gap.before_switches(series, 4).tolist() == [[90.0, 95.0]]
    found = gap.gaps(series, 4)
    assert (found.depth.tolist(), found.position.tolist(), found.recovery.tolist()) == ([[20.0]], [[1.0]], [[3.0]])
