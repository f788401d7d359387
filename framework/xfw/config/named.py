"""Find ``experiments.toml`` and read the named runs it holds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from xfw.config.points import read_text
from xfw.errors import Problem, UserError, WrongInput, did_you_mean, shortened

__all__ = ["FILE", "NamedRun", "find_file", "load_named_runs", "read_file", "strict"]

FILE = "experiments.toml"

DEEPEST = 32
"""Tables and lists within each other."""


@attrs.frozen
class NamedRun:
    """A run by name: an experiment, a preset, values by key path, axes of a sweep, a number of trials."""

    name: str
    plugin: str
    folder: Path
    preset: str | None = None
    overrides: Mapping[str, Any] = attrs.field(factory=dict)
    sweep: Mapping[str, Any] = attrs.field(factory=dict)
    trials: int | None = None
    help: str = ""


ENTRIES: Mapping[str, tuple[type, str]] = {
    "plugin": (str, "text"),
    "preset": (str, "text"),
    "overrides": (dict, "a table"),
    "sweep": (dict, "a table"),
    "trials": (int, "a whole number"),
    "help": (str, "text"),
}
"""What a table of ``experiments.toml`` may hold."""


def find_file(start: Path) -> Path | None:
    """Return the nearest ``experiments.toml`` from a folder upwards."""
    return next((folder / FILE for folder in (start, *start.parents) if (folder / FILE).is_file()), None)


def load_named_runs(start: Path, plugins: Iterable[str]) -> dict[str, NamedRun]:
    """Return the named runs of the nearest ``experiments.toml``; raise ``WrongInput`` where it is wrong."""
    path = find_file(start)
    return {} if path is None else read_file(path, plugins)


def read_file(path: Path, plugins: Iterable[str]) -> dict[str, NamedRun]:
    """Return the named runs of one file; raise ``WrongInput`` where it is wrong or a name is that of a plugin."""
    try:
        tables = tomllib.loads(read_text(path))
        if _deeper(tables, DEEPEST):
            raise ValueError(f"more than {DEEPEST} tables or lists within each other")
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else shortened(str(error))
        hint = "correct the file or run elsewhere"
        raise UserError(f"cannot read {path}: {reason}", hint=hint, exit_code=2) from None
    taken = {name.replace("-", "_") for name in plugins}
    problems = [problem for name, table in tables.items() for problem in _problems(name, table)]
    problems += [
        Problem(f"$.{name}", "is a plugin's name", "give the named run another name")
        for name in tables
        if name.replace("-", "_") in taken
    ]
    if problems:
        raise WrongInput(f"{path}: wrong named runs", problems)
    return {name: NamedRun(name=name, folder=path.parent, **table) for name, table in tables.items()}


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    return levels == 0 or any(
        _deeper(item, levels - 1) for item in (value.values() if isinstance(value, dict) else value)
    )


def _problems(name: str, table: Any) -> Iterator[Problem]:
    """Yield what is wrong with one table."""
    if not isinstance(table, dict):
        yield Problem(f"$.{name}", f"found {shortened(repr(table))}, expected a table")
        return
    for entry, value in table.items():
        if entry not in ENTRIES:
            yield Problem(f"$.{name}.{entry}", f"unknown key '{entry}'", did_you_mean(entry, ENTRIES))
        elif type(value) is not ENTRIES[entry][0]:
            yield Problem(f"$.{name}.{entry}", f"found {shortened(repr(value))}, expected {ENTRIES[entry][1]}")
    if "plugin" not in table:
        yield Problem(f"$.{name}.plugin", "missing, and it has no default")


def strict(kind: type, words: str) -> Any:
    """Return a structure hook that takes values of one type only."""

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"found {value!r}, expected {words}")
        return value

    return hook
