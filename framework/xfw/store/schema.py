"""What an experiment declares to store, kept as ``records.json`` so that sealing needs no plugin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from xfw.errors import UserError
from xfw.experiment import Array, Records, Stream, Variable
from xfw.store import atomic

__all__ = [
    "FILE",
    "axis_names",
    "canonical_dtype",
    "declared_array",
    "declared_dtype",
    "declared_stream",
    "declared_variable",
    "element_type",
    "labels",
    "merge",
    "read",
    "write",
]

FILE = "records.json"
FORMAT = 2
CHECKED_FROM = 2
"""The first format that holds the run id and a checksum."""


def write(path: Path, records: Records) -> None:
    """Store the declaration of the run whose directory holds ``path``, atomically."""
    declared = attrs.asdict(records)
    content = {"schema": FORMAT, "run": path.parent.name, "sha256": digest(path.parent.name, declared), **declared}
    atomic.write(path, [json.dumps(content, indent=1).encode()])


def digest(run: str, declared: Any) -> str:
    """Return the SHA-256 of a declaration in canonical form, and of the run that it belongs to."""
    return hashlib.sha256(json.dumps([run, declared], sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Records:
    """Return a stored declaration; an empty one where the file does not exist."""
    if not path.exists():
        return Records()
    try:
        content: dict[str, Any] = json.loads(atomic.read(path))
        version, run = content.pop("schema"), content.pop("run", path.parent.name)
        found = content.pop("sha256", None)
        if version > FORMAT:
            raise UserError(f"{path} was written by a newer xfw", hint="update xfw", exit_code=2)
        if version >= CHECKED_FROM and found != digest(run, content):
            raise atomic.damaged(path, "its checksum does not match its content")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise atomic.damaged(path, f"{type(error).__name__}: {error}") from error
    if run != path.parent.name:
        raise atomic.damaged(path, f"it belongs to run {run}")
    return atomic.structured(path, content, Records)


def merge(declarations: Iterable[Records]) -> Records:
    """Join the declarations of several conditions; the first one that declares a name counts."""
    streams: dict[str, Stream] = {}
    arrays: dict[str, Array] = {}
    default = ""
    for records in declarations:
        default = default or records.default
        arrays = {array.name: array for array in records.arrays} | arrays
        for stream in records.streams:
            streams[stream.name] = join(streams.get(stream.name, stream), stream)
    return Records(tuple(streams.values()), tuple(arrays.values()), default)


def join(first: Stream, second: Stream) -> Stream:
    """Return the first stream with the variables that only the second declares."""
    known = {variable.name for variable in first.variables}
    added = tuple(variable for variable in second.variables if variable.name not in known)
    return attrs.evolve(first, variables=first.variables + added)


def declared_stream(records: Records, name: str) -> Stream:
    """Return the declaration of a stream; one without variables where there is none."""
    for stream in records.streams:
        if stream.name == name:
            return stream
    return Stream(name, "row", ())


def declared_variable(stream: Stream, name: str) -> Variable | None:
    """Return the declaration of a variable, if there is one."""
    return next((variable for variable in stream.variables if variable.name == name), None)


def declared_array(records: Records, name: str) -> Array | None:
    """Return the declaration of an array; its name may be a pattern such as ``best/*``."""
    return next((array for array in records.arrays if fnmatchcase(name, array.name)), None)


def canonical_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the element type of a sealed file: int64, float32, float64, bool, or object for texts."""
    if dtype.kind in "iu":
        return np.dtype(np.int64)
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize > 4 else np.float32)
    if dtype.kind == "b":
        return np.dtype(np.bool_)
    if dtype.kind in "OU":
        return np.dtype(object)
    raise TypeError(f"values of type {dtype} cannot be stored")


def declared_dtype(name: str) -> np.dtype[Any]:
    """Return the element type of a declared name; texts are objects."""
    return np.dtype(object if name == "text" else name)


def element_type(declared: Variable | Array | None, found: np.dtype[Any]) -> np.dtype[Any]:
    """Return the declared element type, else the stored one in canonical form."""
    return declared_dtype(declared.dtype) if declared else canonical_dtype(found)


def labels(declared: Variable | Array | None, name: str) -> tuple[str, str]:
    """Return the name for people and the unit; texts have none."""
    if declared is None:
        return name, "1"
    return declared.long_name, "" if declared.dtype == "text" else declared.unit


def axis_names(declared: Variable | Array | None, shape: Sequence[int]) -> tuple[str, ...]:
    """Return the declared names of the axes; where the declaration does not fit, names made of number and length."""
    if declared and len(declared.axes) == len(shape) and len(set(declared.axes)) == len(shape):
        return declared.axes
    return tuple(f"axis{number}_{size}" for number, size in enumerate(shape, 1))
