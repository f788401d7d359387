"""Lay a table out as plain text that fits a terminal: headings wrap first, then repeated text moves out of the rows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence

import attrs

__all__ = ["Grid", "render", "terminal_width"]

PIPE = 120
"""Columns where the output goes into a file or pipe and ``COLUMNS`` is not set."""

GAP = "  "
NARROWEST = 12
"""Text columns are not made narrower than this, or than their longest word if that is shorter."""

BREAKS = re.compile(r"(?<=[,;/=_|-])")


@attrs.frozen
class Grid:
    """Cells of text under titles; ``right`` says which columns are set to the right, as numbers are.

    Text that rows repeat leaves the rows of a ``compact`` table where the terminal is too narrow.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]
    caption: str = ""
    compact: bool = False

    def without(self, places: Sequence[int]) -> Grid:
        """Return the grid without some columns."""
        keep = [place for place in range(len(self.titles)) if place not in places]
        return attrs.evolve(
            self,
            titles=tuple(self.titles[place] for place in keep),
            rows=tuple(tuple(row[place] for place in keep) for row in self.rows),
            right=tuple(self.right[place] for place in keep),
        )


def terminal_width() -> int:
    """Return the columns of the terminal; ``COLUMNS`` overrides it."""
    return shutil.get_terminal_size((PIPE, 40)).columns


def render(grid: Grid, width: int | None = None) -> str:
    """Return the table as text of at most ``width`` columns (by default the terminal's) where its numbers allow it."""
    limit = terminal_width() if width is None else width
    lines = [*fold(grid.caption, limit)] if grid.caption else []
    heads: tuple[str, ...] = ()
    widths = wrapped_titles(grid, limit)
    if grid.compact and total(widths) > limit:
        shared = shared_columns(grid)
        if shared:
            lines += fold(
                "in every row: " + ", ".join(f"{grid.titles[place]} {grid.rows[0][place]}" for place in shared), limit
            )
            grid = grid.without(shared)
            widths = wrapped_titles(grid, limit)
    if grid.compact and total(widths) > limit and repeats(grid):
        heads, grid = tuple(row[0] for row in grid.rows), grid.without([0])
        widths = wrapped_titles(grid, limit)
    widths = narrowed(grid, widths, limit)
    return "\n".join([*lines, *body(grid, widths, heads)]) + "\n"


def total(widths: Sequence[int]) -> int:
    """Return the columns that a row takes."""
    return sum(widths) + len(GAP) * (len(widths) - 1)


def wrapped_titles(grid: Grid, limit: int) -> list[int]:
    """Return the widths of the columns: those of titles and cells, or where that is too much with wrapped titles."""
    cells = [max((len(row[place]) for row in grid.rows), default=0) for place in range(len(grid.titles))]
    whole = [max(cell, len(title)) for cell, title in zip(cells, grid.titles, strict=True)]
    if total(whole) <= limit:
        return whole
    return [max(cell, longest_word(title)) for cell, title in zip(cells, grid.titles, strict=True)]


def longest_word(text: str) -> int:
    """Return the length of the longest word."""
    return max(map(len, text.split()), default=0)


def shared_columns(grid: Grid) -> list[int]:
    """Return the columns of text, after the first, that say the same in every row."""
    if len(grid.rows) < 2:
        return []
    return [
        place
        for place in range(1, len(grid.titles))
        if not grid.right[place] and grid.rows[0][place].strip() and len({row[place] for row in grid.rows}) == 1
    ]


def repeats(grid: Grid) -> bool:
    """Say whether the first column says the same in rows that follow each other, and is text."""
    return not grid.right[0] and any(one[0] == other[0] for one, other in zip(grid.rows, grid.rows[1:], strict=False))


def narrowed(grid: Grid, widths: Sequence[int], limit: int) -> list[int]:
    """Return widths that fit, by taking from the widest columns of text; numbers keep theirs."""
    found = list(widths)
    least = [min(width, max(NARROWEST, longest_word(title))) for width, title in zip(widths, grid.titles, strict=True)]
    while total(found) > limit:
        wide = [place for place, width in enumerate(found) if not grid.right[place] and width > least[place]]
        if not wide:
            return found
        found[max(wide, key=lambda place: found[place])] -= 1
    return found


def body(grid: Grid, widths: Sequence[int], heads: Sequence[str]) -> Iterator[str]:
    """Yield titles, rule and rows; a head that differs from the one before stands on a line of its own."""
    titles = [fold(title, width) for title, width in zip(grid.titles, widths, strict=True)]
    height = max(map(len, titles), default=0)
    yield from joined([[""] * (height - len(title)) + title for title in titles], widths, grid.right)
    yield "─" * total(widths)
    before = None
    for number, row in enumerate(grid.rows):
        if heads and heads[number] != before:
            before = heads[number]
            yield before
        yield from joined([fold(cell, width) for cell, width in zip(row, widths, strict=True)], widths, grid.right)


def joined(cells: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    """Yield the lines of one row of folded cells."""
    for line in range(max(map(len, cells), default=0)):
        parts = [cell[line] if line < len(cell) else "" for cell in cells]
        placed = [
            part.rjust(width) if at_right else part.ljust(width)
            for part, width, at_right in zip(parts, widths, right, strict=True)
        ]
        yield GAP.join(placed).rstrip()


def fold(text: str, width: int) -> list[str]:
    """Return text in lines, broken at spaces, else after punctuation, else anywhere."""
    lines = [""]
    for word in text.split():
        for number, piece in enumerate(pieces(word, width)):
            joint = " " if lines[-1] and not number else ""
            if lines[-1] and len(lines[-1]) + len(joint) + len(piece) > width:
                lines.append(piece)
            else:
                lines[-1] += joint + piece
    return lines


def pieces(word: str, width: int) -> list[str]:
    """Return a word, or its parts where it is too long for a line."""
    if len(word) <= width:
        return [word]
    return [part[start : start + width] for part in BREAKS.split(word) for start in range(0, len(part), width)]
