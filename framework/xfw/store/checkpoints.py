"""The weights of one trial at one moment: a file in the safetensors format, named by its content and never changed.

The format: eight bytes with the length of a JSON text, the text (name to type, shape and place; texts under
``__metadata__``), then the tensors, little-endian, without gaps. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.store import atomic

__all__ = ["FOLDER", "read_checkpoint", "write_checkpoint"]

FOLDER = "checkpoints"
PLAIN = re.compile(r"\w[\w.-]*", re.ASCII)

TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "BOOL": "?",
}  # fmt: skip
NAMES = {np.dtype(code): name for name, code in TYPES.items()}


def write_checkpoint(
    folder: Path, name: str, trial: str, tensors: Mapping[str, NDArray[np.generic]], about: Mapping[str, str]
) -> Path:
    """Write one trial's tensors below ``folder / name``; return the path. A file of equal content is kept as it is.

    ``about`` are texts that the file holds beside the tensors.
    """
    if not PLAIN.fullmatch(name):
        raise UserError(f"checkpoint {name!r}: expected letters, digits, '_', '-' and '.'")
    entries: dict[str, object] = {"__metadata__": dict(sorted(about.items()))}
    parts, place = [], 0
    for path in sorted(tensors):
        value = np.ascontiguousarray(tensors[path])
        value = value.astype(value.dtype.newbyteorder("<"), copy=False)
        if value.dtype not in NAMES:
            raise UserError(f"checkpoint {name!r}: '{path}' is of type {value.dtype}, which the format does not have")
        entries[path] = {
            "dtype": NAMES[value.dtype],
            "shape": list(np.shape(tensors[path])),
            "data_offsets": [place, place + value.nbytes],
        }
        parts.append(value.tobytes())
        place += value.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that every tensor of eight-byte numbers is aligned
    whole = [struct.pack("<Q", len(text)), text, *parts]
    digest = hashlib.sha256(b"".join(whole)).hexdigest()
    target = folder / name / f"{trial}-{digest[:12]}.safetensors"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(target, whole)
    return target


def read_checkpoint(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """Return the tensors and texts of a checkpoint; UserError where its bytes are not those of its name."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest()[:12] != path.stem.rpartition("-")[2]:
        raise UserError(f"{path}: its content is not that of its name", hint="the file was changed; make it again")
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    about = entries.pop("__metadata__", {})
    body = memoryview(data)[8 + length :]
    tensors = {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], TYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in entries.items()
    }
    return tensors, about
