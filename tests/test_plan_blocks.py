"""The rule that deals trials into blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xfw.plan.deal import Part, cpu_parts, dealt, device_parts


def sizes(parts: list[Part]) -> list[int]:
    return [len(part.places) for part in parts]


@given(st.lists(st.integers()), st.integers(1, 50))
def test_dealt_parts_are_consecutive_and_even(items: list[int], parts: int) -> None:
    found = dealt(items, parts)
    assert [item for part in found for item in part] == items
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize(
    ("count", "jobs", "expected"),
    [
        (10, 2, [5, 5]),
        (10, 1, [10]),
        (10, 0, [10]),
        (10, 3, [4, 3, 3]),
        (3, 8, [1, 1, 1]),
        (60, 2, [15, 15, 15, 15]),
        (41, 2, [11, 10, 10, 10]),
        (0, 2, []),
    ],
)
def test_cpu_trials_are_dealt_evenly_and_at_most_twenty_a_block(count: int, jobs: int, expected: list[int]) -> None:
    assert sizes(cpu_parts([range(count)], [1.0], jobs, None)[0]) == expected


def test_shapes_share_the_jobs_and_stay_wide() -> None:
    parts = cpu_parts([range(10)] * 4, [1.0] * 4, 16, None)
    assert [sizes(group) for group in parts] == [[3, 3, 2, 2]] * 4
    assert [sizes(group) for group in cpu_parts([range(10)] * 16, [1.0] * 16, 16, None)] == [[10]] * 16


def test_costly_shapes_are_divided_first() -> None:
    cheap, costly = cpu_parts([range(10), range(10)], [1.0, 8.0], 8, None)
    assert (sizes(cheap), sizes(costly)) == ([10], [2, 2, 2, 2, 2])


def test_blocks_left_over_are_divided_so_that_no_job_waits() -> None:
    parts = cpu_parts([range(10)] * 5, [1.0] * 5, 4, None)
    assert [sizes(group) for group in parts] == [[5, 5], [10], [10], [10], [10]]


def test_a_thousand_shapes_are_dealt_one_by_one() -> None:
    assert all(sizes(parts) == [10] for parts in cpu_parts([range(10)] * 1000, [1.0] * 1000, 16, None))


def test_cpu_blocks_have_no_idle_lanes() -> None:
    assert cpu_parts([range(5)], [1.0], 2, 4) == [[Part((0, 1, 2, 3), 4), Part((4,), 1)]]


def test_block_size_sets_the_width_on_a_cpu_beyond_twenty() -> None:
    assert sizes(cpu_parts([range(50)], [1.0], 2, 25)[0]) == [25, 25]


def test_a_device_takes_all_trials_in_one_block() -> None:
    assert device_parts(64, range(64), None, lambda width: True) == [Part(tuple(range(64)), 64)]


def test_a_device_takes_the_fewest_equal_parts_that_fit() -> None:
    parts = device_parts(64, range(64), None, lambda width: width <= 30)
    assert sizes(parts) == [22, 22, 20]
    assert {part.width for part in parts} == {22}


def test_a_device_takes_single_trials_if_nothing_fits() -> None:
    assert sizes(device_parts(3, range(3), None, lambda width: False)) == [1, 1, 1]


def test_block_size_sets_the_width_on_a_device_and_pads() -> None:
    assert device_parts(3, range(3), 8, lambda width: True) == [Part((0, 1, 2), 8)]


def test_a_filter_leaves_the_width_of_the_whole_plan() -> None:
    assert device_parts(10, [7], None, lambda width: True) == [Part((7,), 10)]


def test_blocks_that_a_filter_empties_are_left_out() -> None:
    assert device_parts(10, [7, 8], 5, lambda width: True) == [Part((7, 8), 5)]


@given(st.integers(1, 200), st.integers(1, 60), st.data())
def test_every_kept_trial_is_in_exactly_one_block(count: int, limit: int, data: st.DataObject) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, count - 1))))
    for parts in (*cpu_parts([kept], [1.0], 4, None), device_parts(count, kept, None, lambda width: width <= limit)):
        assert sorted(place for part in parts for place in part.places) == kept
        assert all(len(part.places) <= part.width for part in parts)
