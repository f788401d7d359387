"""Write what a trial has once: under ``/arrays``, under ``/ragged`` where shapes differ, or as artifacts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.experiment import Array, Records, Variable
from xfw.store import artifacts, hdf5, schema
from xfw.store.artifacts import Artifact
from xfw.store.columns import Content
from xfw.store.dimensions import Scales, canonical_dtype, declared_dtype, empty, write_values
from xfw.store.gather import padding

__all__ = ["axis_names", "describe", "element_type", "labels", "write_arrays"]

SLAB = 16 * 1024 * 1024
"""Bytes that are gathered before they are written."""


def write_arrays(file: h5py.File, scales: Scales, records: Records, content: Content, folder: Path) -> None:
    """Write all arrays; those above the limit go to files below ``folder`` and are listed."""
    large: list[Artifact] = []
    for name in content.array_names():
        large += write_array(file, scales, schema.declared_array(records, name), name, content, folder)
    if large:
        artifacts.write_list(file, large)


def write_array(
    file: h5py.File, scales: Scales, declared: Array | None, name: str, content: Content, folder: Path
) -> list[Artifact]:
    """Write one array of all trials; return the artifacts made of it."""
    shapes, dtype = content.shapes(name), element_type(declared, content.element(name))
    itemsize = 0 if dtype == np.dtype(object) else dtype.itemsize
    large = [place for place, shape in shapes.items() if math.prod(shape) * itemsize > artifacts.LIMIT]
    if large:
        found = [stored_aside(folder, declared, name, place, content, dtype) for place in large]
        shapes = {place: shape for place, shape in shapes.items() if place not in large}
        write_ragged(file, scales, declared, name, content, shapes, dtype)
        return found
    if len(set(shapes.values())) > 1:
        write_ragged(file, scales, declared, name, content, shapes, dtype)
        return []
    home = hdf5.subgroup(file, "arrays")
    dataset = empty(home, name, (content.size, *next(iter(shapes.values()))), dtype)
    fill(dataset, content, name, shapes, dtype)
    describe(dataset, *labels(declared, name))
    scales.attach(dataset, home, axis_names(declared, dataset.shape[1:]))
    return []


def stored_aside(
    folder: Path, declared: Array | None, name: str, place: int, content: Content, dtype: np.dtype[Any]
) -> Artifact:
    """Write one trial's array into a file of its own."""
    (value,) = content.array(name, [place])
    return artifacts.write_array(folder, name, place, value.astype(dtype, copy=False), *labels(declared, name))


def write_ragged(
    file: h5py.File,
    scales: Scales,
    declared: Array | None,
    name: str,
    content: Content,
    shapes: Mapping[int, tuple[int, ...]],
    dtype: np.dtype[Any],
) -> None:
    """Write an array trial by trial, each in its own shape."""
    for place in sorted(shapes):
        group = hdf5.subgroup(file, f"ragged/{place}")
        (value,) = content.array(name, [place])
        dataset = write_values(group, name, value.astype(dtype))
        describe(dataset, *labels(declared, name))
        scales.attach(dataset, group, axis_names(declared, value.shape), member=False)


def fill(
    dataset: h5py.Dataset, content: Content, name: str, shapes: Mapping[int, tuple[int, ...]], dtype: np.dtype[Any]
) -> None:
    """Write the values of all trials, some at a time; a trial that has none is padding."""
    one = max(1, math.prod(dataset.shape[1:]) * dtype.itemsize)
    step = max(1, SLAB // one, (dataset.chunks or (1,))[0])
    stored = np.dtype(np.int8) if dtype == np.bool_ else dtype
    for first in range(0, len(dataset), step):
        last = min(first + step, len(dataset))
        there = [place for place in range(first, last) if place in shapes]
        values: NDArray[Any] = np.full((last - first, *dataset.shape[1:]), padding(dtype), dtype)
        for place, value in zip(there, content.array(name, there), strict=True):
            values[place - first] = value.item() if value.ndim == 0 else value
        dataset[first:last] = values.astype(stored, copy=False)


def describe(dataset: h5py.Dataset, long_name: str, unit: str = "1", version: int | None = None) -> None:
    """Give a dataset its name for people, its unit (none for texts) and the version of its schema."""
    hdf5.text({"long_name": long_name} | ({"units": unit} if unit else {}), dataset.attrs)
    if version is not None:
        dataset.attrs.create("schema", version, dtype=np.int64)


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
