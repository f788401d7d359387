"""The trials of a sealed file before it is written: blocks of a run, or runs that are merged, read piece by piece."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

import attrs
import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.store import claims, hdf5, segments
from xfw.store.rundir import RunDir
from xfw.store.segments import StoredArray
from xfw.store.state import load_state

__all__ = ["WHOLE", "BlockPart", "Content", "Part", "Recent", "TrialColumns", "gathered", "padding", "strategy_of"]

FINISHED = ("done", "diverged")
ROOM = 64 * 1024 * 1024
WHOLE = 4 * 1024 * 1024
"""Bytes of an array of one part up to which it is read at once."""

Shape = tuple[int, ...]


@attrs.frozen(eq=False)
class TrialColumns:
    """One value per trial, in file order. ``origin`` is the run that trained the trial, ``seed`` that run's seed.

    ``first_epoch`` counts the epochs that the trial had behind it when that run began, beyond the run's own.
    """

    trial: Sequence[int]
    condition: Sequence[int]
    seed: Sequence[int]
    key: Sequence[str]
    origin: Sequence[str]
    first_epoch: Sequence[int]
    status: Sequence[str]
    attempts: Sequence[int]
    strategy: Sequence[str]
    wall_time: Sequence[float]


class Part(Protocol):
    """Trials that come from one place. ``places`` are their positions on the axis of all trials."""

    @property
    def places(self) -> tuple[int, ...]: ...

    def streams(self) -> Mapping[str, Sequence[str]]:
        """Return the names of the variables of each stream, in the order in which they appear."""

    def counts(self, stream: str) -> NDArray[np.int64]:
        """Return the number of rows of each trial."""

    def column(self, stream: str, variable: str) -> NDArray[Any]:
        """Return the values of a variable as (trial, row, ...), padded beyond each trial's count."""

    def shapes(self) -> Mapping[str, Mapping[int, Shape]]:
        """Return the shape of each array by the trial's number in this part."""

    def array(self, name: str, lane: int) -> NDArray[Any]:
        """Return one trial's array."""


class Content:
    """All trials of a sealed file in file order; ``size`` is their number."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.size = sum(len(part.places) for part in parts)
        self._parts = tuple(parts)
        self._homes = {place: (part, lane) for part in parts for lane, place in enumerate(part.places)}
        self.streams: dict[str, dict[str, list[Part]]] = {}
        self.shapes: dict[str, dict[int, Shape]] = {}
        for part in parts:
            for stream, variables in part.streams().items():
                for variable in variables:
                    self.streams.setdefault(stream, {}).setdefault(variable, []).append(part)
            for name, shapes in part.shapes().items():
                held = self.shapes.setdefault(name, {})
                held.update({part.places[lane]: shape for lane, shape in shapes.items()})

    def counts(self, stream: str) -> NDArray[np.int64]:
        """Return the number of rows of each trial."""
        counts = np.zeros(self.size, np.int64)
        for part in self._parts:
            if stream in part.streams():
                counts[list(part.places)] = part.counts(stream)
        return counts

    def pieces(self, stream: str, variable: str) -> Iterator[tuple[list[int], NDArray[Any]]]:
        """Yield places and values as (trial, row, ...), in pieces of equal numbers of rows."""
        for part in self.streams[stream].get(variable, ()):
            values, counts, places = part.column(stream, variable), part.counts(stream), np.array(part.places)
            for count in np.unique(counts):
                chosen = counts == count
                yield places[chosen].tolist(), values[chosen][:, :count] if not chosen.all() else values[:, :count]

    def values(self, stream: str, variable: str, dtype: np.dtype[Any], rows: int) -> NDArray[Any]:
        """Return a variable of all trials, (trial, row, ...); what nobody has set is padding.

        Axes after the second are as long as the longest piece's.
        """
        pieces = list(self.pieces(stream, variable))
        shapes = [values.shape[2:] for _, values in pieces]
        if len({len(shape) for shape in shapes}) > 1:
            raise ValueError(f"values of different rank cannot be stacked: {sorted(set(shapes))}")
        longest = tuple(max(lengths) for lengths in zip(*shapes, strict=True))
        stacked = np.full((self.size, rows, *longest), padding(dtype), dtype)
        for places, values in pieces:
            region: tuple[Any, ...] = (places, *(slice(0, length) for length in values.shape[1:]))
            stacked[region] = values
        return stacked

    def array(self, name: str, place: int) -> NDArray[Any]:
        """Return the array of the trial at a position."""
        part, lane = self._homes[place]
        return part.array(name, lane)


class Recent:
    """Arrays that were read lately, as many as have room in ``ROOM`` bytes."""

    def __init__(self) -> None:
        self._held: OrderedDict[Any, NDArray[Any]] = OrderedDict()
        self._size = 0

    def get(self, key: Any, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return what ``read`` returned for this key, now or earlier."""
        if key not in self._held:
            self._held[key] = read()
            self._size += self._held[key].nbytes
            while self._size > ROOM and len(self._held) > 1:
                self._size -= self._held.popitem(last=False)[1].nbytes
        return self._held[key]


