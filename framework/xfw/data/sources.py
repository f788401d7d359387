"""Find data sets by name: embedded, in a data directory, in the user's cache, or downloaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from xfw.data.digits import DIGITS
from xfw.data.images import ImageData, NamedSet
from xfw.data.mnist import MNIST
from xfw.errors import UserError, WrongInput, did_you_mean

__all__ = ["DATA_SETS", "ImageData", "Sources", "cache_dir", "check_data_dir", "named_set"]

DATA_SETS: Mapping[str, NamedSet] = {each.name: each for each in (DIGITS, MNIST)}
VARIABLE = "XFW_DATA_DIR"
T = TypeVar("T")


def named_set(name: str) -> NamedSet:
    """Return a data set by name; raises ``WrongInput`` with the nearest one."""
    if name not in DATA_SETS:
        raise WrongInput(f"unknown data set '{name}'", hint=f"{did_you_mean(name, DATA_SETS)}   all: xfw data list")
    return DATA_SETS[name]


def cache_dir() -> Path:
    """Return the user's directory for downloaded data sets."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "xfw" / "data"


def check_data_dir(data_dir: str | None) -> Path | None:
    """Return ``--data-dir`` as a path; raises ``WrongInput`` if it does not exist or cannot be read."""
    if not data_dir:
        return None
    path = Path(data_dir).expanduser()
    if not path.exists():
        raise WrongInput(f"--data-dir: no directory '{data_dir}'")
    if not path.is_dir():
        raise WrongInput(f"--data-dir: '{data_dir}' is not a directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise WrongInput(f"--data-dir: no permission to read '{data_dir}'")
    return path


class Sources:
    """Load data sets for one run; ``data_dir`` is the folder that the user named, or None.

    Folders are searched in the order ``data_dir``, XFW_DATA_DIR, the user's cache. Without ``data_dir`` a
    set that is in none of them is downloaded to the cache.
    """

    def __init__(self, data_dir: str | None = None) -> None:
        self._explicit = check_data_dir(data_dir)

    def folders(self) -> list[Path]:
        """Return the folders to search, in order."""
        named = [self._explicit, os.environ.get(VARIABLE), cache_dir()]
        return [Path(each).expanduser() for each in named if each]

    def find(self, name: str) -> Path | None:
        """Return the first folder that holds every file of a set, or None."""
        files = named_set(name).files
        complete = (folder for folder in self.folders() if all(_exists(folder / file.path) for file in files))
        return next(complete, None)

    def load(self, name: str, **options: Any) -> ImageData:
        """Return a data set, downloaded if it must be; raises ``UserError`` with what was looked for and where."""
        chosen = named_set(name)
        if chosen.embedded:
            return chosen.load(**options)
        return chosen.load(self.find(name) or self._download(chosen), **options)

    def derived(self, name: str, make: Callable[[], T]) -> T:  # noqa: ARG002
        """Return what ``make`` returns; while many shapes are planned, what it returned before under this name.

        For data that a plugin cuts from a set in the same way whatever the configuration says.
        """
        return make()

    def _download(self, chosen: NamedSet) -> Path:
        if self._explicit is not None:
            raise self._missing(chosen, "not downloaded because --data-dir was given")
        assert chosen.fetch is not None
        folder = cache_dir()
        try:
            chosen.fetch(folder)
        except UserError as error:
            raise self._missing(chosen, error.what) from error
        return folder

    def _missing(self, chosen: NamedSet, reason: str) -> WrongInput:
        searched = self.folders()
        best = max(searched, key=lambda folder: sum(_exists(folder / file.path) for file in chosen.files))
        files = [file.path for file in chosen.files if not _exists(best / file.path)]
        lines = [
            f"data set '{chosen.name}' was not found ({reason})",
            f"  files: {', '.join(files)}",
            f"  searched: {', '.join(str(folder) for folder in searched)}",
        ]
        return WrongInput("\n".join(lines), hint="without a download: -s data=digits (embedded)")


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError as error:
        raise WrongInput(f"no permission to read '{path.parent}'") from error
