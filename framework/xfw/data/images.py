"""The values that the data part works with. Imports no torch."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import attrs

from xfw.errors import WrongInput

if TYPE_CHECKING:
    import torch

__all__ = ["File", "ImageData", "NamedSet"]


@attrs.frozen(eq=False)
class ImageData:
    """Hold labelled images as stored: bytes of shape (N, H, W) from 0 to ``white``, and int64 labels."""

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    white: int = 255


Content = bytes


@attrs.frozen
class File:
    """A file of a data set, by its path below a data directory; ``also`` lists other names it is known under."""

    path: str
    bytes: int
    md5: str
    also: tuple[str, ...] = ()

    def places(self, folder: Path) -> list[Path]:
        """Return the existing files that may be this one, packed by gzip or not, the usual place first.

        Raises ``WrongInput`` where a folder cannot be read.
        """
        usual = PurePath(self.path)
        folders = dict.fromkeys((usual.parent, *usual.parents, *(PurePath(str(up).lower()) for up in usual.parents)))
        names = [f"{name}{packed}" for name in (usual.name, *self.also) for packed in ("", ".gz")]
        try:
            return [path for below in folders for name in names if (path := folder / below / name).exists()]
        except PermissionError as error:
            raise WrongInput(f"no permission to read '{error.filename}'") from error

    def read(self, folder: Path) -> Content:
        """Return the content of the first of ``places`` with the right checksum; raises ``WrongInput`` otherwise."""
        reasons = []
        for path in self.places(folder):
            try:
                with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                    content = file.read(self.bytes + 1)
            except (OSError, EOFError, zlib.error) as error:
                reasons.append(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}")
                continue
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found == self.md5:
                return content
            reasons.append(f"'{path}' is damaged: found MD5 {found}, expected {self.md5}")
        what = "\n".join(reasons) or f"cannot read '{folder / self.path}': there is no such file"
        raise WrongInput(what, hint="put the original file there, or remove it and fetch it again: xfw data fetch NAME")


@attrs.frozen
class NamedSet:
    """A data set that plugins ask for by name.

    ``load`` receives the folder that holds the files (nothing, if embedded) and the plugin's options;
    ``fetch`` a folder to download into (None: embedded, nothing to fetch).
    """

    name: str
    summary: str
    origin: str
    licence: str
    train: int
    test: int
    shape: tuple[int, int]
    classes: int
    load: Callable[..., ImageData]
    files: Sequence[File] = ()
    fetch: Callable[[Path], None] | None = None
    options: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def embedded(self) -> bool:
        """Say whether the set comes with an installed package."""
        return self.fetch is None

    def describe(self) -> dict[str, Any]:
        """Return everything that ``xfw data describe`` shows."""
        return {
            "name": self.name,
            "summary": self.summary,
            "embedded": self.embedded,
            "origin": self.origin,
            "licence": self.licence,
            "train": self.train,
            "test": self.test,
            "shape": list(self.shape),
            "classes": self.classes,
            "options": dict(self.options),
            "files": [{"path": file.path, "bytes": file.bytes, "md5": file.md5} for file in self.files],
        }