@attrs.frozen(eq=False)
class BlockPart:
    """What one block has committed, without its idle lanes; ``records`` are (row, trial, ...), arrays stay in files."""

    places: tuple[int, ...]
    status: tuple[str, ...]
    attempts: int
    seconds: float
    strategy: str
    first_epoch: int
    records: Mapping[str, Mapping[str, NDArray[Any]]]
    arrays: Mapping[str, StoredArray]
    files: hdf5.Pool[h5py.File]
    recent: Recent

    def streams(self) -> Mapping[str, Sequence[str]]:
        return {stream: list(variables) for stream, variables in self.records.items()}

    def counts(self, stream: str) -> NDArray[np.int64]:
        rows = max((len(values) for values in self.records[stream].values()), default=0)
        return np.full(len(self.places), rows, np.int64)

    def column(self, stream: str, variable: str) -> NDArray[Any]:
        return np.moveaxis(self.records[stream][variable], 1, 0)

    def shapes(self) -> Mapping[str, Mapping[int, Shape]]:
        return {name: home.shapes(self.files[home.path], len(self.places)) for name, home in self.arrays.items()}

    def array(self, name: str, lane: int) -> NDArray[Any]:
        home = self.arrays[name]
        file = self.files[home.path]
        if home.trials or file[f"arrays/{name}"].nbytes > WHOLE:
            return home.of_trial(file, lane)
        whole = self.recent.get((home.path, name), lambda: np.asarray(home.load(file)))
        return np.asarray(whole[lane], whole.dtype)


@contextmanager
def gathered(run: RunDir) -> Iterator[list[BlockPart]]:
    """Read what the blocks of a run have committed; a damaged file raises UserError."""
    position = {(member.condition, member.trial): place for place, member in enumerate(run.manifest.members())}
    recent = Recent()
    with closing(hdf5.Pool(hdf5.open_file)) as files:
        blocks = []
        for plan in run.manifest.blocks:
            places = tuple(position[member.condition, member.trial] for member in plan.members)
            blocks.append(read_block(run, plan.index, places, files, recent))
        yield blocks


def read_block(
    run: RunDir, index: int, places: tuple[int, ...], files: hdf5.Pool[h5py.File], recent: Recent
) -> BlockPart:
    """Read one block, without its idle lanes; every file that counts is verified."""
    directory, size = run.block_dir(index), len(places)
    block = claims.block_state(directory)
    restored = load_state(directory, with_state=False)
    if restored is None:
        return BlockPart(places, (block.state,) * size, block.attempts, 0.0, "", 0, {}, {}, files, recent)
    records = segments.read_all(directory, restored.segments)
    unfinished = claims.DONE if restored.final else block.state
    return BlockPart(
        places=places,
        status=tuple(status if status in FINISHED else unfinished for status in restored.status[:size]),
        attempts=block.attempts,
        seconds=restored.elapsed / size,
        strategy=strategy_of(restored.layout),
        first_epoch=restored.position.get("first_epoch", 0),
        records={
            stream: {name: values[:, :size] for name, values in variables.items()}
            for stream, variables in records.items()
        },
        arrays=restored.homes,
        files=files,
        recent=recent,
    )


def strategy_of(layout: Mapping[str, Any]) -> str:
    """Return how a block's steps were really run, for example ``stack (twin)``; empty where that is not known."""
    strategy, lowering = layout.get("strategy", ""), layout.get("lowering", "")
    return f"{strategy} ({lowering})" if lowering else str(strategy)


def padding(dtype: np.dtype[Any]) -> Any:
    """Return what stands where a trial has no value: NaN, -1 for integers, False for booleans, an empty text."""
    return {"f": np.nan, "i": -1, "b": False, "O": ""}[dtype.kind]
