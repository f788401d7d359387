"""Tables as text: they fit the terminal, and lose nothing."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from xfw.terminal import Grid, Screen, console, fold, render, terminal_width

WORDS = st.lists(st.text("abc,-", min_size=1, max_size=9), min_size=1, max_size=6).map(" ".join)

GRID = Grid(
    titles=("metric", "condition", "unit", "mean value", "95 % CI"),
    rows=(
        ("accuracy", "mode=none", "%", "97.63", "[97.4, 97.8]"),
        ("accuracy", "mode=full", "%", "7.50", "[7.1, 7.9]"),
        ("loss", "mode=none", "%", "0.25", "[0.2, 0.3]"),
    ),
    right=(False, False, False, True, True),
    caption="summary",
    compact=True,
)


def test_a_table_that_fits_has_one_line_for_each_row() -> None:
    assert render(GRID, 80).splitlines() == [
        "summary",
        "metric    condition  unit  mean value       95 % CI",
        "───────────────────────────────────────────────────",
        "accuracy  mode=none  %          97.63  [97.4, 97.8]",
        "accuracy  mode=full  %           7.50    [7.1, 7.9]",
        "loss      mode=none  %           0.25    [0.2, 0.3]",
    ]


def test_where_it_does_not_fit_titles_wrap_first() -> None:
    lines = render(GRID, 46).splitlines()
    assert lines[1:3] == [
        "                            mean",
        "metric    condition  unit  value       95 % CI",
    ]
    assert len(lines) == 7


def test_then_text_that_rows_share_moves_above_the_table() -> None:
    lines = render(GRID, 41).splitlines()
    assert lines[1] == "in every row: unit %"
    assert max(map(len, lines)) <= 41


def test_then_the_first_column_becomes_headings() -> None:
    lines = render(GRID, 31).splitlines()
    assert [line for line in lines if line in ("accuracy", "loss")] == ["accuracy", "loss"]
    assert max(map(len, lines)) <= 31


def test_a_table_that_is_not_compact_keeps_its_columns() -> None:
    plain = Grid(("name", "state"), (("a" * 30, "ok"), ("b" * 30, "ok")), (False, False))
    assert render(plain, 24).splitlines()[0].split() == ["name", "state"]


def test_numbers_are_never_folded() -> None:
    grid = Grid(("text", "number"), (("some words here", "1234567890"),), (False, True))
    assert "1234567890" in render(grid, 12)


@given(WORDS, st.integers(1, 30))
def test_folded_text_fits_and_keeps_every_character(text: str, width: int) -> None:
    lines = fold(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5), st.integers(30, 60))
def test_a_table_of_text_fits_and_keeps_every_word(rows: list[tuple[str, str]], width: int) -> None:
    said = render(Grid(("one", "two"), tuple(rows), (False, False)), width)
    assert max(map(len, said.splitlines())) <= width
    assert all(
        said.count(letter) >= sum(row[0].count(letter) + row[1].count(letter) for row in rows) for letter in "abc"
    )


def test_the_width_is_that_of_columns_else_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "77")
    assert terminal_width() == 77
    monkeypatch.delenv("COLUMNS")
    assert terminal_width() > 0


HOSTILE = "a\x1b[2Jb\x9b1mc\rd\x08e\x07f\u202eg\ud800h\x7f"


def test_no_control_character_reaches_the_screen() -> None:
    shown = io.StringIO()
    Screen(shown).write(f"{HOSTILE}\tand\n")
    assert shown.getvalue() == "a\\u001b[2Jb\\u009b1mc\\u000dd\\u0008e\\u0007f\\u202eg\\ud800h\\u007f\tand\n"


def test_escaped_json_is_the_same_json() -> None:
    shown = io.StringIO()
    Screen(shown).write(json.dumps({"key": HOSTILE}, ensure_ascii=False))
    assert json.loads(shown.getvalue()) == {"key": HOSTILE}


def test_an_encoding_that_lacks_a_sign_gets_another() -> None:
    raw = io.BytesIO()
    screen = Screen(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    screen.write("── 8×8 … é")
    assert raw.getvalue() == b"-- 8x8 ... \\xe9"


def test_a_console_escapes_what_it_is_given_and_colours_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr("sys.stdout", Screen(shown))
    monkeypatch.setenv("FORCE_COLOR", "1")
    table = Table("name")
    table.add_row(f"[red]{HOSTILE}")
    made = console(width=80)
    made.print(table)
    made.print(HOSTILE, markup=False)
    text = shown.getvalue()
    assert "\x1b[31m" in text
    assert "\x1b[2J" not in text
    assert not set("\x9b\r\x08\x07\u202e\ud800\x7f").intersection(text)
    assert "\\u001b[2Jb" in text


def test_cells_of_a_table_are_as_wide_as_they_are_shown() -> None:
    lines = render(Grid(("key", "n"), (("a\x1bb", "1"), ("c", "2")), (False, True)), 80).splitlines()
    assert lines[2:] == ["a\\u001bb  1", "c         2"]
