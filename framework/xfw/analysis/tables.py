"""One table, shown in a terminal, or written as Markdown, CSV, LaTeX (booktabs) or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from xfw.terminal import Grid, render

__all__ = [
    "WRITERS",
    "Column",
    "Rounded",
    "Table",
    "decimals_of",
    "escape_latex",
    "rounding_like",
    "to_csv",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_text",
]

FEWEST, MOST = 1e-12, 9
"""The smallest spread, relative to the value, that is more than rounding, and the most decimals in fixed notation."""


class Rounded(float):
    """A number that people read with ``digits`` decimals; files for programs keep it whole."""

    digits: int

    def __new__(cls, value: float, digits: int) -> Rounded:
        """Return the number; ``digits`` is negative where not even its last whole digit counts."""
        number = super().__new__(cls, value)
        number.digits = digits
        return number

    def __format__(self, form: str) -> str:
        """Return the text: ``+`` in the form adds the sign."""
        sign = "+" if form.startswith("+") else ""
        if self.digits <= MOST and abs(self) < 1e15:
            digits = max(0, self.digits)
            return f"{round(float(self), digits) + 0.0:{sign}.{digits}f}"
        size = math.floor(math.log10(abs(self))) if self else 0
        return f"{float(self):{sign}.{max(0, min(15, self.digits + size))}e}"


def decimals_of(scale: float) -> int:
    """Return the decimals that show two digits of a number of this size; negative where whole digits suffice."""
    return 1 - math.floor(math.log10(scale)) if 0 < scale < math.inf else 2


def rounding_like(spread: float, *values: float) -> tuple[Rounded, ...]:
    """Return values with two digits of their spread, or four of the largest where they have none."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    digits = decimals_of(spread if spread > FEWEST * largest else largest / 100)
    return tuple(Rounded(value, digits) for value in values)


@attrs.frozen
class Column:
    """One column: ``name`` for CSV and JSON, ``header`` and ``unit`` for people, and how numbers are printed."""

    name: str
    header: str
    unit: str = ""
    form: str = ""

    @property
    def title(self) -> str:
        """Return the heading with its unit."""
        return f"{self.header} ({self.unit})" if self.unit and self.unit != "1" else self.header

    @property
    def numeric(self) -> bool:
        """Say whether the column holds numbers, set to the right."""
        return bool(self.form)


@attrs.frozen
class Table:
    """Rows under columns. A value that is missing is None or NaN; CSV and JSON keep full precision."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""
    label: str = ""
    notes: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} values in a table of {len(self.columns)} columns")

    def cells(self, missing: str) -> list[list[str]]:
        """Return the text of every cell as people read it."""
        return [
            [_cell(value, column, missing) for value, column in zip(row, self.columns, strict=True)]
            for row in self.rows
        ]


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _cell(value: Any, column: Column, missing: str) -> str:
    if _is_missing(value):
        return missing
    if isinstance(value, Rounded):
        return format(value, column.form)
    return format(value, column.form) if column.numeric and not isinstance(value, str) else str(value)


def to_text(table: Table, width: int | None = None) -> str:
    """Return the table as text for a terminal, by default as wide as this one; the notes are left out."""
    titles = tuple(column.title for column in table.columns)
    right = tuple(column.numeric for column in table.columns)
    return render(Grid(titles, tuple(map(tuple, table.cells("–"))), right, table.caption, compact=True), width)


def to_markdown(table: Table) -> str:
    """Return the table in Markdown, with the caption before it and the notes after it."""
    titles = [_escape_markdown(column.title) for column in table.columns]
    rules = ["--:" if column.numeric else "---" for column in table.columns]
    body = [[_escape_markdown(cell) for cell in row] for row in table.cells("–")]
    lines = ["| " + " | ".join(row) + " |" for row in (titles, rules, *body)]
    before = [_escape_markdown(table.caption), ""] if table.caption else []
    after = [line for note in table.notes for line in ("", _escape_markdown(note))]
    return "\n".join([*before, *lines, *after]) + "\n"


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text.replace("\n", " "))


def to_csv(table: Table) -> str:
    """Return the table as CSV with full precision; what is missing is empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    writer.writerows([["" if _is_missing(value) else _exact(value) for value in row] for row in table.rows])
    return file.getvalue()


def _exact(value: Any) -> str:
    return repr(float(value)) if isinstance(value, float) else str(value)


def to_json(table: Table) -> str:
    """Return the table as a JSON list of objects by column name."""
    return json.dumps(as_objects(table), indent=2, ensure_ascii=False) + "\n"


def as_objects(table: Table) -> list[dict[str, Any]]:
    """Return the rows as mappings by column name; what is missing is None."""
    names = [column.name for column in table.columns]
    return [
        {name: None if _is_missing(value) else value for name, value in zip(names, row, strict=True)}
        for row in table.rows
    ]


def to_latex(table: Table) -> str:
    """Return a ``table`` environment that needs the package booktabs only."""
    letters = "".join("r" if column.numeric else "l" for column in table.columns)
    titles = " & ".join(escape_latex(column.title) for column in table.columns)
    rows = [" & ".join(escape_latex(cell) for cell in row) + r" \\" for row in table.cells("--")]
    lines = [
        r"\begin{table}",
        r"  \centering",
        *([rf"  \caption{{{escape_latex(table.caption)}}}"] if table.caption else []),
        *([rf"  \label{{{table.label}}}"] if table.label else []),
        rf"  \begin{{tabular}}{{@{{}}{letters}@{{}}}}",
        r"    \toprule",
        rf"    {titles} \\",
        r"    \midrule",
        *(f"    {row}" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        *(rf"  \par\smallskip\footnotesize {escape_latex(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": r"{[}",
    "]": r"{]}",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\to$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "ε": r"$\varepsilon$",
    "η": r"$\eta$",
    "θ": r"$\theta$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "µ": r"$\mu$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "\n": " ",
}
"""What LaTeX cannot take as it is. Brackets are held in braces, since ``\\\\ [`` would begin an argument."""


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(LATEX.get(character, character) for character in text)


WRITERS: Mapping[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "tex": to_latex,
    "json": to_json,
}
"""Writers of tables by the suffix of the file."""


def columns(*described: Sequence[str]) -> tuple[Column, ...]:
    """Return columns from (name, header, unit, form) texts, the last two optional."""
    return tuple(Column(*each) for each in described)
