"""Conditions are named by the swept keys that tell them apart."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xfw.manifest import combined, spans, telling_axes

TYPED = {"number": "command line", "lr": "command line", "rate": "default", "replay": "default"}


def derived(number: int) -> dict[str, Any]:
    return {"number": number, "rate": 0.1 if number < 3 else 0.01, "replay": number % 2 == 0}


def test_keys_that_follow_from_a_swept_one_do_not_name_a_condition() -> None:
    assert telling_axes(["number", "rate", "replay"], TYPED, [derived(number) for number in (1, 2, 3)]) == ["number"]


def test_every_key_that_somebody_swept_names_a_condition() -> None:
    one = [{"number": 1, "lr": 0.1}]
    assert telling_axes(["number", "lr"], TYPED, one) == ["number", "lr"]


def test_a_derived_key_names_a_condition_where_nothing_else_tells_it_apart() -> None:
    conditions = [{"number": 1, "rate": 0.1}, {"number": 1, "rate": 0.2}]
    assert telling_axes(["number", "rate"], TYPED, conditions) == ["number", "rate"]


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=12), st.lists(st.booleans(), min_size=3))
def test_the_kept_keys_tell_apart_what_all_keys_do(rows: list[tuple[int, ...]], typed: list[bool]) -> None:
    axes = ["a", "b", "c"]
    origins = {axis: "command line" if by_hand else "default" for axis, by_hand in zip(axes, typed, strict=False)}
    conditions = [dict(zip(axes, row, strict=True)) for row in rows]
    kept = telling_axes(axes, origins, conditions)
    assert len({tuple(each[axis] for axis in kept) for each in conditions}) == len(set(rows))


def test_all_combinations_are_named_together_and_others_one_by_one() -> None:
    axes = ["mode", "lr"]
    every = [dict(zip(axes, pair, strict=True)) for pair in itertools.product(("none", "full"), (0.1, 0.2))]
    assert combined(axes, every) == "mode=none,full lr=0.1,0.2"
    assert combined(axes, every[:3]) == "mode=none lr=0.1; mode=none lr=0.2; mode=full lr=0.1"
    assert combined([], [{}]) == ""


def test_long_lists_of_values_are_cut_and_whole_numbers_are_ranges() -> None:
    assert combined(["n"], [{"n": number} for number in (1, 4, 2, 3, 9)]) == "n=1..4,9"
    assert combined(["x"], [{"x": f"v{number}"} for number in range(10)]) == "x=v0,v1,v2,v3,v4,v5,… (10)"


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2,5,7-8"), (list(range(10)), "0-9")]
)
def test_spans_are_short(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text
