"""What another run stored for one trial, as the plugin of a run started with ``--from`` sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.store.state import Restored

__all__ = ["TrialSource", "nest", "unpack"]

Weights = dict[str, NDArray[Any]]


@attrs.frozen(eq=False)
class TrialSource:
    """One trial of a sealed run: its whole configuration, its arrays and its last records.

    ``condition`` and ``trial`` are the numbers it has in its own run.
    """

    run: str
    config: Mapping[str, Any]
    condition: int
    trial: int
    seed: int
    status: str
    arrays: Mapping[str, Any]
    _rows: Mapping[str, int]
    _last: Mapping[str, Mapping[str, Any]]
    _snapshots: Callable[[str], Weights | None]

    def rows(self, stream: str) -> int:
        """Return the number of rows that the trial recorded in a stream."""
        return self._rows.get(stream, 0)

    def last(self, stream: str) -> Mapping[str, Any]:
        """Return the last row of a stream; empty where there is none."""
        return self._last.get(stream, {})

    def weights(self, snapshot: str) -> Weights | None:
        """Return the parameters of a snapshot by name: sealed ones, else those of the block's final state.

        None where neither holds them. ``parameters`` names the network as it was at the end.
        """
        prefix = f"{snapshot}/"
        sealed = {name.removeprefix(prefix): value for name, value in self.arrays.items() if name.startswith(prefix)}
        return sealed or self._snapshots(snapshot)


def unpack(restored: Restored, snapshot: str, lane: int) -> Weights | None:
    """Return the parameters of one lane of a committed arena by name, as the layout places them."""
    name = snapshot if snapshot == "parameters" else f"snapshots/{snapshot}"
    if name not in restored.state or "parameters" not in restored.layout:
        return None
    row = restored.state[name][lane]
    slots: Sequence[tuple[str, Sequence[int], int]] = restored.layout["parameters"]
    return {
        parameter: np.array(row[offset : offset + math.prod(shape)]).reshape(tuple(shape))
        for parameter, shape, offset in slots
    }


def nest(common: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested configuration with the values of one condition put at their key paths."""
    result = {key: nest(value, {}) if isinstance(value, Mapping) else value for key, value in common.items()}
    for path, value in values.items():
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return result
