"""Make ``run.h5``: all conditions and trials of a run stacked in one self-describing file, from the blocks' commits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cattrs
import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.experiment import Array, Records, Stream, Variable
from xfw.plan.manifest import Manifest
from xfw.store import atomic, claims, hdf5, schema
from xfw.store.dimensions import Scales, canonical, canonical_dtype, write_values
from xfw.store.gather import Gathered, Placed, gather, stack
from xfw.store.rundir import RunDir

__all__ = ["FORMAT", "FORMAT_VERSION", "seal"]

FORMAT = "xfw-run"
FORMAT_VERSION = "1.0"

AGAIN = 3
"""How often sealing is repeated when another process has committed or sealed meanwhile."""


def seal(run: RunDir) -> Path:
    """Derive ``run.h5`` from what the blocks have committed, replacing an older one only by rename.

    A run that has not finished can be sealed too; ``/status`` says so for each trial. Equal records give
    an equal file (wall-clock times apart).
    """
    for _ in range(AGAIN):
        before = commits(run)
        gathered = gather(run)
        data = hdf5.image(lambda file, gathered=gathered: fill(file, run.manifest, run.records, gathered))  # type: ignore[misc]
        atomic.write(run.run_file, [data])
        if commits(run) == before:
            break
    return run.run_file


def commits(run: RunDir) -> list[tuple[int, str]]:
    """Return what changes whenever a block commits or ends."""
    found = []
    for block in run.manifest.blocks:
        directory = run.block_dir(block.index)
        path = directory / "state.h5"
        found.append((path.stat().st_mtime_ns if path.exists() else 0, claims.block_state(directory).state))
    return found


def fill(file: h5py.File, manifest: Manifest, records: Records, gathered: Gathered) -> None:
    """Write everything into an empty file."""
    write_attributes(file, manifest, records)
    scales = write_trials(file, manifest, gathered)
    write_parameters(file, manifest, scales)
    for name in gathered.streams():
        write_stream(file, scales, schema.declared_stream(records, name), gathered)
    for name in gathered.array_names():
        write_array(file, scales, schema.declared_array(records, name), name, gathered)


def write_attributes(file: h5py.File, manifest: Manifest, records: Records) -> None:
    """Write what holds for the whole run as attributes of the root."""
    default = f"/metrics/{records.default}" if records.default else ""
    plain = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "run": manifest.run,
        "experiment": manifest.experiment,
        "preset": manifest.preset,
        "created": manifest.created,
        "config_hash": manifest.config_hash,
        "default": default,
    }
    structured = {
        "config": manifest.config,
        "provenance": manifest.provenance,
        "conditions": [condition.values for condition in manifest.conditions],
        "axes": manifest.axes,
        "stages": manifest.stages,
        "versions": manifest.versions,
        "execution": manifest.execution,
        "command": manifest.command,
        "source": manifest.source,
    }
    encoded = {f"{name}_json": to_json(value) for name, value in structured.items()}
    hdf5.text(plain | encoded, file.attrs)
    file.attrs.create("seed", manifest.seed, dtype=np.int64)


def to_json(value: Any) -> str:
    """Return a value of the manifest as canonical JSON."""
    return json.dumps(cattrs.unstructure(value), sort_keys=True, separators=(",", ":"))


def write_trials(file: h5py.File, manifest: Manifest, gathered: Gathered) -> Scales:
    """Write what every trial has: index, condition, seed, key, status, attempts and time."""
    members = manifest.members()
    trial = write_values(file, "trial", np.array([member.trial for member in members], np.int64))
    describe(trial, "index of the trial within its condition")
    scales = Scales(trial)
    columns: list[tuple[str, Any, str, str]] = [
        ("condition", np.array([member.condition for member in members], np.int64), "number of the condition", "1"),
        ("seed", np.full(len(members), manifest.seed, np.int64), "seed of the run", "1"),
        ("key", [member.key for member in members], "base key of the trial's random streams", ""),
        ("status", gathered.per_trial("status"), "how the trial ended", ""),
        ("attempts", np.array(gathered.per_trial("attempts"), np.int64), "attempts at the trial's block", "1"),
        ("strategy", gathered.per_trial("strategy"), "how the trial's steps were run", ""),
        ("wall_time", np.array(gathered.per_trial("seconds")), "time of the block, divided by its trials", "s"),
    ]
    for name, values, long_name, unit in columns:
        write_column(file, scales, name, values, long_name, unit)
    return scales


def write_column(
    group: h5py.Group, scales: Scales, name: str, values: Sequence[str] | NDArray[Any], long_name: str, unit: str
) -> None:
    """Write one number or text per trial."""
    if isinstance(values, np.ndarray):
        dataset = write_values(group, name, values)
    else:
        dataset = group.create_dataset(name, data=list(values), dtype=h5py.string_dtype())
    describe(dataset, long_name, unit)
    scales.attach(dataset, group, ())


def describe(dataset: h5py.Dataset, long_name: str, unit: str = "1", version: int | None = None) -> None:
    """Give a dataset its name for people, its unit (none for texts) and the version of its schema."""
    hdf5.text({"long_name": long_name} | ({"units": unit} if unit else {}), dataset.attrs)
    if version is not None:
        dataset.attrs.create("schema", version, dtype=np.int64)


def write_parameters(file: h5py.File, manifest: Manifest, scales: Scales) -> None:
    """Write the swept keys: numbers and booleans as such, everything else as text."""
    group = hdf5.subgroup(file, "param")
    for axis in manifest.axes:
        values = [manifest.conditions[member.condition].values.get(axis) for member in manifest.members()]
        write_column(group, scales, axis, parameter_column(values), f"swept key {axis}", "")


def parameter_column(values: Sequence[Any]) -> list[str] | NDArray[Any]:
    """Return the values of a swept key as a column of one type."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, np.bool_)
    if kinds == {int}:
        return np.array(values, np.int64)
    if kinds <= {int, float}:
        return np.array(values, np.float64)
    return [value if isinstance(value, str) else parameter_text(value) for value in values]


