"""The grammar of ``-s key=value``: points, ranges, files, ``all``, nested keys, aliases."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import attrs
import pytest
import xfw
from hypothesis import given
from hypothesis import strategies as st
from xfw.config.keys import Schema, schema_of, split_points
from xfw.config.points import points_of, range_points, read_overrides, split_assignment


@attrs.frozen
class Train:
    epochs: int = xfw.key(3, help="passes", ge=1)
    betas: tuple[float, float] = xfw.key((0.9, 0.999), help="moments", ge=0, lt=1)


@attrs.frozen
class Config:
    lr: float = xfw.key(1e-3, help="rate", gt=0)
    batch: int = xfw.key(32, help="batch", ge=1, alias=("batch_size",))
    mode: str = xfw.key("none", help="mode", choices=("none", "full", "output"))
    scope: str = xfw.key("inner", help="scope", choices=("inner", "all"))
    arch: str = xfw.key("1*8", help="network")
    paired: bool = xfw.key(True, help="paired")
    widths: tuple[int, ...] | None = xfw.key(None, help="widths", ge=1)
    steps: int | None = xfw.key(None, help="steps", ge=1)
    train: Train = attrs.field(factory=Train)


def schema() -> Schema:
    return schema_of(Config)


def points(text: str, folder: Path = Path()) -> tuple[Any, ...]:
    found, problems = read_overrides([split_assignment(text)], schema(), folder, "demo")
    assert problems == []
    return next(iter(found.values()))


def message(*texts: str, folder: Path = Path()) -> str:
    _, problems = read_overrides([split_assignment(text) for text in texts], schema(), folder, "demo")
    return "\n".join(str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=1e-3", (1e-3,)),
        ("lr=1", (1.0,)),
        ("lr=1e-3,1e-4", (1e-3, 1e-4)),
        ("batch=1..4", (1, 2, 3, 4)),
        ("batch=4..1", (4, 3, 2, 1)),
        ("batch=1..10..3", (1, 4, 7, 10)),
        ("batch=1..3,8", (1, 2, 3, 8)),
        ("lr=0.1..0.5..0.1", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("lr=1e-3..3e-3..1e-3", (1e-3, 2e-3, 3e-3)),
        ("arch=1*8,18*18", ("1*8", "18*18")),
        ("arch=[4*4,2*8]", ("[4*4,2*8]",)),
        ("arch=[4*4,2*8],1*8", ("[4*4,2*8]", "1*8")),
        ("arch=1..3", ("1..3",)),
        ("arch='a,b',c", ("a,b", "c")),
        ("arch=don't", ("don't",)),
        ("arch=", ("",)),
        ("arch=a=b", ("a=b",)),
        ("mode=all", ("none", "full", "output")),
        ("mode=none, full", ("none", "full")),
        ("scope=all", ("all",)),
        ("paired=false", (False,)),
        ("paired=yes,no", (True, False)),
        ("widths=[8,4]", ((8, 4),)),
        ("widths=[8,4],[2]", ((8, 4), (2,))),
        ("widths=[]", ((),)),
        ("widths=none", (None,)),
        ("steps=none,5", (None, 5)),
        ("train.epochs=2", (2,)),
        ("train.betas=[0.5,0.9]", ((0.5, 0.9),)),
        ("batch_size=7", (7,)),
        ("batch-size=7", (7,)),
        ("batch=2,2,3", (2, 3)),
    ],
)
def test_texts_stand_for_points(text: str, expected: tuple[Any, ...]) -> None:
    assert points(text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("lr=0", "$.lr: found 0, expected a number > 0"),
        ("lr=fast", "$.lr: found 'fast', expected a number > 0"),
        ("lr=nan", "$.lr: found 'nan', expected a number > 0"),
        ("batch=1.5", "$.batch: found '1.5', expected a whole number >= 1"),
        ("batch=99999999999999999999", "expected a whole number"),
        ("mode=ful", "$.mode: found 'ful', expected one of none, full, output"),
        ("paired=maybe", "$.paired: found 'maybe', expected true or false"),
        ("widths=8", "$.widths: found '8', expected a list of whole numbers in brackets >= 1, or none"),
        ("widths=[8,0]", "$.widths: found [8,0], expected a list"),
        ("train.betas=[0.5]", "$.train.betas: found '[0.5]', expected a list of 2 numbers >= 0 and < 1"),
        ("lr=1..2..0.3", "both ends included"),
        ("lr=1..2..0", "a step that is not 0"),
        ("lr=1..2..-1", "leads from 1 to 2"),
        ("lr=a..b", "expected a range such as 1..10"),
        ("batch=1..1000000", "more points than the 10,000"),
        ("lr=1,,2", "empty point"),
        ("lrr=1", "unknown key 'lrr'\n    did you mean 'lr'?   all keys: xfw config demo"),
        ("train.epoch=1", "did you mean 'train.epochs'?"),
        ("arch=@nowhere.txt", "cannot read the points from nowhere.txt: No such file"),
    ],
)
def test_wrong_texts_are_named(text: str, part: str) -> None:
    assert part in message(text)


def test_problems_of_all_keys_are_reported_together() -> None:
    assert len(message("lr=0", "batch=0", "mode=x", "lrr=1").splitlines()) == 5


def test_a_key_given_twice_is_refused_with_the_way_to_sweep() -> None:
    assert "given twice\n    a sweep is -s batch=VALUE,VALUE" in message("batch=1", "batch_size=2")


def test_a_text_without_equals_sign_is_no_assignment() -> None:
    with pytest.raises(ValueError, match="expected KEY=VALUE"):
        split_assignment("lr")


def test_a_file_gives_one_point_a_line(tmp_path: Path) -> None:
    (tmp_path / "points.txt").write_text("# networks\n1*8\n\n[4*4, 2*8]\n", encoding="utf-8")
    assert points("arch=@points.txt", tmp_path) == ("1*8", "[4*4, 2*8]")


def test_points_of_a_file_are_typed_by_the_key(tmp_path: Path) -> None:
    (tmp_path / "points.txt").write_text("1e-3\nfast\n", encoding="utf-8")
    assert "found 'fast', expected a number" in message("lr=@points.txt", folder=tmp_path)


def test_a_file_without_points_is_refused(tmp_path: Path) -> None:
    (tmp_path / "points.txt").write_text("# nothing\n", encoding="utf-8")
    assert "holds no point" in message("lr=@points.txt", folder=tmp_path)


plain_points = st.text(st.characters(exclude_characters=",'\"[](){}", exclude_categories=["Cc", "Z"]), min_size=1)


@given(st.lists(plain_points, min_size=1))
def test_joined_points_are_split_again(parts: list[str]) -> None:
    assert split_points(",".join(parts)) == parts


@given(st.lists(st.text(st.characters(exclude_characters="'\""), min_size=1), min_size=1))
def test_quotes_protect_commas_and_brackets(parts: list[str]) -> None:
    assert split_points(",".join(f'"{part}"' for part in parts)) == parts


@given(st.lists(plain_points, min_size=1))
def test_brackets_join_points_into_one(parts: list[str]) -> None:
    assert split_points("[" + ",".join(parts) + "]") == ["[" + ",".join(parts) + "]"]


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=0, exclude_min=True))
def test_every_float_is_read_as_written(value: float) -> None:
    assert points(f"lr={value!r}") == (value,)


@given(st.lists(st.integers(1, 2**63 - 1), min_size=1, unique=True))
def test_every_sweep_of_integers_is_read_as_written(values: list[int]) -> None:
    assert points("batch=" + ",".join(map(str, values))) == tuple(values)


@given(st.integers(-50, 50), st.integers(0, 40), st.integers(-7, 7).filter(bool))
def test_ranges_hold_both_ends_and_equal_steps(first: int, count: int, step: int) -> None:
    last = first + count * step
    assert [int(point) for point in range_points(f"{first}..{last}..{step}")] == [
        first + place * step for place in range(count + 1)
    ]


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(2, 9))
def test_ranges_that_miss_their_end_are_refused(first: int, last: int, step: int) -> None:
    text = f"{first}..{last}..{step}"
    if last >= first and (last - first) % step == 0:
        assert range_points(text)[-1] == str(last)
    else:
        with pytest.raises(ValueError, match="both ends included"):
            range_points(text)


@given(st.text().filter(lambda text: not text.startswith("@")))
def test_no_text_breaks_the_grammar(text: str) -> None:
    """Any text gives points or a ``ValueError``, which becomes a problem; nothing else."""
    for key in schema().keys.values():
        with contextlib.suppress(ValueError):
            assert points_of(key, text, Path())
