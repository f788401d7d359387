"""The values that the data part works with. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

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


@attrs.frozen
class File:
    """A file of a data set, by its path below a data directory."""

    path: str
    bytes: int
    md5: str


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
            "files": [attrs.asdict(file) for file in self.files],
        }