def parameter_text(value: Any) -> str:
    """Return a value that is neither number nor text as text; empty for None."""
    return "" if value is None else json.dumps(cattrs.unstructure(value))


def write_stream(file: h5py.File, scales: Scales, stream: Stream, gathered: Gathered) -> None:
    """Write one stream: coordinate, number of rows per trial, and its variables as (trial, row, ...)."""
    counts = gathered.counts(stream.name)
    rows = int(counts.max())
    group = hdf5.subgroup(file, f"metrics/{stream.name}")
    hdf5.text({"coordinate": stream.coordinate}, group.attrs)
    own = shared_coordinate(gathered, stream, rows)
    values = np.arange(stream.first, stream.first + rows, dtype=np.int64) if own is None else own
    scale = scales.add(group, stream.coordinate, values)
    describe(scale, stream.coordinate, version=stream.schema)
    write_column(group, scales, "count", counts, "number of rows of the trial", "1")
    for name in gathered.variables(stream.name):
        if name != stream.coordinate:
            declared = schema.declared_variable(stream, name)
            write_variable(group, scales, stream, declared, gathered.placed(stream.name, name), name)
        elif own is None:
            write_variable(group, scales, stream, None, gathered.placed(stream.name, name), f"trial_{name}")


def shared_coordinate(gathered: Gathered, stream: Stream, rows: int) -> NDArray[Any] | None:
    """Return the recorded coordinate of a stream; None where there is none or the trials differ in it."""
    pieces = gathered.placed(stream.name, stream.coordinate)
    if not pieces:
        return None
    longest = max(pieces, key=lambda piece: piece.values.shape[1]).values[0]
    agree = all((piece.values == longest[: piece.values.shape[1]]).all() for piece in pieces)
    return canonical(longest) if agree and len(longest) == rows else None


def write_variable(
    group: h5py.Group,
    scales: Scales,
    stream: Stream,
    declared: Variable | None,
    pieces: list[Placed],
    name: str,
) -> None:
    """Write one variable, padded beyond each trial's rows."""
    size = len(group["count"])
    rows = len(group[stream.coordinate])
    values = stack(pieces, size, element_type(declared, pieces[0].values.dtype), rows)
    dataset = write_values(group, name, values)
    describe(dataset, *labels(declared, name), version=stream.schema)
    scales.attach(dataset, group, (stream.coordinate, *axis_names(declared, values.shape[2:])))


def element_type(declared: Variable | Array | None, found: np.dtype[Any]) -> np.dtype[Any]:
    """Return the declared element type, else the stored one in canonical form."""
    return np.dtype(declared.dtype) if declared else canonical_dtype(found)


def labels(declared: Variable | Array | None, name: str) -> tuple[str, str]:
    """Return the name for people and the unit."""
    return (declared.long_name, declared.unit) if declared else (name, "1")


def axis_names(declared: Variable | Array | None, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the declared names of the axes; where the declaration does not fit, names made of number and length."""
    if declared and len(declared.axes) == len(shape) and len(set(declared.axes)) == len(shape):
        return declared.axes
    return tuple(f"axis{number}_{size}" for number, size in enumerate(shape, 1))


def write_array(file: h5py.File, scales: Scales, declared: Array | None, name: str, gathered: Gathered) -> None:
    """Write an array under ``/arrays``, or under ``/ragged/<position>`` where its shape differs between trials."""
    values = gathered.array(name)
    dtype = element_type(declared, next(iter(values.values())).dtype)
    if len({value.shape for value in values.values()}) == 1:
        group = hdf5.subgroup(file, "arrays")
        pieces = [Placed((place,), value[None]) for place, value in values.items()]
        dataset = write_values(group, name, stack(pieces, gathered.size, dtype))
        describe(dataset, *labels(declared, name))
        scales.attach(dataset, group, axis_names(declared, dataset.shape[1:]))
        return
    for place, value in sorted(values.items()):
        group = hdf5.subgroup(file, f"ragged/{place}")
        dataset = write_values(group, name, value.astype(dtype))
        describe(dataset, *labels(declared, name))
        scales.attach(dataset, group, axis_names(declared, value.shape), trial=False)
