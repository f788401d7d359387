"""Tables in every form; what needs escaping is escaped."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xfw.analysis import tables
from xfw.analysis.tables import Column, Table

TABLE = Table(
    columns=(Column("arch", "network"), Column("mean", "mean", "%", ".2f"), Column("n", "n", form="d")),
    rows=(("[4*4,2*8]", 91.14159, 10), ("a_b & 50%", math.nan, 0), ("|x|", None, 3)),
    caption="100 % of #1 & more",
    label="tab:demo",
    notes=("SD ± 1_2",),
)


def test_markdown_by_hand() -> None:
    assert tables.to_markdown(TABLE) == (
        "100 % of #1 & more\n\n"
        "| network | mean (%) | n |\n"
        "| --- | --: | --: |\n"
        "| \\[4\\*4,2\\*8\\] | 91.14 | 10 |\n"
        "| a\\_b & 50% | – | 0 |\n"
        "| \\|x\\| | – | 3 |\n\n"
        "SD ± 1\\_2\n"
    )


def test_csv_keeps_full_precision_and_leaves_missing_empty() -> None:
    rows = list(csv.reader(io.StringIO(tables.to_csv(TABLE))))
    assert rows == [
        ["arch", "mean", "n"],
        ["[4*4,2*8]", "91.14159", "10"],
        ["a_b & 50%", "", "0"],
        ["|x|", "", "3"],
    ]


def test_json_has_null_for_what_is_missing() -> None:
    assert json.loads(tables.to_json(TABLE))[1] == {"arch": "a_b & 50%", "mean": None, "n": 0}


def test_latex_uses_booktabs_and_escapes() -> None:
    text = tables.to_latex(TABLE)
    assert [rule for rule in (r"\toprule", r"\midrule", r"\bottomrule") if text.count(rule) == 1] != []
    assert r"a\_b \& 50\% & -- & 0 \\" in text
    assert r"\caption{100 \% of \#1 \& more}" in text
    assert r"SD $\pm$ 1\_2" in text
    assert r"{[}4*4,2*8{]} & 91.14 & 10 \\" in text


def test_latex_environments_and_braces_balance() -> None:
    text = tables.to_latex(TABLE)
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert text.count("{") == text.count("}")


@given(st.text(alphabet="\\&%$#_{}~^<>[]ab ±×λ"))
def test_escaped_text_holds_no_active_character(text: str) -> None:
    escaped = tables.escape_latex(text)
    commands = sorted(tables.LATEX.values(), key=len, reverse=True)
    for command in commands:
        escaped = escaped.replace(command, "")
    assert not set(escaped) & set("\\&%$#_~^<>±×λ")


def test_terminal_table_holds_every_cell() -> None:
    said = tables.to_text(TABLE, 100)
    assert all(cell in said for row in TABLE.cells("–") for cell in row)


@pytest.mark.parametrize(
    ("spread", "values", "texts"),
    [
        (5e-5, (3e-4, 5e-5), ("0.000300", "0.000050")),
        (1405.0, (2952.4, 1405.0), ("2952", "1405")),
        (0.31, (93.0, 0.31), ("93.00", "0.31")),
        (math.nan, (93.0, math.nan), ("93.00", "–")),
        (0.0, (0.5, 0.0), ("0.5000", "0.0000")),
        (5.5e-17, (0.3, 5.5e-17), ("0.3000", "0.0000")),
        (2e-13, (1.5e-12, 2e-13), ("1.50e-12", "2.0e-13")),
        (1e14, (1.25e16, 1e14), ("1.250e+16", "100000000000000")),
    ],
)
def test_numbers_have_two_digits_of_their_spread(
    spread: float, values: tuple[float, ...], texts: tuple[str, ...]
) -> None:
    shown = tables.rounding_like(spread, *values)
    table = Table(tuple(Column(f"c{place}", "c", form=".2f") for place in range(len(values))), (shown,))
    assert tuple(table.cells("–")[0]) == texts


def test_rounded_numbers_are_whole_in_files_for_programs() -> None:
    table = Table((Column("x", "x", form="+.2f"),), ((tables.Rounded(1 / 3, 1),),))
    assert table.cells("–") == [["+0.3"]]
    assert float(list(csv.reader(io.StringIO(tables.to_csv(table))))[1][0]) == 1 / 3
    assert json.loads(tables.to_json(table)) == [{"x": 1 / 3}]


def test_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values in a table of 1 columns"):
        Table((Column("a", "a"),), ((1, 2),))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine")
def test_latex_compiles(tmp_path: Path) -> None:
    everything = Table((Column("a", "a"),), tuple((f"x{character}y",) for character in tables.LATEX), "±", "tab:all")
    body = tables.to_latex(TABLE) + tables.to_latex(everything)
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
