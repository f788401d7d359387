"""Make ``run.h5``: all trials of a run in one self-describing file, from what the blocks have committed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cattrs
import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.experiment import Array, Records, Stream
from xfw.manifest import Manifest
from xfw.store import artifacts, atomic, hdf5, proof, schema
from xfw.store.artifacts import Artifact
from xfw.store.contents import BlockPart, Content, TrialColumns, gathered, padding
from xfw.store.hdf5 import Scales, describe, write_values
from xfw.store.rundir import RunDir

__all__ = ["FORMAT", "FORMAT_VERSION", "seal", "write"]

FORMAT = "xfw-run"
FORMAT_VERSION = "1.2"

AGAIN = 3
"""How often sealing is repeated when another process has committed or sealed meanwhile."""

SLAB = 16 * 1024 * 1024
"""Bytes of arrays that are gathered before they are written."""

Shape = tuple[int, ...]


def seal(run: RunDir) -> Path:
    """Derive ``run.h5`` from what the blocks have committed, replacing an older one only by rename.

    A run that has not finished can be sealed too; ``/status`` says so for each trial. Equal records give
    an equal file (wall-clock times apart).
    """
    if run.manifest.merged:
        parts = " ".join(part.run for part in run.manifest.merged)
        hint = f"make it again: {run.command('merge', run=parts)}"
        raise UserError(f"run {run.id} was merged; it has no blocks to seal", hint=hint, exit_code=2)
    for _ in range(AGAIN):
        before = proof.commits(run)
        with gathered(run) as blocks:
            write(run, Content(blocks), columns_of(run, blocks), before)
        if proof.commits(run) == before:
            break
    return run.run_file


def write(run: RunDir, content: Content, columns: TrialColumns, made_from: tuple[str, ...] = ()) -> None:
    """Write ``run.h5`` with its checksum beside it, replacing an older one only by rename."""
    temporary = atomic.temporary_name(run.run_file)
    try:
        hdf5.write_file(temporary, partial(fill, run=run, content=content, columns=columns))
        proof.replace(run.run_file, temporary, made_from)
    except OSError as error:
        raise atomic.storage_error(run.run_file, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def columns_of(run: RunDir, blocks: Sequence[BlockPart]) -> TrialColumns:
    """Return what a run says of each of its trials."""
    members = run.manifest.members()
    homes = {place: (block, lane) for block in blocks for lane, place in enumerate(block.places)}
    placed = [homes[place] for place in range(len(members))]
    return TrialColumns(
        trial=[member.trial for member in members],
        condition=[member.condition for member in members],
        seed=[run.manifest.seed] * len(members),
        key=[member.key for member in members],
        origin=[run.id] * len(members),
        first_epoch=[block.first_epoch for block, _ in placed],
        status=[block.status[lane] for block, lane in placed],
        attempts=[block.attempts for block, _ in placed],
        strategy=[block.strategy for block, _ in placed],
        wall_time=[block.seconds for block, _ in placed],
    )


def fill(file: h5py.File, run: RunDir, content: Content, columns: TrialColumns) -> None:
    """Write everything into an empty file; large arrays go to the run's artifacts."""
    write_attributes(file, run.manifest, run.records)
    scales = write_trials(file, columns)
    write_parameters(file, run.manifest, columns, scales)
    for name, variables in content.streams.items():
        write_stream(file, scales, schema.declared_stream(run.records, name), list(variables), content)
    large: list[Artifact] = []
    for name in content.shapes:
        large += write_array(file, scales, schema.declared_array(run.records, name), name, content, run.path)
    if large:
        artifacts.write_list(file, large)


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
        "seed": str(manifest.seed),  # as text: several readers round integers beyond 2**53
        "coordinates": "trial condition",  # what xarray and others are to take for coordinates of the axis
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
        "merged": manifest.merged,
    }
    encoded = {f"{name}_json": to_json(value) for name, value in structured.items()}
    hdf5.text(plain | encoded, file)


def to_json(value: Any) -> str:
    """Return a value of the manifest as canonical JSON."""
    return json.dumps(cattrs.unstructure(value), sort_keys=True, separators=(",", ":"))


def write_trials(file: h5py.File, columns: TrialColumns) -> Scales:
    """Write what every trial has: index, condition, seed, key, origin, epochs before, status, attempts and time."""
    member = write_values(file, "member", np.arange(len(columns.trial), dtype=np.int64))
    describe(member, "position on the axis of all trials of all conditions")
    scales = Scales(member)
    described: list[tuple[str, Any, str, str]] = [
        ("trial", np.array(columns.trial, np.int64), "index of the trial within its condition", "1"),
        ("condition", np.array(columns.condition, np.int64), "number of the condition", "1"),
        ("seed", [str(seed) for seed in columns.seed], "seed of the run that trained the trial", ""),
        ("key", columns.key, "base key of the trial's random streams", ""),
        ("origin", columns.origin, "run that trained the trial", ""),
        ("first_epoch", np.array(columns.first_epoch, np.int64), "epochs behind the trial when its run began", "1"),
        ("status", columns.status, "how the trial ended", ""),
        ("attempts", np.array(columns.attempts, np.int64), "attempts at the trial's block", "1"),
        ("strategy", columns.strategy, "how the trial's steps were run", ""),
        ("wall_time", np.array(columns.wall_time, np.float64), "time of the block, divided by its trials", "s"),
    ]
    for name, values, long_name, unit in described:
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


