"""Types of keys in words, and values as one writes them."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import xfw
from hypothesis import given
from hypothesis import strategies as st
from xfw.config.keys import KeyInfo, accept, describe, read, schema_of
from xfw.config.structure import flatten, nested
from xfw.manifest import show

PLAIN = KeyInfo(help="")


@attrs.frozen
class Train:
    epochs: int = xfw.key(1, help="passes", alias=("loops",))


@attrs.frozen
class Config:
    batch_size: int = xfw.key(1, help="batch", alias=("batch",))
    train: Train = attrs.field(factory=Train)


@pytest.mark.parametrize(
    ("kind", "info", "words"),
    [
        (int, PLAIN, "a whole number"),
        (float, KeyInfo(help="", gt=0), "a number > 0"),
        (float, KeyInfo(help="", ge=0, lt=1, unit="s"), "a number >= 0 and < 1 (s)"),
        (int, KeyInfo(help="", gt=1, le=9), "a whole number > 1 and <= 9"),
        (bool, PLAIN, "true or false"),
        (str, PLAIN, "text"),
        (str | None, PLAIN, "text"),
        (int | None, KeyInfo(help="", ge=1), "a whole number >= 1, or none"),
        (str, KeyInfo(help="", choices=("a", "b")), "one of a, b"),
        (int, KeyInfo(help="", choices=(1, 2), unit="px"), "one of 1, 2 (px)"),
        (list[int], PLAIN, "a list of whole numbers in brackets"),
        (tuple[float, float], PLAIN, "a list of 2 numbers"),
        (tuple[str, ...], PLAIN, "a list of texts in brackets"),
        (tuple[bool, ...] | None, PLAIN, "a list of truth values in brackets, or none"),
        (list[list[int]], PLAIN, "a list of values in brackets"),
    ],
)
def test_what_a_key_expects_is_said_in_words(kind: Any, info: KeyInfo, words: str) -> None:
    assert describe(kind, info) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        ("a", "a"),
        ((1, (2, 3)), "[1,[2,3]]"),
        ([], "[]"),
    ],
)
def test_values_are_shown_as_written_on_the_command_line(value: Any, text: str) -> None:
    assert show(value) == text


values = {
    int: st.integers(-(2**63) + 1, 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    int | None: st.none() | st.integers(-99, 99),
    tuple[int, ...]: st.lists(st.integers(-99, 99)).map(tuple),
    list[float]: st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    tuple[int, float]: st.tuples(st.integers(-99, 99), st.floats(0, 1)),
    list[tuple[int, ...]]: st.lists(st.lists(st.integers(-9, 9)).map(tuple)),
    tuple[bool, ...] | None: st.none() | st.lists(st.booleans()).map(tuple),
}


@given(st.sampled_from(list(values)), st.data())
def test_a_shown_value_is_read_as_itself(kind: Any, data: st.DataObject) -> None:
    value = data.draw(values[kind])
    assert read(kind, show(value)) == value


@given(st.sampled_from(list(values)), st.data())
def test_a_value_of_the_type_is_accepted_as_itself(kind: Any, data: st.DataObject) -> None:
    value = data.draw(values[kind])
    accepted = accept(kind, value)
    assert accepted == value
    assert type(accepted) is type(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 1.0),
        (int, True),
        (int, 2**63),
        (float, "1"),
        (float, float("nan")),
        (float, False),
        (bool, 0),
        (str, 1),
        (str, None),
        (int, None),
        (list[int], 1),
        (list[int], "12"),
        (tuple[int, int], [1]),
        (tuple[int, ...], [1, "a"]),
    ],
)
def test_a_value_of_another_type_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        accept(kind, value)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({"gt": 0}, [1e-9, 1], [0, -1]),
        ({"ge": 0}, [0, 1], [-1e-9]),
        ({"lt": 1}, [0.999, -5], [1, 2]),
        ({"le": 1}, [1], [1.001]),
        ({"gt": 0, "le": 2}, [1, 2], [0, 3]),
    ],
)
def test_bounds_hold_or_not(bounds: dict[str, float], inside: list[float], outside: list[float]) -> None:
    info = KeyInfo(help="", **bounds)  # type: ignore[arg-type]
    assert all(info.permits(value) for value in inside)
    assert not any(info.permits(value) for value in outside)


names = st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1, max_size=3)
trees = st.recursive(st.integers(), lambda below: st.dictionaries(names, below, min_size=1, max_size=3), max_leaves=9)


@given(st.dictionaries(names, trees, max_size=4))
def test_nesting_undoes_flattening(tree: dict[str, Any]) -> None:
    assert nested(flatten(tree)) == tree


def test_keys_answer_to_aliases_beside_them_and_to_dashes() -> None:
    schema = schema_of(Config)
    for name, path in (
        ("batch_size", "batch_size"),
        ("batch-size", "batch_size"),
        ("batch", "batch_size"),
        ("train.epochs", "train.epochs"),
        ("train.loops", "train.epochs"),
    ):
        found = schema.find(name)
        assert found is not None
        assert found.path == path
    assert schema.find("loops") is None


def test_hidden_keys_are_kept_out_of_lists_and_still_known() -> None:
    @attrs.frozen
    class Mixed:
        lr: float = xfw.key(1.0, help="rate")
        old: int = xfw.key(1, help="old", hidden=True)

    assert schema_of(Mixed).names() == ["lr"]
    assert schema_of(Mixed).find("old") is not None
