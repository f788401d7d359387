"""Everything that the blocks of a run have committed, brought into file order: by condition, then by trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.manifest import BlockPlan
from xfw.store import claims, segments
from xfw.store.columns import Placed
from xfw.store.rundir import RunDir
from xfw.store.state import ArrayValue, load_state

__all__ = ["BlockContent", "Gathered", "gather", "padding", "stack"]

FINISHED = ("done", "diverged")


@attrs.frozen(eq=False)
class BlockContent:
    """What one block has committed: ``places`` are the positions of its members on the trial axis."""

    places: tuple[int, ...]
    status: tuple[str, ...]
    attempts: int
    seconds: float
    strategy: str
    first_epoch: int
    records: Mapping[str, Mapping[str, NDArray[Any]]]
    arrays: Mapping[str, tuple[NDArray[Any], ...]]


@attrs.frozen(eq=False)
class Gathered:
    """The content of all blocks; ``size`` is the number of trials of the run."""

    size: int
    blocks: tuple[BlockContent, ...]
    _arrays: dict[str, dict[int, NDArray[Any]]] = attrs.field(factory=dict, init=False)

    def streams(self) -> list[str]:
        """Return the names of the recorded streams, in the order in which they appear."""
        return unique(name for block in self.blocks for name in block.records)

    def variables(self, stream: str) -> list[str]:
        """Return the names of the variables that any block recorded in a stream."""
        return unique(name for block in self.blocks for name in block.records.get(stream, {}))

    def array_names(self) -> list[str]:
        """Return the names of the arrays that any block holds."""
        return unique(name for block in self.blocks for name in block.arrays)

    def placed(self, stream: str, variable: str) -> list[Placed]:
        """Return the values of a variable as (trial, row, ...), by block."""
        return [
            Placed(block.places, np.moveaxis(block.records[stream][variable], 1, 0))
            for block in self.blocks
            if variable in block.records.get(stream, {})
        ]

    def counts(self, stream: str) -> NDArray[np.int64]:
        """Return the number of rows of each trial."""
        counts = np.zeros(self.size, np.int64)
        for block in self.blocks:
            rows = [len(values) for values in block.records.get(stream, {}).values()]
            counts[list(block.places)] = max(rows, default=0)
        return counts

    def shapes(self, name: str) -> dict[int, tuple[int, ...]]:
        """Return the shape of an array by position on the trial axis."""
        return {place: value.shape for place, value in sorted(self._by_place(name).items())}

    def element(self, name: str) -> np.dtype[Any]:
        """Return the element type of an array."""
        return next(iter(self._by_place(name).values())).dtype

    def array(self, name: str, places: Sequence[int]) -> list[NDArray[Any]]:
        """Return the values of an array at some positions."""
        values = self._by_place(name)
        return [values[place] for place in places]

    def _by_place(self, name: str) -> dict[int, NDArray[Any]]:
        if name not in self._arrays:
            self._arrays[name] = {
                place: value
                for block in self.blocks
                for place, value in zip(block.places, block.arrays.get(name, ()), strict=False)
            }
        return self._arrays[name]

    def per_trial(self, value: str) -> list[Any]:
        """Return one value per trial: ``status``, ``attempts``, ``strategy``, ``first_epoch`` or ``seconds``."""
        found: list[Any] = [None] * self.size
        for block in self.blocks:
            item = getattr(block, value)
            for lane, place in enumerate(block.places):
                found[place] = item[lane] if isinstance(item, tuple) else item
        return found


def gather(run: RunDir) -> Gathered:
    """Read what the blocks of a run have committed; a damaged file raises UserError."""
    members = run.manifest.members()
    position = {(member.condition, member.trial): place for place, member in enumerate(members)}
    blocks = []
    for plan in run.manifest.blocks:
        places = tuple(position[member.condition, member.trial] for member in plan.members)
        blocks.append(read_block(run, plan, places))
    return Gathered(len(members), tuple(blocks))


def read_block(run: RunDir, plan: BlockPlan, places: tuple[int, ...]) -> BlockContent:
    """Read one block, without its idle lanes."""
    directory, size = run.block_dir(plan.index), len(places)
    found = claims.block_state(directory)
    restored = load_state(directory, with_state=False)
    if restored is None:
        return BlockContent(places, (found.state,) * size, found.attempts, 0.0, "", 0, {}, {})
    records = segments.read_all(directory, restored.segments)
    return BlockContent(
        places=places,
        status=trial_status(restored.status[:size], found.state, restored.final),
        attempts=found.attempts,
        seconds=restored.elapsed / size,
        strategy=strategy_of(restored.layout),
        first_epoch=restored.position.get("first_epoch", 0),
        records={
            stream: {name: values[:, :size] for name, values in variables.items()}
            for stream, variables in records.items()
        },
        arrays={name: members_of(value, size) for name, value in restored.arrays.items()},
    )


def trial_status(stored: Sequence[str], block: str, final: bool) -> tuple[str, ...]:
    """Return the status of each trial: its own where it has finished, else its block's."""
    unfinished = claims.DONE if final else block
    return tuple(status if status in FINISHED else unfinished for status in stored)


def members_of(value: ArrayValue, size: int) -> tuple[NDArray[Any], ...]:
    """Return the values of the members, without those of idle lanes."""
    return tuple(item_of(value, place) for place in range(size))


def item_of(values: ArrayValue, place: int) -> NDArray[Any]:
    """Return one trial's array; a single text stays an array of objects."""
    item = values[place]
    return np.asarray(item, object) if isinstance(item, str) else np.asarray(item)


def stack(pieces: Sequence[Placed], size: int, dtype: np.dtype[Any], rows: int | None = None) -> NDArray[Any]:
    """Put values at their places on the trial axis; what nobody has set is padding.

    Axes after the first are as long as the longest piece's; the second at least ``rows``.
    """
    shapes = [piece.values.shape[1:] for piece in pieces]
    if rows is not None:
        shapes.append((rows, *shapes[0][1:]))
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(f"values of different rank cannot be stacked: {sorted(set(shapes))}")
    longest = tuple(max(lengths) for lengths in zip(*shapes, strict=True))
    stacked = np.full((size, *longest), padding(dtype), dtype)
    for piece in pieces:
        inner = (slice(0, length) for length in piece.values.shape[1:])
        region: tuple[Any, ...] = (list(piece.places), *inner)
        stacked[region] = piece.values
    return stacked


def padding(dtype: np.dtype[Any]) -> Any:
    """Return what stands where a trial has no value: NaN, -1 for integers, False for booleans, an empty text."""
    return {"f": np.nan, "i": -1, "b": False, "O": ""}[dtype.kind]


def unique(names: Iterable[str]) -> list[str]:
    """Return names in order, each once."""
    return list(dict.fromkeys(names))


def strategy_of(layout: Mapping[str, Any]) -> str:
    """Return how a block's steps were really run, for example ``stack (twin)``; empty where that is not known."""
    strategy, lowering = layout.get("strategy", ""), layout.get("lowering", "")
    return f"{strategy} ({lowering})" if lowering else str(strategy)
