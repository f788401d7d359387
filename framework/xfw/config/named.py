"""Find ``experiments.toml`` and read the named runs it holds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
from cattrs.errors import BaseValidationError

from xfw.config.structure import problems_of
from xfw.errors import Problem, UserError, WrongInput

__all__ = ["FILE", "NamedRun", "find_file", "load_named_runs", "read_file"]

FILE = "experiments.toml"


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


@attrs.frozen
class Table:
    """One table of ``experiments.toml``, as written."""

    plugin: str
    preset: str | None = None
    overrides: dict[str, Any] = attrs.field(factory=dict)
    sweep: dict[str, Any] = attrs.field(factory=dict)
    trials: int | None = None
    help: str = ""


def find_file(start: Path) -> Path | None:
    """Return the nearest ``experiments.toml`` from a folder upwards."""
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    return None


def load_named_runs(start: Path, plugins: Iterable[str]) -> dict[str, NamedRun]:
    """Return the named runs of the nearest ``experiments.toml``; raise ``WrongInput`` where it is wrong."""
    path = find_file(start)
    return {} if path is None else read_file(path, plugins)


def read_file(path: Path, plugins: Iterable[str]) -> dict[str, NamedRun]:
    """Return the named runs of one file; raise ``WrongInput`` where it is wrong or a name is that of a plugin."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"cannot read {path}: {error}", hint="correct the file or run elsewhere", exit_code=2
        ) from error
    taken = {name.replace("-", "_") for name in plugins}
    runs = {name: named_run(name, table, path) for name, table in tables.items()}
    clashes = [name for name in runs if name.replace("-", "_") in taken]
    if clashes:
        problems = [Problem(f"$.{name}", "is a plugin's name", "give the named run another name") for name in clashes]
        raise WrongInput(f"{path}: wrong named runs", problems)
    return runs


def named_run(name: str, table: Any, path: Path) -> NamedRun:
    """Return one named run; raise ``WrongInput`` with all problems of its table."""
    if not isinstance(table, dict):
        raise WrongInput(f"{path}: wrong named run", [Problem(f"$.{name}", f"found {table!r}, expected a table")])
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind, words in ((int, "a whole number"), (str, "text")):
        converter.register_structure_hook(kind, strict(kind, words))
    try:
        read = converter.structure(table, Table)
    except BaseValidationError as error:
        raise WrongInput(f"{path}: wrong named run", list(problems_of(error, f"$.{name}"))) from None
    return NamedRun(name=name, folder=path.parent, **attrs.asdict(read, recurse=False))


def strict(kind: type, words: str) -> Any:
    """Return a structure hook that takes values of one type only."""

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"found {value!r}, expected {words}")
        return value

    return hook
