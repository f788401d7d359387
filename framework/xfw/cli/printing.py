"""Print tables and JSON on the standard output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_json", "print_table"]

WIDE = 200
"""Columns of a table that no terminal limits."""


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(table: Table) -> None:
    """Print a table in the width of the terminal; into a pipe or file it is not cut."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(table)
