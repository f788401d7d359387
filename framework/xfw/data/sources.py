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

DATA_SETS: Mapping[str, NamedSet] = {data_set.name: data_set for data_set in (DIGITS, MNIST)}
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


def check_data_dir(data_dir: str | None, named: str = "--data-dir") -> Path | None:
    """Return a folder of data sets as a path; raises ``WrongInput`` if it does not exist or cannot be read."""
    if not data_dir:
        return None
    path = Path(os.path.expanduser(data_dir))  # noqa: PTH111
    if not path.exists():
        raise WrongInput(f"{named}: no directory '{data_dir}'")
    if not path.is_dir():
        raise WrongInput(f"{named}: '{data_dir}' is not a directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise WrongInput(f"{named}: no permission to read '{data_dir}'")
    return path


class Sources:
    """Load data sets for one run; ``data_dir`` is the folder that the user named, or None.

    A folder that is named is the only one that is searched. Without one, XFW_DATA_DIR and the user's cache are, and a
    set that is in neither is downloaded to the cache, unless ``download`` is False (a plan that is only shown).
    """

    def __init__(self, data_dir: str | None = None, *, download: bool = True) -> None:
        self._explicit = check_data_dir(data_dir)
        self._may_download = download

    def folders(self) -> list[Path]:
        """Return the folders to search, in order; raises ``WrongInput`` where XFW_DATA_DIR names none."""
        if self._explicit is not None:
            return [self._explicit]
        named = check_data_dir(os.environ.get(VARIABLE), VARIABLE)
        return [*([] if named is None else [named]), cache_dir()]

    def find(self, name: str) -> Path | None:
        """Return the first folder that holds every file of a set, or None."""
        files = named_set(name).files
        return next((folder for folder in self.folders() if all(file.places(folder) for file in files)), None)

    def load(self, name: str, **options: Any) -> ImageData:
        """Return a data set, downloaded if it must be; raises ``UserError`` with what was looked for and where."""
        chosen = named_set(name)
        if chosen.fetch is None:
            return chosen.load(**options)
        folder = self.find(name)
        if folder is None:
            if self._explicit is not None:
                raise self._missing(chosen, "nothing is downloaded where --data-dir is given")
            if not self._may_download:
                raise self._missing(chosen, "a dry run downloads nothing")
            folder = cache_dir()
            try:
                chosen.fetch(folder)
            except UserError as error:
                raise self._missing(chosen, error.what) from error
        return chosen.load(folder, **options)

    def derived(self, name: str, make: Callable[[], T]) -> T:  # noqa: ARG002
        """Return what ``make`` returns; while many shapes are planned, what it returned before under this name.

        For data that a plugin cuts from a set in the same way whatever the configuration says.
        """
        return make()

    def _missing(self, chosen: NamedSet, reason: str) -> WrongInput:
        searched = self.folders()
        best = max(searched, key=lambda folder: sum(bool(file.places(folder)) for file in chosen.files))
        lines = [
            f"data set '{chosen.name}' was not found ({reason})",
            f"  files: {', '.join(file.path for file in chosen.files if not file.places(best))}",
            f"  searched: {', '.join(str(folder) for folder in searched)}",
        ]
        holds = [path.relative_to(folder) for folder in searched for path in sorted(folder.glob("[!.]*"))[:5]]
        if holds:
            lines.append(f"  found there: {', '.join(map(str, holds[:10]))}")
        return WrongInput(
            "\n".join(lines),
            hint=f"name the folder that holds them with --data-dir or {VARIABLE}, or fetch them: "
            f"xfw data fetch {chosen.name}; without a download: -s data=digits (embedded)",
        )
