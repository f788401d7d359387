"""Follow what the blocks of a run commit, from their immutable files, in the order of the commits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.experiment import Stream
from xfw.manifest import BlockPlan
from xfw.store import atomic, schema, segments
from xfw.store.rundir import RunDir
from xfw.store.state import load_state

__all__ = ["BlockPosition", "Piece", "pieces", "read_positions", "write_positions"]

FORMAT = 1


@attrs.frozen
class BlockPosition:
    """How much of a block has been followed: its segments, and the rows of each stream in them."""

    segments: int = 0
    rows: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def step(self) -> int:
        """Return the number of rows of all streams."""
        return sum(self.rows.values())


@attrs.frozen(eq=False)
class Piece:
    """The rows that one segment adds to one stream: variables as (row, lane, ...), and the number of rows before."""

    stream: str
    coordinate: str
    first: int
    variables: Mapping[str, NDArray[Any]]

    def of_lane(self, lane: int) -> list[dict[str, Any]]:
        """Return the rows of one trial."""
        count = len(next(iter(self.variables.values()), ()))
        return [{name: values[row, lane] for name, values in self.variables.items()} for row in range(count)]


def pieces(run: RunDir, plan: BlockPlan, position: BlockPosition) -> Iterator[tuple[list[Piece], BlockPosition]]:
    """Yield the content of each further committed segment, and the position after it."""
    directory = run.block_dir(plan.index)
    for attempt in counted(directory, position.segments):
        records = segments.read(directory, position.segments + 1, attempt, position.rows)
        rows = dict(position.rows)
        found, step = [], position.step
        for stream, variables in records.items():
            declared = schema.declared_stream(run.records, stream)
            found.append(piece(declared, variables, rows.get(stream, 0), step))
            count = len(next(iter(variables.values()), ()))
            rows[stream] = rows.get(stream, 0) + count
            step += count
        position = BlockPosition(position.segments + 1, rows)
        yield found, position


def piece(declared: Stream, variables: Mapping[str, NDArray[Any]], before: int, step: int) -> Piece:
    """Return the rows of one stream with their coordinate, made from the number of rows where none is recorded."""
    values = dict(variables)
    if declared.coordinate not in values and values:
        count, lanes = next(iter(values.values())).shape[:2]
        numbers = np.arange(count, dtype=np.int64) + declared.first + before
        values[declared.coordinate] = np.broadcast_to(numbers[:, None], (count, lanes))
    return Piece(declared.name, declared.coordinate, step, values)


def counted(block_dir: Path, followed: int) -> Sequence[int]:
    """Return the attempts that wrote the segments beyond ``followed``, as the newest state counts them."""
    if not any((block_dir / segments.DIRECTORY).glob(f"{followed + 1:05d}*.h5")):
        return ()  # a look at the names is cheap, the state may be large
    restored = load_state(block_dir, with_state=False)
    return restored.segments[followed:] if restored else ()


def read_positions(path: Path) -> tuple[dict[int, BlockPosition], bool]:
    """Return how far a tracker has followed each block, and whether it has everything."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != FORMAT:
            raise UserError(f"{path} was written by a newer xfw", hint="update xfw", exit_code=2)
        return {int(block): BlockPosition(**each) for block, each in content["blocks"].items()}, content["complete"]
    except FileNotFoundError:
        return {}, False
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}", hint="remove it to track from the start", exit_code=2) from error


def write_positions(path: Path, positions: Mapping[int, BlockPosition], *, complete: bool) -> None:
    """Store how far a tracker has followed each block."""
    blocks = {str(block): attrs.asdict(each) for block, each in positions.items()}
    content = {"schema": FORMAT, "complete": complete, "blocks": blocks}
    path.parent.mkdir(exist_ok=True)
    atomic.publish(path, json.dumps(content).encode())
