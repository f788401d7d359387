"""HDF5 files that are written in one piece and verified before they are read."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.store import atomic
from xfw.store.atomic import damaged
from xfw.store.proof import HEADER, digest_in
from xfw.store.schema import canonical_dtype

__all__ = [
    "Pool",
    "Scales",
    "attribute",
    "check_format",
    "chunk_shape",
    "describe",
    "empty",
    "image",
    "is_unsafe",
    "load",
    "open_file",
    "read_json",
    "read_sealed",
    "store",
    "subgroup",
    "text",
    "understood",
    "write_file",
    "write_json",
    "write_sealed",
    "write_values",
]


class Closes(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closes)

MOST_COMPRESSED = 1100
"""More than the factor by which deflate can shrink anything."""

SMALL = 1 << 20
LONGEST = 1 << 16

BOUNDS = ("earliest", "v110")
GROWTH = 1 << 22


def image(fill: Callable[[h5py.File], None], nbytes: int = 0) -> bytes:
    """Return the bytes of the HDF5 file that ``fill`` makes; ``nbytes`` is about how many there will be.

    The file is made in memory: the library never sees a full disk, after which it could not close its file.
    """
    growth = max(GROWTH, nbytes + nbytes // 64)
    options = {"driver": "core", "backing_store": False, "block_size": growth, "libver": BOUNDS, "track_order": True}
    with h5py.File("image", "w", **options) as file:
        fill(file)
        file.flush()
        data: bytes = file.id.get_file_image()
    return data


def write_sealed(path: Path, kind: str, fill: Callable[[h5py.File], None], nbytes: int = 0) -> None:
    """Write an HDF5 file with its own checksum, atomically and durably; hash and write at the same time."""
    body = image(fill, nbytes)
    with ThreadPoolExecutor(1) as hashing:
        digest = hashing.submit(hashlib.sha256, body)

        def header() -> bytes:
            return f"{kind}\nsha256 {digest.result().hexdigest()}\n".encode().ljust(HEADER, b"\0")

        atomic.write(path, (bytes(HEADER), body), header)


class Enduring(io.RawIOBase):
    """A file for the HDF5 library that keeps to itself what the disk refuses: else the library could not close it.

    ``error`` is what the system said first; from then on nothing is written any more.
    """

    def __init__(self, path: Path) -> None:
        self._file = io.FileIO(path, "w+")
        self.error: OSError | None = None

    def _attempt(self, action: Callable[..., Any], *given: Any, otherwise: Any = None) -> Any:
        if self.error is None:
            try:
                return action(*given)
            except OSError as error:
                self.error = error
        return otherwise

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        rest = memoryview(data).cast("B")
        while len(rest):
            rest = rest[self._attempt(self._file.write, rest, otherwise=len(rest)) :]
        return memoryview(data).nbytes

    def readinto(self, buffer: Any) -> int:
        """Read as much as there is; zeros stand for what could not be written."""
        count: int = self._file.readinto(buffer)
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        return int(self._attempt(self._file.truncate, size, otherwise=size or 0))

    def sync(self) -> None:
        """Wait until the content is on the disk, and close; raises what the disk refused."""
        self._attempt(os.fsync, self._file.fileno())
        self._file.close()
        if self.error is not None:
            raise self.error


def write_file(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Write an HDF5 file piece by piece as ``fill`` makes it, and wait until it is on the disk.

    Raises OSError where the disk refuses.
    """
    sink = Enduring(path)
    try:
        with h5py.File(sink, "w", libver=BOUNDS, track_order=True) as file:
            fill(file)
    except (OSError, RuntimeError):  # the library read back what the disk had refused
        if sink.error is None:
            raise
    finally:
        sink.sync()


class Pool(Generic[T]):
    """Files that are read in turn, of which only so many are open at once as the system allows."""

    def __init__(self, open_one: Callable[[Path], T]) -> None:
        self._open_one = open_one
        self._open: OrderedDict[Path, T] = OrderedDict()

    def __getitem__(self, path: Path) -> T:
        if path not in self._open:
            if len(self._open) >= most_open():
                self._open.popitem(last=False)[1].close()
            self._open[path] = self._open_one(path)
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()


