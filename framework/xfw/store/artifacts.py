"""What is too large for the sealed file: arrays as ``.npy`` files under ``artifacts/``, named by their content."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.store import atomic, hdf5

__all__ = ["FOLDER", "LIMIT", "Artifact", "read_array", "read_list", "write_array", "write_list"]

FOLDER = "artifacts"
NONE = -(2**63) + 2
LIMIT = 64 * 1024 * 1024
"""Bytes of one trial's array up to which it is part of the sealed file."""


@attrs.frozen
class Artifact:
    """One file: its path within the run directory, its SHA-256 and size, and which array of which trial it holds.

    ``trial`` is the position on the axis of all trials.
    """

    path: str
    sha256: str
    nbytes: int
    trial: int
    array: str
    shape: tuple[int, ...]
    long_name: str
    units: str


def write_array(
    folder: Path, name: str, trial: int, value: NDArray[Any], long_name: str = "", units: str = "1"
) -> Artifact:
    """Store one trial's array in the run directory ``folder``; a file that is there already is kept."""
    if hdf5.is_unsafe(name):
        raise UserError(f"array {name!r}: this name cannot be that of a file", exit_code=2)
    header = io.BytesIO()
    contiguous = np.ascontiguousarray(value)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(contiguous))
    parts = (header.getvalue(), contiguous.data.cast("B"))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    path = Path(FOLDER) / name / f"{trial}-{digest.hexdigest()[:12]}.npy"
    nbytes = sum(len(part) for part in parts)
    whole = folder / path
    if not whole.exists() or whole.stat().st_size != nbytes:
        whole.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(whole, parts)  # type: ignore[arg-type]
    return Artifact(path.as_posix(), digest.hexdigest(), nbytes, trial, name, value.shape, long_name, units)


def read_array(folder: Path, artifact: Artifact) -> NDArray[Any]:
    """Return the array of an artifact after verifying every byte of it; nothing outside ``folder`` is opened."""
    path = folder / artifact.path
    if hdf5.is_unsafe(artifact.path) or FOLDER not in Path(artifact.path).parts[:1] or not inside(path, folder):
        raise atomic.damaged(folder, f"an artifact is said to lie at {artifact.path!r}, expected a file below {FOLDER}")
    data = bytearray(atomic.read(path))
    if hashlib.sha256(data).hexdigest() != artifact.sha256:
        raise atomic.damaged(path, "its checksum does not match its content")
    with hdf5.understood(path):
        header = io.BytesIO(data)
        np.lib.format.read_magic(header)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
        values = np.frombuffer(data, dtype, offset=header.tell())
        return values.reshape(shape, order="F" if fortran else "C")


def inside(path: Path, folder: Path) -> bool:
    """Say whether a path lies below a folder when all links are followed."""
    return path.resolve().is_relative_to(folder.resolve())


COLUMNS = (
    ("path", "path within the run directory", True),
    ("sha256", "SHA-256 of the file", True),
    ("nbytes", "size of the file", False),
    ("trial", "position on the axis member", False),
    ("array", "name of the array", True),
    ("shape", "shape of the array, as JSON", True),
    ("long_name", "name of the array for people", True),
    ("units", "unit of the array", True),
)
"""The datasets of the group ``artifacts``: name, meaning, and whether it holds texts."""


def write_list(file: h5py.File, found: Sequence[Artifact]) -> None:
    """Write the group ``artifacts`` of a sealed file: one entry for each file."""
    group = hdf5.subgroup(file, FOLDER)
    axis = group.create_dataset("artifact", data=np.arange(len(found), dtype=np.int64), fillvalue=NONE)
    axis.make_scale("artifact")
    for name, long_name, is_text in COLUMNS:
        values = [getattr(each, name) for each in found]
        if name == "shape":
            values = [json.dumps(value) for value in values]
        dtype = h5py.string_dtype() if is_text else np.int64
        dataset = group.create_dataset(name, data=values, dtype=dtype, fillvalue=None if is_text else NONE)
        units = {"nbytes": {"units": "bytes"}, "trial": {"units": "1"}}.get(name, {})
        hdf5.text({"long_name": long_name, **units}, dataset)
        dataset.dims[0].attach_scale(axis)


def read_list(file: h5py.File) -> list[Artifact]:
    """Return the artifacts that a sealed file names."""
    if FOLDER not in file:
        return []
    group = file[FOLDER]
    columns = [hdf5.load(group[name]).tolist() for name, _, _ in COLUMNS]
    return [
        Artifact(path, sha256, int(nbytes), int(trial), array, tuple(map(int, json.loads(shape))), long_name, units)
        for path, sha256, nbytes, trial, array, shape, long_name, units in zip(*columns, strict=True)
    ]
