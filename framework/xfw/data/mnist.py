"""MNIST from its four raw IDX files, checked against the published checksums."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.error
from pathlib import Path

import numpy as np

from xfw.data.images import File, ImageData, NamedSet
from xfw.errors import UserError, WrongInput

__all__ = ["MNIST", "fetch", "load", "read_idx", "verify"]

FILES = (
    File("MNIST/raw/train-images-idx3-ubyte", 47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    File("MNIST/raw/train-labels-idx1-ubyte", 60_008, "a25bea736e30d166cdddb491f175f624"),
    File("MNIST/raw/t10k-images-idx3-ubyte", 7_840_016, "2646ac647ad5339dbf082846283269ea"),
    File("MNIST/raw/t10k-labels-idx1-ubyte", 10_008, "27ae3e4e09519cfbb04c329615203637"),
)


def load(folder: Path) -> ImageData:
    """Read MNIST below the data directory ``folder``; raises ``WrongInput`` for a damaged file."""
    import torch

    arrays = [read_idx(folder / file.path, verify(folder, file)) for file in FILES]
    images, labels = (arrays[0], arrays[2]), (arrays[1], arrays[3])
    tensors = [torch.from_numpy(each) for each in images]
    targets = [torch.from_numpy(each.astype(np.int64)) for each in labels]
    return ImageData(tensors[0], targets[0], tensors[1], targets[1])


def verify(folder: Path, file: File) -> bytes:
    """Return the content of a file whose checksum is right; raises ``WrongInput`` otherwise."""
    path = folder / file.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WrongInput(f"cannot read '{path}': {error.strerror}") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != file.md5:
        raise WrongInput(
            f"'{path}' is damaged: found MD5 {found}, expected {file.md5}",
            hint="remove the file and fetch it again: xfw data fetch mnist",
        )
    return content


def read_idx(path: Path, content: bytes) -> np.ndarray:
    """Return the array of unsigned bytes in an IDX file: magic number, sizes as big-endian words, data."""
    if content[:3] != b"\x00\x00\x08":
        raise WrongInput(f"'{path}' is no IDX file of bytes: it begins with {content[:4].hex()}")
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
            _move(Path(temporary), folder)
    except (OSError, RuntimeError, urllib.error.URLError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot download mnist to '{folder}': {reason}", exit_code=2) from error


def _move(temporary: Path, folder: Path) -> None:
    for file in FILES:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        (temporary / file.path).replace(target)


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
