"""When and how a block makes its progress durable: new records first, then the state that counts them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.store import atomic, segments
from xfw.store.segments import ArrayValue, StoredArray
from xfw.store.state import Restored, load_state, remove_older, write_state

__all__ = ["Commit", "Committer", "Restored", "load_state"]

SHORTEST = 10.0
"""Seconds that lie at least between two commits."""

SHARE = 50.0
"""Time between two commits, in durations of the last one: commits cost under 2 % of the time."""

BYTES_PER_SECOND = 5e8
"""What a commit is taken to write until one has been measured: copied from the device, written, synced."""


@attrs.frozen(eq=False)
class Commit:
    """Everything a block makes durable at one point between two steps.

    ``records`` holds the rows since the last commit as (row, trial, ...), ``arrays`` what was set so far
    (earlier ones need not be repeated), ``status`` one word per member. Lanes beyond the members are
    padding and never leave the state.
    """

    records: segments.StreamRecords
    arrays: Mapping[str, ArrayValue]
    state: Mapping[str, NDArray[Any]]
    position: Mapping[str, int]
    layout: Mapping[str, Any]
    status: Sequence[str]
    final: bool = False


class Committer:
    """The one writer of a block directory; made by the block process that holds the claim.

    ``fence`` raises where a later attempt has the block. Files are named after their ``attempt``: what an earlier one,
    taken for lost too soon, writes between its last look and its end is never counted once a later one has committed.
    """

    def __init__(
        self,
        block_dir: Path,
        restored: Restored | None = None,
        *,
        attempt: int = 1,
        fence: Callable[[], None] = lambda: None,
        shortest: float = SHORTEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._block_dir = block_dir
        self._attempt = attempt
        self._fence = fence
        self._clock = clock
        self._shortest = shortest
        self._homes: dict[str, StoredArray] = dict(restored.homes) if restored else {}
        # xfw 0.1 kept arrays in the state, which the next one replaces: they are written again.
        inside = [name for name, home in self._homes.items() if home.path.parent == block_dir]
        self._again = {name: restored.arrays[name] for name in inside} if restored else {}
        self._rows: dict[str, int] = dict(restored.rows) if restored else {}
        self._segments = restored.segments if restored else ()
        self._recovered = False
        self._before = restored.elapsed if restored else 0.0
        self._began = self._last = clock()
        self._duration = 0.0
        atomic.remove_temporaries(block_dir)

    def expect(self, nbytes: int) -> None:
        """Take note of how much a commit writes, so that the first one of a large block does not come too early."""
        self._duration = self._duration or nbytes / BYTES_PER_SECOND

    def due(self) -> bool:
        """Say whether enough time has passed since the last commit."""
        share = SHARE * self._duration if self._shortest > 0 else 0.0
        return self._clock() - self._last >= max(self._shortest, share)

    def commit(self, commit: Commit) -> None:
        """Write the new records as a segment, then the state; each atomically and durably.

        Raises UserError where the disk refuses, and what ``fence`` raises; the last commit then stays what counts.
        """
        self._fence()
        began = self._clock()
        arrays = {**self._again, **commit.arrays}
        added = {stream: new for stream, new in segments.row_counts(commit.records).items() if new}
        written = self._segments
        homes = dict(self._homes)
        if added or arrays:
            written += (self._attempt,)
            records = {stream: commit.records[stream] for stream in added}
            segments.write(self._block_dir, len(written), self._rows, records, self._attempt, arrays)
            path = segments.path_of(self._block_dir, len(written), self._attempt)
            for name, value in arrays.items():
                homes[name] = StoredArray(path, name, 0 if isinstance(value, np.ndarray) else len(value))
        rows = self._rows | {stream: self._rows.get(stream, 0) + new for stream, new in added.items()}
        write_state(
            self._block_dir,
            Restored(
                state=commit.state,
                arrays={},
                position=commit.position,
                layout=commit.layout,
                status=tuple(commit.status),
                rows=rows,
                segments=written,
                final=commit.final,
                elapsed=self._before + began - self._began,
                attempt=self._attempt,
                homes=homes,
            ),
        )
        self._segments, self._rows, self._homes, self._again = written, rows, homes, {}
        if not self._recovered:
            segments.recover(self._block_dir, written)
            remove_older(self._block_dir, self._attempt)
            self._recovered = True
        self._last = self._clock()
        self._duration = self._last - began
