"""Configurations as values: keys and their bounds, TOML round trips, wrong values with their paths."""

from __future__ import annotations

import tomllib
from typing import Any

import attrs
import pytest
import tomli_w
import xfw
from hypothesis import given
from hypothesis import strategies as st
from xfw.config.keys import schema_of
from xfw.config.structure import canonical, config_hash, flatten, nested, structure, unstructure


def even(value: int) -> int:
    if value % 2:
        raise ValueError("expected an even number")
    return value


@attrs.frozen
class Inner:
    epochs: int = xfw.key(3, help="passes", unit="epochs", ge=1)
    rates: list[float] = xfw.key([0.5], help="rates", ge=0, le=1)


@attrs.frozen
class Config:
    lr: float = xfw.key(1e-3, help="rate", gt=0)
    size: int = xfw.key(2, help="size", converter=even)
    name: str = xfw.key("one", help="name")
    flag: bool = xfw.key(False, help="flag")
    betas: tuple[float, float] = xfw.key((0.9, 0.999), help="moments")
    widths: tuple[int, ...] | None = xfw.key(None, help="widths", ge=1)
    grid: tuple[tuple[int, ...], ...] = xfw.key((), help="grid")
    note: str | None = xfw.key(None, help="note")
    inner: Inner = attrs.field(factory=Inner)


@attrs.frozen
class Required:
    steps: int = xfw.key(help="steps", ge=1)


finite = st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-(2**63) + 1, 2**63 - 1)
# tomllib normalises line ends inside strings, so a lone carriage return is not written as itself by all writers.
words = st.text(st.characters(exclude_categories=["Cs"]))
configs = st.builds(
    Config,
    lr=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    size=st.integers(-(2**61), 2**61).map(lambda value: 2 * value),
    name=words,
    flag=st.booleans(),
    betas=st.tuples(finite, finite),
    widths=st.none() | st.lists(st.integers(1, 2**63 - 1)).map(tuple),
    grid=st.lists(st.lists(whole).map(tuple)).map(tuple),
    note=st.none() | words,
    inner=st.builds(Inner, epochs=st.integers(1, 9), rates=st.lists(st.floats(0, 1))),
)


@given(configs)
def test_every_configuration_survives_toml(config: Config) -> None:
    text = tomli_w.dumps(unstructure(config))
    assert structure(Config, tomllib.loads(text)) == config


@given(configs)
def test_equal_configurations_have_equal_hashes_after_toml(config: Config) -> None:
    again = structure(Config, tomllib.loads(tomli_w.dumps(unstructure(config))))
    assert config_hash([unstructure(again)]) == config_hash([unstructure(config)])


@given(configs)
def test_flat_and_nested_values_are_the_same(config: Config) -> None:
    plain = unstructure(config)
    assert nested(flatten(plain)) == plain


def test_left_out_keys_take_their_defaults() -> None:
    assert structure(Config, {"inner": {"epochs": 5}}) == Config(inner=Inner(epochs=5))


def test_whole_numbers_are_taken_for_floats() -> None:
    config = structure(Config, {"lr": 1})
    assert config.lr == 1.0
    assert isinstance(config.lr, float)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"lr": 0}, "$.lr: found 0, expected a number > 0"),
        ({"lr": "fast"}, "$.lr: found 'fast', expected a number > 0"),
        ({"lr": True}, "$.lr: found true, expected a number > 0"),
        ({"lr": float("inf")}, "$.lr: found inf, expected a number > 0"),
        ({"size": 3}, "$.size: found 3: expected an even number"),
        ({"size": 2.0}, "$.size: found 2.0, expected a whole number"),
        ({"flag": 1}, "$.flag: found 1, expected true or false"),
        ({"name": 1}, "$.name: found 1, expected text"),
        ({"betas": [1]}, "$.betas: found [1], expected a list of 2 numbers"),
        ({"betas": "ab"}, "$.betas: found 'ab', expected a list of 2 numbers"),
        ({"inner": {"epochs": 0}}, "$.inner.epochs: found 0, expected a whole number >= 1 (epochs)"),
        ({"inner": {"epoch": 1}}, "$.inner.epoch: unknown key 'epoch'"),
        ({"inner": 3}, "$.inner: found 3, expected a table of keys"),
        ({"inner": {"rates": [0.5, 2]}}, "$.inner.rates: found [0.5,2], expected a list of numbers in brackets"),
        ({"nam": "x"}, "$.nam: unknown key 'nam'"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(values: dict[str, Any], line: str) -> None:
    with pytest.raises(xfw.WrongInput) as error:
        structure(Config, values)
    assert line in str(error.value)


def test_all_wrong_values_are_reported_at_once() -> None:
    with pytest.raises(xfw.WrongInput) as error:
        structure(Config, {"lr": 0, "inner": {"epochs": 0, "x": 1}, "size": 1})
    assert [problem.path for problem in error.value.problems] == ["$.lr", "$.size", "$.inner.epochs", "$.inner.x"]


def test_a_required_key_that_is_missing_is_named() -> None:
    with pytest.raises(xfw.WrongInput, match=r"\$\.steps: missing"):
        structure(Required, {})


def test_a_converter_applies_to_instances_made_in_python_too() -> None:
    with pytest.raises(ValueError, match="even"):
        Config(size=1)


def test_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert config_hash([{"a": 1, "b": {"c": 2.5, "d": "é"}}]) == config_hash([{"b": {"d": "é", "c": 2.5}, "a": 1}])


def test_hash_is_frozen() -> None:
    """A golden value: stored runs compare by it."""
    assert config_hash([{"lr": 0.001, "mode": "none"}]) == (
        "25c7d33f12f57e19e8d8c147b0658a5f1f245a92eb8f230542c1fb241c96d48e"
    )


def test_hash_of_several_conditions_depends_on_their_order() -> None:
    first, second = {"lr": 0.1}, {"lr": 0.2}
    assert config_hash([first, second]) != config_hash([second, first])


def test_canonical_json_is_sorted_ascii_without_blanks() -> None:
    assert canonical({"b": [1, 2.5, True], "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5,true]}'


def test_unsupported_types_are_the_authors_error() -> None:
    @attrs.frozen
    class Wrong:
        when: complex = xfw.key(1j, help="x")

    with pytest.raises(TypeError, match=r"key 'when': the type .*complex"):
        schema_of(Wrong)


def test_an_optional_key_with_another_default_is_the_authors_error() -> None:
    @attrs.frozen
    class Wrong:
        steps: int | None = xfw.key(3, help="x")

    with pytest.raises(TypeError, match="may be None, so its default must be None"):
        schema_of(Wrong)


def test_a_list_default_is_not_shared() -> None:
    assert Inner().rates == Inner().rates
    assert Inner().rates is not Inner().rates


def test_schema_lists_nested_keys_in_order_with_defaults() -> None:
    keys = schema_of(Config).keys
    assert list(keys)[-2:] == ["inner.epochs", "inner.rates"]
    assert keys["inner.rates"].default == [0.5]
    assert keys["inner.epochs"].info.unit == "epochs"
