"""HDF5 files that are written in one piece and verified before they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.store import atomic

__all__ = [
    "check_format",
    "damaged",
    "image",
    "load",
    "opened",
    "read_json",
    "read_sealed",
    "store",
    "text",
    "write_json",
    "write_sealed",
]

HEADER = 512
"""Bytes of the HDF5 user block that carries the kind of file and the SHA-256 of everything after it."""

BOUNDS = ("earliest", "v110")
GROWTH = 1 << 22


def image(fill: Callable[[h5py.File], None], nbytes: int = 0) -> bytes:
    """Return the bytes of the HDF5 file that ``fill`` makes; ``nbytes`` is about how many there will be.

    The file is made in memory: the library never sees a full disk, after which it could not close its file.
    """
    growth = max(GROWTH, nbytes + nbytes // 64)
    options = {"driver": "core", "backing_store": False, "block_size": growth, "libver": BOUNDS, "track_order": True}
    with h5py.File("image", "w", **options) as file:
        fill(file)
        file.flush()
        data: bytes = file.id.get_file_image()
    return data


def write_sealed(path: Path, kind: str, fill: Callable[[h5py.File], None], nbytes: int = 0) -> None:
    """Write an HDF5 file with its own checksum, atomically and durably; hash and write at the same time."""
    body = image(fill, nbytes)
    with ThreadPoolExecutor(1) as hashing:
        digest = hashing.submit(hashlib.sha256, body)

        def header() -> bytes:
            return f"{kind}\nsha256 {digest.result().hexdigest()}\n".encode().ljust(HEADER, b"\0")

        atomic.write(path, (bytes(HEADER), body), header)


@contextmanager
def read_sealed(path: Path, kind: str) -> Iterator[h5py.File]:
    """Open a file of ``write_sealed`` after verifying every byte of it; a damaged one is left untouched."""
    try:
        verify(path, kind)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", exit_code=2) from error
    with opened(path) as file:
        yield file


def verify(path: Path, kind: str) -> None:
    """Raise UserError unless the file is of this kind and its bytes are those that were written."""
    with path.open("rb") as file:
        lines = file.read(HEADER).split(b"\n")
        if lines[0] != kind.encode() or len(lines) < 3:
            raise damaged(path, f"it does not begin with '{kind}'")
        stored, found = lines[1].decode("ascii", "replace"), hashlib.file_digest(file, "sha256").hexdigest()
    if stored != f"sha256 {found}":
        raise damaged(path, "its checksum does not match its content")


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; UserError where it is not a whole one."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise damaged(path, first_line(error)) from error


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; whatever the library cannot make sense of becomes a UserError."""
    with open_file(path) as file:
        try:
            yield file
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise damaged(path, first_line(error)) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error of the HDF5 library."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def damaged(path: Path, reason: str) -> UserError:
    """Return the error for a file that cannot be used as it is."""
    return UserError(
        f"{path} is damaged: {reason}",
        hint="it was left as it is; restore it from a copy, or start a new run",
        exit_code=2,
    )


def check_format(file: h5py.File, path: Path, name: str, major: int) -> None:
    """Raise UserError unless the file has this format and major version."""
    found, version = file.attrs.get("format"), str(file.attrs.get("format_version", ""))
    if found != name:
        raise UserError(f"{path} is not a file of format '{name}' (found {found!r})", exit_code=2)
    if version.split(".")[0] != str(major):
        raise UserError(f"{path} has format version {version}, expected {major}.x", hint="update xfw", exit_code=2)


def store(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    """Store values as they are; texts (arrays of objects) as variable-length UTF-8."""
    dtype = h5py.string_dtype() if values.dtype.kind in "OU" else values.dtype
    group.create_dataset(name, data=values, dtype=dtype)


def load(dataset: h5py.Dataset) -> NDArray[Any]:
    """Return what ``store`` stored."""
    if h5py.check_string_dtype(dataset.dtype):
        return np.asarray(dataset.asstr()[()], object)
    return np.asarray(dataset[()])


def write_json(group: h5py.Group, name: str, value: Any) -> None:
    """Store a JSON value as a text dataset (attributes are limited to 64 KiB in some readers)."""
    group.create_dataset(name, data=json.dumps(value, separators=(",", ":")), dtype=h5py.string_dtype())


def read_json(group: h5py.Group, name: str) -> Any:
    """Return the JSON value stored by ``write_json``."""
    return json.loads(group[name].asstr()[()])


def subgroup(parent: h5py.Group, path: str) -> h5py.Group:
    """Return a group below ``parent``, made (with its order tracked, at every level) where it does not exist."""
    for name in path.split("/"):
        parent = parent[name] if name in parent else parent.create_group(name, track_order=True)
    return parent


def text(values: Mapping[str, str], attributes: h5py.AttributeManager) -> None:
    """Store texts as variable-length UTF-8 attributes."""
    for name, value in values.items():
        attributes.create(name, value, dtype=h5py.string_dtype())
