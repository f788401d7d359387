"""Immutable files of new records: what a block recorded between two commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.store import atomic, hdf5

__all__ = [
    "ArrayValue",
    "StoredArray",
    "StreamRecords",
    "check_home",
    "home",
    "path_of",
    "read",
    "read_all",
    "recover",
    "row_counts",
    "write",
]

ArrayValue = NDArray[Any] | Sequence[NDArray[Any]]
"""One array with the trial as first axis, or one array per trial where their shapes differ."""

StreamRecords = Mapping[str, Mapping[str, NDArray[Any]]]
"""Records by stream and variable: arrays whose first axes are row and trial."""

KIND = "xfw-segment 2"
DIRECTORY = "segments"


def path_of(block_dir: Path, index: int, attempt: int) -> Path:
    """Return the file of segment ``index``, counted from 1, that an attempt has written (0: by xfw 0.1)."""
    return block_dir / DIRECTORY / (f"{index:05d}-{attempt}.h5" if attempt else f"{index:05d}.h5")


def home(block_dir: Path) -> dict[str, Any]:
    """Return what a file of a block says of where it belongs."""
    place = block_dir.absolute()
    return {"run": place.parent.parent.name, "block": place.name}


def check_home(path: Path, content: Mapping[str, Any], block_dir: Path) -> None:
    """Raise UserError where a file was written for another run or block (those of format 1 do not say)."""
    here = home(block_dir)
    found = {key: content.get(key, value) for key, value in here.items()}
    if found != here:
        raise UserError(
            f"{path} belongs to block {found['block']} of run {found['run']}, "
            f"found under block {here['block']} of run {here['run']}",
            hint="put the files back where they belong; nothing was changed",
            exit_code=2,
        )


def write(
    block_dir: Path,
    index: int,
    first: Mapping[str, int],
    records: StreamRecords,
    attempt: int = 0,
    arrays: Mapping[str, ArrayValue] | None = None,
) -> None:
    """Write one segment: new rows and new arrays; ``first`` holds the rows that each stream had before it."""
    path = path_of(block_dir, index, attempt)
    path.parent.mkdir(exist_ok=True)

    def fill(file: h5py.File) -> None:
        content = {}
        for stream, variables in records.items():
            content[stream] = {"first": first.get(stream, 0), "variables": list(variables)}
            for name, values in variables.items():
                hdf5.store(file, f"records/{stream}/{name}", values)
        for name, value in (arrays or {}).items():
            write_array(file, name, value)
        own = {**home(block_dir), "attempt": attempt}
        hdf5.write_json(file, "content", {**own, "index": index, "streams": content})

    hdf5.write_sealed(path, KIND, fill)


def write_array(file: h5py.File, name: str, value: ArrayValue) -> None:
    """Store one array, or one per trial."""
    if isinstance(value, np.ndarray):
        hdf5.store(file, f"arrays/{name}", value)
        return
    for trial, array in enumerate(value):
        hdf5.store(file, f"per_trial/{trial}/{name}", array)


@attrs.frozen
class StoredArray:
    """Where the newest values of an array lie: the file, and for how many trials (0: one array for all of them)."""

    path: Path
    name: str
    trials: int

    def load(self, file: h5py.File) -> ArrayValue:
        """Return all values."""
        if not self.trials:
            return hdf5.load(file[f"arrays/{self.name}"])
        return [self.of_trial(file, trial) for trial in range(self.trials)]

    def of_trial(self, file: h5py.File, trial: int) -> NDArray[Any]:
        """Return the values of one trial."""
        if self.trials:
            return hdf5.load(file[f"per_trial/{trial}/{self.name}"])
        return np.asarray(hdf5.load(file[f"arrays/{self.name}"], trial))

    def shapes(self, file: h5py.File, trials: int) -> dict[int, tuple[int, ...]]:
        """Return the shape for each of the first ``trials``, without reading values."""
        if self.trials:
            return {trial: file[f"per_trial/{trial}/{self.name}"].shape for trial in range(trials)}
        return dict.fromkeys(range(trials), file[f"arrays/{self.name}"].shape[1:])


def read(block_dir: Path, index: int, attempt: int, first: Mapping[str, int]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the records of one segment, after checking that they follow on ``first`` rows of each stream."""
    path = path_of(block_dir, index, attempt)
    with hdf5.read_sealed(path, KIND) as file:
        content = hdf5.read_json(file, "content")
        check_home(path, content, block_dir)
        if content["index"] != index:
            raise atomic.damaged(path, f"it holds segment {content['index']}")
        records = {}
        for stream, entry in content["streams"].items():
            if entry["first"] != first.get(stream, 0):
                raise atomic.damaged(path, f"its rows of '{stream}' begin at {entry['first']}")
            records[stream] = {name: hdf5.load(file[f"records/{stream}/{name}"]) for name in entry["variables"]}
    return records


def read_all(block_dir: Path, attempts: Sequence[int]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the records of the segments that these attempts have written, joined along the rows."""
    rows: dict[str, int] = {}
    pieces: dict[str, dict[str, list[NDArray[Any]]]] = {}
    for index, attempt in enumerate(attempts, 1):
        records = read(block_dir, index, attempt, rows)
        for stream, variables in records.items():
            for name, values in variables.items():
                pieces.setdefault(stream, {}).setdefault(name, []).append(values)
        for stream, added in row_counts(records).items():
            rows[stream] = rows.get(stream, 0) + added
    return {
        stream: {name: np.concatenate(arrays) for name, arrays in variables.items()}
        for stream, variables in pieces.items()
    }


def row_counts(records: StreamRecords) -> dict[str, int]:
    """Return the number of rows per stream; all variables of a stream must agree."""
    counts = {}
    for stream, variables in records.items():
        lengths = {name: len(values) for name, values in variables.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"stream '{stream}': variables have different numbers of rows: {lengths}")
        counts[stream] = next(iter(lengths.values()), 0)
    return counts


def recover(block_dir: Path, counted: Sequence[int]) -> None:
    """Remove temporary files and the segments that the newest state does not count; only a block's owner may."""
    directory = block_dir / DIRECTORY
    atomic.remove_temporaries(block_dir)
    atomic.remove_temporaries(directory)
    kept = {path_of(block_dir, index, attempt) for index, attempt in enumerate(counted, 1)}
    for path in directory.glob("*.h5"):
        if path not in kept:
            path.unlink()
