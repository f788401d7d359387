"""The images, standardised and split once and for all: the split does not depend on the run's seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import torch
from xfw import Dataset

from xfw_psa.config import Config

if TYPE_CHECKING:
    from xfw.data.sources import ImageData, Sources

__all__ = ["SIZES", "SPLIT_SEED", "Sizes", "load", "permutation", "standardise"]

SPLIT_SEED = 1337
MEAN, DEVIATION = 0.1307, 0.3081


@attrs.frozen
class Sizes:
    """Numbers of images of the three splits."""

    train: int
    validation: int
    test: int


SIZES = {"mnist": Sizes(50_000, 10_000, 10_000), "digits": Sizes(1_197, 300, 300)}


def load(config: Config, sources: Sources) -> dict[str, Dataset]:
    """Return the data sets ``train``, ``validation`` and ``test`` as flattened bytes with labels."""
    if config.data == "digits":
        return sources.derived("digits", lambda: _split_digits(sources.load("digits", size=28, scale="repeat")))
    return sources.derived("mnist", lambda: _split_mnist(sources.load("mnist")))


def permutation(count: int) -> torch.Tensor:
    """Return the order of which the splits are consecutive parts (that of ``random_split`` with this seed)."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))


def standardise(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale bytes to [0, 1] and subtract mean and divide by deviation, as the original's code does."""
    return (images / 255 - MEAN) / DEVIATION, labels


def _split_mnist(images: ImageData) -> dict[str, Dataset]:
    sizes = SIZES["mnist"]
    order = permutation(len(images.train_labels))
    return {
        "train": _dataset(images.train_images, images.train_labels, order[: sizes.train]),
        "validation": _dataset(images.train_images, images.train_labels, order[sizes.train :]),
        "test": Dataset((images.test_images.flatten(1), images.test_labels), prepare=standardise),
    }


def _split_digits(images: ImageData) -> dict[str, Dataset]:
    sizes = SIZES["digits"]
    order = permutation(len(images.train_labels))
    parts = torch.split(order, [sizes.train, sizes.validation, sizes.test])
    named = zip(("train", "validation", "test"), parts, strict=True)
    return {name: _dataset(images.train_images, images.train_labels, part) for name, part in named}


def _dataset(images: torch.Tensor, labels: torch.Tensor, chosen: torch.Tensor) -> Dataset:
    return Dataset((images[chosen].flatten(1), labels[chosen]), prepare=standardise)
