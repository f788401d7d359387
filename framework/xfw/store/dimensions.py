"""Datasets of a sealed file: element types, dimension scales for every axis, chunks and compression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.store import hdf5

__all__ = ["Scales", "canonical", "canonical_dtype", "chunk_shape", "write_values"]

COMPRESSED_FROM = 16 * 1024
CHUNK_BYTES = (64 * 1024, 1024 * 1024)


class Scales:
    """Makes a dimension scale for every axis of a file; datasets below a group share its scales."""

    def __init__(self, trial: h5py.Dataset) -> None:
        trial.make_scale("trial")
        self._trial = trial
        self._made: dict[tuple[str, str], h5py.Dataset] = {}

    def add(self, group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
        """Store the coordinate of an axis in ``group``."""
        scale = group.create_dataset(name, data=values)
        scale.make_scale(name)
        self._made[group.name, name] = scale
        return scale

    def axis(self, group: h5py.Group, name: str, size: int) -> h5py.Dataset:
        """Return the scale of an axis in ``group``; the same name with another length gets its length appended."""
        for candidate in (name, f"{name}_{size}", f"{name}_axis_{size}"):
            scale = self._made.get((group.name, candidate))
            if scale is not None and len(scale) == size:
                return scale
            if candidate not in group:
                return self.add(group, candidate, np.arange(size, dtype=np.int64))
        raise ValueError(f"no name is left for axis '{name}' of length {size} in {group.name}")

    def attach(self, dataset: h5py.Dataset, home: h5py.Group, axes: Sequence[str], *, trial: bool = True) -> None:
        """Give every axis of a dataset its scale: the trial axis first, then ``axes`` from ``home``."""
        scales = [self._trial] if trial else []
        for name, size in zip(axes, dataset.shape[len(scales) :], strict=True):
            scales.append(self.axis(home, name, size))
        for number, scale in enumerate(scales):
            dataset.dims[number].attach_scale(scale)


def canonical_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the element type of a sealed file: int64, float32, float64 or bool."""
    if dtype.kind in "iu":
        return np.dtype(np.int64)
    if dtype.kind == "f":
        return np.dtype(np.float64 if dtype.itemsize > 4 else np.float32)
    if dtype.kind == "b":
        return np.dtype(np.bool_)
    raise TypeError(f"values of type {dtype} cannot be stored")


def canonical(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in an element type of a sealed file."""
    return values.astype(canonical_dtype(values.dtype), copy=False)


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return chunks of one trial by whole trailing axes, made larger or smaller to lie in 64 KiB to 1 MiB."""
    smallest, largest = CHUNK_BYTES
    chunk = [1, *shape[1:]]
    for axis in range(1, len(chunk)):
        while chunk[axis] > 1 and math.prod(chunk) * itemsize > largest:
            chunk[axis] = math.ceil(chunk[axis] / 2)
    one = max(1, math.prod(chunk) * itemsize)
    chunk[0] = max(1, min(shape[0], math.ceil(smallest / one)))
    return tuple(chunk)


def write_values(group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
    """Store values: booleans as int8 with an attribute, compressed with a checksum where that pays."""
    parent, _, last = name.rpartition("/")
    home = hdf5.subgroup(group, parent) if parent else group
    boolean = values.dtype == np.bool_
    data = values.astype(np.int8) if boolean else canonical(values)
    options: dict[str, Any] = {}
    if data.nbytes > COMPRESSED_FROM:
        chunks = chunk_shape(data.shape, data.itemsize)
        options = {"chunks": chunks, "compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
    dataset = home.create_dataset(last, data=data, dtype=data.dtype, **options)
    if boolean:
        hdf5.text({"dtype": "bool"}, dataset.attrs)
    return dataset
