"""Datasets of a sealed file: element types, dimension scales for every axis, chunks and compression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.store import hdf5

__all__ = ["Scales", "canonical", "canonical_dtype", "chunk_shape", "declared_dtype", "empty", "write_values"]

FILL = {("f", False): np.nan, ("i", False): -(2**63) + 2, ("i", True): -127}
"""Fill values that no element has, by kind of type and whether it holds booleans: several readers mask them out."""

COMPRESSED_FROM = 16 * 1024
CHUNK_BYTES = (64 * 1024, 1024 * 1024)


class Scales:
    """Makes a dimension scale for every axis of a file; datasets below a group share its scales."""

    def __init__(self, member: h5py.Dataset) -> None:
        member.make_scale("member")
        self._member = member
        self._made: dict[tuple[str, str], h5py.Dataset] = {}

    def add(self, group: h5py.Group, name: str, values: NDArray[Any]) -> h5py.Dataset:
        """Store the coordinate of an axis in ``group``."""
        scale = group.create_dataset(name, data=values, fillvalue=FILL[values.dtype.kind, False])
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

    def attach(self, dataset: h5py.Dataset, home: h5py.Group, axes: Sequence[str], *, member: bool = True) -> None:
        """Give every axis of a dataset its scale: the axis of all trials first, then ``axes`` from ``home``."""
        scales = [self._member] if member else []
        for name, size in zip(axes, dataset.shape[len(scales) :], strict=True):
            scales.append(self.axis(home, name, size))
        for number, scale in enumerate(scales):
            dataset.dims[number].attach_scale(scale)


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
    dataset = empty(group, name, values.shape, canonical_dtype(values.dtype))
    if values.size:
        dataset[...] = values.astype(np.int8) if values.dtype == np.bool_ else canonical(values)
    return dataset


def empty(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> h5py.Dataset:
    """Make a dataset for values of a canonical element type, to be filled."""
    parent, _, last = name.rpartition("/")
    home = hdf5.subgroup(group, parent) if parent else group
    if dtype == np.dtype(object):
        return home.create_dataset(last, shape=shape, dtype=h5py.string_dtype())
    boolean = dtype == np.bool_
    stored = np.dtype(np.int8) if boolean else dtype
    options: dict[str, Any] = {}
    if math.prod(shape) * stored.itemsize > COMPRESSED_FROM:
        chunks = chunk_shape(shape, stored.itemsize)
        options = {"chunks": chunks, "compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
    dataset = home.create_dataset(last, shape=shape, dtype=stored, fillvalue=FILL[stored.kind, boolean], **options)
    if boolean:
        hdf5.text({"dtype": "bool"}, dataset.attrs)
    return dataset
