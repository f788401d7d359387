"""MNIST from its four raw IDX files, checked against the published checksums."""

from __future__ import annotations

import tempfile
import urllib.error
from pathlib import Path

import numpy as np

from xfw.data.images import File, ImageData, NamedSet
from xfw.errors import UserError, WrongInput

__all__ = ["MNIST", "fetch", "load", "read_idx"]

FILES = tuple(
    File(f"MNIST/raw/{name}", size, md5, also=(name.replace("-idx", ".idx"),))
    for name, size, md5 in (
        ("train-images-idx3-ubyte", 47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
        ("train-labels-idx1-ubyte", 60_008, "a25bea736e30d166cdddb491f175f624"),
        ("t10k-images-idx3-ubyte", 7_840_016, "2646ac647ad5339dbf082846283269ea"),
        ("t10k-labels-idx1-ubyte", 10_008, "27ae3e4e09519cfbb04c329615203637"),
    )
)


def load(folder: Path) -> ImageData:
    """Read MNIST below the data directory ``folder``; raises ``WrongInput`` for a damaged file."""
    import torch

    arrays = [read_idx(folder / file.path, file.read(folder)) for file in FILES]
    train_images, test_images = (torch.from_numpy(images) for images in arrays[::2])
    train_labels, test_labels = (torch.from_numpy(labels.astype(np.int64)) for labels in arrays[1::2])
    return ImageData(train_images, train_labels, test_images, test_labels)


def read_idx(path: Path, content: bytes) -> np.ndarray:
    """Return the array of unsigned bytes in an IDX file: magic number, sizes as big-endian words, data."""
    if content[:3] != b"\x00\x00\x08":
        raise WrongInput(f"'{path}' is not an IDX file of bytes: it begins with {content[:4].hex()}")
    axes = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=axes, offset=4).astype(np.int64)
    data = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes)
    return data.reshape(shape).copy()


def fetch(folder: Path) -> None:
    """Download MNIST through torchvision, with progress, and move it to ``folder`` once it is complete."""
    from torchvision import datasets

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            datasets.MNIST(temporary, download=True)
            for file in FILES:
                target = folder / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                (Path(temporary) / file.path).replace(target)
    except (OSError, RuntimeError, urllib.error.URLError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot download mnist to '{folder}': {reason}", exit_code=2) from error


MNIST = NamedSet(
    name="mnist",
    summary="70,000 hand-written digits of 28×28 pixels, the original files",
    origin="Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits",
    licence="usually stated as CC BY-SA 3.0",
    train=60_000,
    test=10_000,
    shape=(28, 28),
    classes=10,
    load=load,
    files=FILES,
    fetch=fetch,
)
