"""What reaches a terminal: text without control characters, and tables that fit its width.

In a table that is too wide headings wrap first, then repeated text moves out of the rows.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import attrs

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Grid", "Screen", "console", "counted", "duration", "plain", "render", "terminal_width"]

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal acts on, or hides text with: all controls but tab and line feed, changes of direction, surrogates."""

ASCII = str.maketrans({"─": "-", "–": "-", "−": "-", "×": "x", "…": "...", "±": "+-"})
"""What stands for our own signs where the terminal's encoding lacks them."""

PIPE = 120
"""Columns where the output goes into a file or pipe and ``COLUMNS`` is not set."""

GAP = "  "
NARROWEST = 12
"""Text columns are not made narrower than this, or than their longest word if that is shorter."""

BREAKS = re.compile(r"(?<=[,;/=_|-])")


def plain(text: str) -> str:
    """Return text with control characters escaped as ``\\u001b``, which keeps JSON what it was."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Screen(io.TextIOBase):
    """A stream onto which any text can be written: what it must not or cannot show is escaped.

    The command line puts one in the place of the standard output and of the error stream. ``controls`` lets control
    characters through, for what has escaped them itself.
    """

    def __init__(self, stream: TextIO, *, controls: bool = False) -> None:
        self.stream = stream.stream if isinstance(stream, Screen) else stream
        self._controls = controls

    # Libraries that look at the encoding must not write around this stream.
    encoding = "utf-8"
    errors = "backslashreplace"

    def write(self, text: str) -> int:
        """Write text, and return its length."""
        shown = text if self._controls else plain(text)
        encoding = self.stream.encoding or "utf-8"
        try:
            shown.encode(encoding)
        except UnicodeEncodeError:
            shown = shown.translate(ASCII).encode(encoding, "backslashreplace").decode(encoding)
        self.stream.write(shown)
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return a rich console whose own control sequences reach the terminal, and no others.

    When its reader goes away it falls silent, and whoever prints goes on.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Safe(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True

        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(plain(segment.text), segment.style)

    screen: Any = Screen(sys.stderr if stderr else sys.stdout, controls=True)
    return Safe(file=screen, width=width)


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
    grid = attrs.evolve(grid, rows=tuple(tuple(map(plain, row)) for row in grid.rows), caption=plain(grid.caption))
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


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Return a time in words, to two units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
