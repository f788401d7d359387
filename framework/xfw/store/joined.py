"""The trials of several sealed files as if they were one, read piece by piece."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.store.columns import Placed
from xfw.store.gather import item_of
from xfw.store.results import Results

__all__ = ["Joined", "Part"]

WHOLE = 16 * 1024 * 1024
"""Bytes of an array of one part up to which it is read at once."""

HELD = 8
"""Arrays that are held at once, each of up to ``WHOLE`` bytes."""


@attrs.frozen(eq=False)
class Part:
    """One sealed file, and the place of each of its trials on the joint trial axis."""

    results: Results
    places: tuple[int, ...]


class Joined:
    """What ``parts`` hold together (``Content`` of a new sealed file)."""

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts
        self._whole: OrderedDict[tuple[int, str], NDArray[Any]] = OrderedDict()

    @property
    def size(self) -> int:
        """The number of trials."""
        return sum(len(part.places) for part in self._parts)

    @cached_property
    def _homes(self) -> dict[int, tuple[int, int]]:
        """The part and the position within it, by place."""
        return {
            place: (number, position)
            for number, part in enumerate(self._parts)
            for position, place in enumerate(part.places)
        }

    def streams(self) -> list[str]:
        """Return the names of the recorded streams, in the order in which they appear."""
        return unique(name for part in self._parts for name in part.results.streams())

    def variables(self, stream: str) -> list[str]:
        """Return the names of the variables that any part has in a stream, its coordinate first."""
        found = []
        for part in self._having(stream):
            coordinate = part.results.coordinate_name(stream)
            own = [name for name in part.results.variables(stream) if name != f"trial_{coordinate}"]
            found += [coordinate, *own]
        return unique(found)

    def placed(self, stream: str, variable: str) -> list[Placed]:
        """Return the values of a variable as (trial, row, ...), in pieces of equal numbers of rows."""
        pieces: list[Placed] = []
        for part in self._having(stream):
            values = column(part.results, stream, variable)
            counts = part.results.count(stream)
            for count in np.unique(counts) if values is not None else ():
                positions = np.flatnonzero(counts == count)
                places = tuple(part.places[position] for position in positions)
                assert values is not None
                pieces.append(Placed(places, values[positions][:, :count]))
        return pieces

    def counts(self, stream: str) -> NDArray[np.int64]:
        """Return the number of rows of each trial."""
        counts = np.zeros(self.size, np.int64)
        for part in self._having(stream):
            counts[list(part.places)] = part.results.count(stream)
        return counts

    def array_names(self) -> list[str]:
        """Return the names of the arrays that any trial has."""
        return unique(
            name
            for part in self._parts
            for name in (*part.results.arrays(), *(name for held in self._ragged(part) for name in held))
        )

    def shapes(self, name: str) -> dict[int, tuple[int, ...]]:
        """Return the shape of an array by position on the trial axis."""
        found: dict[int, tuple[int, ...]] = {}
        for part in self._parts:
            if name in part.results.arrays():
                found |= dict.fromkeys(part.places, part.results.shape(name)[1:])
            for place, held in zip(part.places, self._ragged(part), strict=True):
                if name in held:
                    found[place] = held[name]
        return dict(sorted(found.items()))

    def element(self, name: str) -> np.dtype[Any]:
        """Return the element type of an array."""
        place = next(iter(self.shapes(name)))
        return self.array(name, [place])[0].dtype

    def array(self, name: str, places: Sequence[int]) -> list[NDArray[Any]]:
        """Return the values of an array at some positions."""
        return [self._value(name, *self._homes[place]) for place in places]

    def _value(self, name: str, number: int, position: int) -> NDArray[Any]:
        results = self._parts[number].results
        if name not in results.arrays():
            return results.ragged(position)[name]
        if (number, name) not in self._whole:
            if not small(results.shape(name)):
                return results.array(name, position)
            self._whole[number, name] = results.array(name)
            if len(self._whole) > HELD:
                self._whole.popitem(last=False)
        self._whole.move_to_end((number, name))
        return item_of(self._whole[number, name], position)

    def _ragged(self, part: Part) -> list[Mapping[str, tuple[int, ...]]]:
        """Return the shapes of the arrays of each trial of a part that have shapes of their own."""
        return [part.results.ragged_shapes(position) for position in range(len(part.places))]

    def _having(self, stream: str) -> list[Part]:
        return [part for part in self._parts if stream in part.results.streams()]


def column(results: Results, stream: str, name: str) -> NDArray[Any] | None:
    """Return a variable or the coordinate of a stream as (trial, row, ...); None where the part has none."""
    coordinate = results.coordinate_name(stream)
    if name != coordinate:
        return results.values(stream, name) if name in results.variables(stream) else None
    if f"trial_{coordinate}" in results.variables(stream):
        return results.values(stream, f"trial_{coordinate}")
    shared = results.coordinate(stream)
    return np.broadcast_to(shared, (len(results.trial), len(shared)))


def small(shape: tuple[int, ...]) -> bool:
    """Say whether an array of this shape is read at once."""
    return int(np.prod(shape, dtype=np.int64)) * 8 <= WHOLE


def unique(names: Iterable[str]) -> list[str]:
    """Return names in order, each once."""
    return list(dict.fromkeys(names))