def most_open() -> int:
    """Return how many files a pool may hold open: a quarter of what the system lets this process have."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 64
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(4, min(256, soft // 4))


REPLACEMENTS = 100
"""How often a file may be replaced while it is read, before that is taken for a fault of the file system."""


@contextmanager
def read_sealed(path: Path, kind: str) -> Iterator[h5py.File]:
    """Open a file of ``write_sealed`` after verifying every byte of it; a damaged one is left untouched.

    A writer may replace it meanwhile: what is opened is what was verified, else the newer file is verified.
    """
    for _ in range(REPLACEMENTS):
        with atomic.open_regular(path) as body:
            expected = digest_in(body, path, kind)
            body.seek(HEADER)
            if hashlib.file_digest(body, "sha256").hexdigest() != expected:
                raise damaged(path, "its checksum does not match its content")
            with open_file(path) as file:
                if os.path.samestat(os.fstat(body.fileno()), os.fstat(file.id.get_vfd_handle())):
                    with understood(path):
                        yield file
                    return
    raise UserError(f"cannot read {path}: it is another file at each look", hint="try again")


def open_file(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; UserError where it is not a whole one, or the system refuses."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise (atomic.unreadable(path, error) if error.errno else damaged(path, first_line(error))) from error


@contextmanager
def understood(path: Path, what: str = "") -> Iterator[None]:
    """Turn whatever the library cannot make sense of into a UserError that names the file and what in it."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, MemoryError) as error:
        raise damaged(path, f"{what}{': ' if what else ''}{first_line(error)}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error of the HDF5 library."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def check_format(file: h5py.File, path: Path, name: str, major: int) -> int:
    """Return the minor version of a file; UserError unless it has this format and major version."""
    found, version = (attribute(file, key, path) if key in file.attrs else "" for key in ("format", "format_version"))
    if found != name:
        raise UserError(f"{path} is not a file of format '{name}' (found {found!r})", exit_code=2)
    numbers = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", version)
    if numbers is None or int(numbers[1]) != major:
        raise UserError(f"{path} has format version {version}, expected {major}.x", hint="update xfw", exit_code=2)
    return int(numbers[2])


def store(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    """Store values as they are; texts (arrays of objects) as variable-length UTF-8."""
    dtype = h5py.string_dtype() if values.dtype.kind in "OU" else values.dtype
    group.create_dataset(name, data=values, dtype=dtype)


def load(dataset: h5py.Dataset, place: Any = ()) -> NDArray[Any]:
    """Return the values of a dataset, or those at ``place``: texts as objects, booleans as such.

    Raises ValueError where the file declares more values than can lie in it, before memory is taken for them.
    """
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError("it is a group, expected a dataset")
    dtype, shape = dataset.dtype, dataset.shape
    declared = math.prod(shape) * dtype.itemsize
    if declared > SMALL:
        there = dataset.id.get_storage_size()
        if declared > there * (1 if dataset.chunks is None else MOST_COMPRESSED):
            raise ValueError(f"shape {shape} is declared, but only {there} bytes are there")
    if h5py.check_string_dtype(dtype):
        return np.asarray(dataset.asstr()[place], object)
    values = np.asarray(dataset[place])
    is_boolean = dtype == np.int8 and dataset.attrs.get("dtype") == "bool"
    return values.astype(np.bool_) if is_boolean else values


def attribute(item: h5py.Group | h5py.Dataset, name: str, path: Path) -> str:
    """Return an attribute that is one text or number; UserError where it is missing or something else."""
    with understood(path, f"attribute '{name}' of {item.name}"):
        kind = item.attrs.get_id(name)
        if kind.shape != () or kind.dtype.itemsize > LONGEST:
            raise ValueError(f"found {kind.dtype} of shape {kind.shape}, expected one value")
        value = item.attrs[name]
        return value if isinstance(value, str) else str(value)


def is_unsafe(name: str) -> bool:
    """Say whether a name from a file must not become part of a path: absolute, with parent folders, or unprintable."""
    return any(part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in name.split("/"))


def write_json(group: h5py.Group, name: str, value: Any) -> None:
    """Store a JSON value as a text dataset (attributes are limited to 64 KiB in some readers)."""
    group.create_dataset(name, data=json.dumps(value, separators=(",", ":")), dtype=h5py.string_dtype())


def read_json(group: h5py.Group, name: str) -> Any:
    """Return the JSON value stored by ``write_json``."""
    return json.loads(group[name].asstr()[()])


def subgroup(parent: h5py.Group, path: str) -> h5py.Group:
    """Return a group below ``parent``, made (with its order tracked, at every level) where it does not exist."""
    for name in path.split("/"):
        found = parent.get(name)
        parent = parent.create_group(name, track_order=True) if found is None else found
    return parent


def text(values: Mapping[str, str], item: h5py.Group | h5py.Dataset) -> None:
    """Store texts as variable-length UTF-8 attributes of a new item (in a third of the time that ``attrs`` takes)."""
    kind, space = h5py.h5t.py_create(h5py.string_dtype(), logical=True), h5py.h5s.create(h5py.h5s.SCALAR)
    for name, value in values.items():
        h5py.h5a.create(item.id, name.encode(), kind, space).write(np.array(value, object))


# --- sealed files: every axis with its scale --------------------------------------------------------------

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
        self._groups: dict[str, h5py.Group] = {}

    def group(self, path: str) -> h5py.Group:
        """Return a group of the file by its path from the root, made where it does not exist."""
        if path not in self._groups:
            self._groups[path] = subgroup(self._member.file, path)
        return self._groups[path]

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
            h5py.h5ds.attach_scale(dataset.id, scale.id, number)


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
    return empty(group, name, values.shape, canonical_dtype(values.dtype), values)


def empty(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], values: NDArray[Any] | None = None
) -> h5py.Dataset:
    """Make a dataset for values of a canonical element type, to be filled unless they are given."""
    parent, _, last = name.rpartition("/")
    home = subgroup(group, parent) if parent else group
    if dtype == np.dtype(object):
        return home.create_dataset(last, shape=shape, dtype=h5py.string_dtype(), data=values)
    boolean = dtype == np.bool_
    stored = np.dtype(np.int8) if boolean else dtype
    options: dict[str, Any] = {}
    if math.prod(shape) * stored.itemsize > COMPRESSED_FROM:
        chunks = chunk_shape(shape, stored.itemsize)
        options = {"chunks": chunks, "compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
    if values is not None:
        options["data"] = values.astype(stored, copy=False)
    dataset = home.create_dataset(last, shape=shape, dtype=stored, fillvalue=FILL[stored.kind, boolean], **options)
    if boolean:
        text({"dtype": "bool"}, dataset)
    return dataset


def describe(dataset: h5py.Dataset, long_name: str, unit: str = "1", version: int | None = None) -> None:
    """Give a dataset its name for people, its unit (none for texts) and the version of its schema."""
    text({"long_name": long_name} | ({"units": unit} if unit else {}), dataset)
    if version is not None:
        dataset.attrs.create("schema", version, dtype=np.int64)
