"""Where an analyzer puts its tables and figures: printed, and written as files of the wanted formats."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xfw.analysis import figures, tables
from xfw.errors import UserError, WrongInput, did_you_mean
from xfw.store import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

__all__ = ["FORMATS", "Output"]

TABLES = ("md", "csv", "tex")
FORMATS = (*TABLES, "json", *figures.FORMATS)
"""The formats that ``--format`` knows; JSON tables are written on request only."""


class Output:
    """Collect what one command makes.

    Tables are printed and written as Markdown, CSV and LaTeX, figures as PDF, SVG and PNG; ``formats``
    narrows that down. The directory is made with the first file. ``console`` None prints nothing. ``failures`` holds
    what could not be made, each with its error.
    """

    def __init__(self, directory: Path, *, formats: Sequence[str] = (), console: Console | None = None) -> None:
        for form in formats:
            if form not in FORMATS:
                raise WrongInput(f"--format: unknown format '{form}'", hint=did_you_mean(form, FORMATS))
        self.directory = directory
        self.paths: list[Path] = []
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.failures: list[tuple[str, Exception | SystemExit]] = []
        self._formats = tuple(formats)
        self._console = console

    def wants(self, form: str) -> bool:
        """Say whether files of this format are made."""
        return form in self._formats if self._formats else form != "json"

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Go on after an error inside, which takes ``what`` alone with it: the command names it and exits with 1."""
        try:
            yield
        except (Exception, SystemExit) as error:  # noqa: BLE001  the code inside is a plugin's, and other results do not rest on it
            self.failures.append((what, error))

    def say(self, text: str) -> None:
        """Print one line of plain text."""
        if self._console is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print one line of warning on the error stream, so that standard output stays what was asked for."""
        sys.stderr.write(f"{text}\n")

    def table(self, name: str, table: tables.Table, *, latex: str | None = None, shown: bool = True) -> None:
        """Print a table and write it under this name in every wanted format; ``latex`` replaces our own LaTeX.

        One that is not ``shown`` is written only.
        """
        self.tables[name] = tables.as_objects(table)
        for form, write in tables.WRITERS.items():
            if self.wants(form):
                text = latex if form == "tex" and latex is not None else write(table)
                self.file(f"{name}.{form}", text.encode())
        if shown and self._console is not None:
            self._console.print(tables.to_text(table), markup=False, highlight=False, soft_wrap=True, end="")
            for note in table.notes:
                self.say(note)
            self.say("")

    def data(self, name: str, table: tables.Table) -> None:
        """Write the numbers behind a figure as CSV, without printing them."""
        if self.wants("csv"):
            self.file(f"{name}.csv", tables.to_csv(table).encode())

    def figure(self, name: str, figure: Figure) -> None:
        """Write a figure under this name in every wanted format."""
        for form in figures.FORMATS:
            if self.wants(form):
                self.file(f"{name}.{form}", figures.render(figure, form))

    def document(self, name: str, text: str, place: str | None = None) -> Path | None:
        """Write text as a file of this name, or to the path that the user named; ``-`` prints it as it is."""
        if place != "-":
            return self.file(name, text.encode()) if place is None else self._write(Path(place), text.encode())
        if self._console is not None:
            self._console.file.write(text)
        return None

    def file(self, name: str, content: bytes, *, exact: bool = False) -> Path:
        """Write one file into the directory, replacing an older one, and remember its path.

        The name is made safe for shells, unless it is published and so must be ``exact``.
        """
        return self._write(self.directory / (name if exact else safe_name(name)), content)

    def _write(self, path: Path, content: bytes) -> Path:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.publish(path, content)
        except OSError as error:
            hint = "choose another place with -o DIR"
            raise UserError(f"cannot write '{path}': {error.strerror or error}", hint=hint, exit_code=2) from error
        if path not in self.paths:
            self.paths.append(path)
        return path


def reason_of(error: Exception | SystemExit) -> str:
    """Return why something failed in one line: what an error for users says, else the error and where it arose."""
    if isinstance(error, UserError):
        return "; ".join(" ".join(part.split()) for part in (error.what, error.hint) if part)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({Path(place[0].filename).name}, line {place[0].lineno})" if place else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def safe_name(name: str) -> str:
    """Return a file name of letters, digits, dots, dashes and underscores (``*`` as ``x``)."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "_", name.replace("*", "x")).strip("_")
