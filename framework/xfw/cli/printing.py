"""Print tables and JSON on the standard output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from xfw.terminal import Grid, render

__all__ = ["print_json", "print_table"]


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), caption: str = ""
) -> None:
    """Print rows of text under titles, those named in ``right`` set to the right, in the width of the terminal."""
    grid = Grid(tuple(titles), tuple(map(tuple, rows)), tuple(title in right for title in titles), caption)
    click.echo(render(grid), nl=False)
