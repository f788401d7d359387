"""Place the named parameters of one trial in one flat row, so that a block is a ``[T, P]`` arena.

Axes: T trial (lane) of the block, P entry of a trial's row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import torch

__all__ = ["Layout", "Slot"]

ALIGNMENT = 4
"""Entries to which every parameter is aligned: 16 bytes in float32, what vectorised loads want."""


@attrs.frozen
class Slot:
    """Where one parameter lies in a trial's row."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of entries."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


@attrs.frozen
class Layout:
    """The slots of all parameters of one trial; ``width`` is P, the alignment gaps included."""

    slots: tuple[Slot, ...]
    width: int

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]]) -> Layout:
        """Lay out parameters in the given order."""
        slots, offset = [], 0
        for name, shape in shapes.items():
            slot = Slot(name, tuple(shape), offset)
            slots.append(slot)
            offset += -(-slot.size // ALIGNMENT) * ALIGNMENT
        return cls(tuple(slots), offset)

    def slot(self, name: str) -> Slot:
        """Return the slot of a parameter; KeyError if there is none."""
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(name)

    def views(self, arena_TP: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``[T, *shape]`` views of the arena by parameter name."""
        lanes = arena_TP.shape[0]
        return {s.name: arena_TP[:, s.offset : s.offset + s.size].view(lanes, *s.shape) for s in self.slots}

    def parameters(self) -> int:
        """Return the number of parameters of one trial, without the alignment gaps."""
        return sum(slot.size for slot in self.slots)

    def describe(self) -> list[list[object]]:
        """Return ``[name, shape, offset]`` of every slot, for the committed state."""
        return [[slot.name, list(slot.shape), slot.offset] for slot in self.slots]
