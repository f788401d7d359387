"""What an experiment declares to store, kept as ``records.json`` so that sealing needs no plugin."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs
import cattrs

from xfw.errors import UserError
from xfw.experiment import Array, Records, Stream, Variable
from xfw.store import atomic

__all__ = ["FILE", "declared_array", "declared_stream", "merge", "read", "write"]

FILE = "records.json"
FORMAT = 1


def write(path: Path, records: Records) -> None:
    """Store a declaration, atomically."""
    content = {"schema": FORMAT, **attrs.asdict(records)}
    atomic.write(path, [json.dumps(content, indent=1).encode()])


def read(path: Path) -> Records:
    """Return a stored declaration; an empty one where the file does not exist."""
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if content.pop("schema") != FORMAT:
            raise UserError(f"{path} was written by a newer xfw", hint="update xfw", exit_code=2)
        return cattrs.structure(content, Records)
    except FileNotFoundError:
        return Records()
    except (ValueError, KeyError, cattrs.BaseValidationError) as error:
        raise UserError(f"{path} is damaged: {error}", exit_code=2) from error


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