def write_parameters(file: h5py.File, manifest: Manifest, columns: TrialColumns, scales: Scales) -> None:
    """Write the swept keys: numbers and booleans as such, everything else as text."""
    group = hdf5.subgroup(file, "param")
    for axis in manifest.axes:
        values = [manifest.conditions[condition].values.get(axis) for condition in columns.condition]
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


def write_stream(file: h5py.File, scales: Scales, stream: Stream, variables: Sequence[str], content: Content) -> None:
    """Write one stream: coordinate, number of rows per trial, and its variables as (trial, row, ...)."""
    counts = content.counts(stream.name)
    rows = int(counts.max())
    group = hdf5.subgroup(file, f"metrics/{stream.name}")
    hdf5.text({"coordinate": stream.coordinate}, group)
    own = shared_coordinate(content, stream, rows)
    values = np.arange(stream.first, stream.first + rows, dtype=np.int64) if own is None else own
    scale = scales.add(group, stream.coordinate, values)
    described = schema.labels(schema.declared_variable(stream, stream.coordinate), stream.coordinate)
    describe(scale, *described, version=stream.schema)
    write_column(group, scales, "count", counts, "number of rows of the trial", "1")
    for name in variables:
        if name == stream.coordinate and own is not None:
            continue
        declared = schema.declared_variable(stream, name)
        found = next(values.dtype for _, values in content.pieces(stream.name, name))
        values = content.values(stream.name, name, schema.element_type(declared, found), rows)
        dataset = write_values(group, f"trial_{name}" if name == stream.coordinate else name, values)
        describe(dataset, *schema.labels(declared, name), version=stream.schema)
        scales.attach(dataset, group, (stream.coordinate, *schema.axis_names(declared, values.shape[2:])))


def shared_coordinate(content: Content, stream: Stream, rows: int) -> NDArray[Any] | None:
    """Return the recorded coordinate of a stream; None where there is none or the trials differ in it."""
    pieces = [values for _, values in content.pieces(stream.name, stream.coordinate)]
    if not pieces:
        return None
    longest = max(pieces, key=lambda values: values.shape[1])[0]
    agree = all((values == longest[: values.shape[1]]).all() for values in pieces)
    return longest.astype(schema.canonical_dtype(longest.dtype)) if agree and len(longest) == rows else None


def write_array(
    file: h5py.File, scales: Scales, declared: Array | None, name: str, content: Content, folder: Path
) -> list[Artifact]:
    """Write one array of all trials, trial by trial where their shapes differ; return the artifacts made of it."""
    shapes = dict(sorted(content.shapes[name].items()))
    dtype = schema.element_type(declared, content.array(name, next(iter(shapes))).dtype)
    itemsize = 0 if dtype == np.dtype(object) else dtype.itemsize
    aside = [place for place, shape in shapes.items() if math.prod(shape) * itemsize > artifacts.LIMIT]
    labels, (parent, _, last) = schema.labels(declared, name), name.rpartition("/")
    if not aside and len(set(shapes.values())) == 1:
        home = hdf5.subgroup(file, "arrays")
        dataset = hdf5.empty(home, name, (content.size, *next(iter(shapes.values()))), dtype)
        write_slabs(dataset, content, name, shapes, dtype)
        describe(dataset, *labels)
        scales.attach(dataset, home, schema.axis_names(declared, dataset.shape[1:]))
        return []
    for place in (place for place in shapes if place not in aside):
        home = scales.group(f"ragged/{place}")
        dataset = write_values(
            scales.group(f"ragged/{place}/{parent}".rstrip("/")),
            last,
            content.array(name, place).astype(dtype, copy=False),
        )
        describe(dataset, *labels)
        scales.attach(dataset, home, schema.axis_names(declared, dataset.shape), member=False)
    return [
        artifacts.write_array(folder, name, place, content.array(name, place).astype(dtype, copy=False), *labels)
        for place in aside
    ]


def write_slabs(
    dataset: h5py.Dataset, content: Content, name: str, shapes: Mapping[int, Shape], dtype: np.dtype[Any]
) -> None:
    """Write the values of all trials, some at a time; a trial that has none is padding."""
    one = max(1, math.prod(dataset.shape[1:]) * dtype.itemsize)
    chunk = (dataset.chunks or (1,))[0]
    step = max(1, SLAB // one // chunk) * chunk
    for first in range(0, len(dataset), step):
        last = min(first + step, len(dataset))
        values: NDArray[Any] = np.full((last - first, *dataset.shape[1:]), padding(dtype), dtype)
        for place in range(first, last):
            if place in shapes:
                value = content.array(name, place)
                values[place - first] = value if value.ndim else value.item()
        dataset[first:last] = values.astype(dataset.dtype, copy=False)
