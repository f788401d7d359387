"""Deal trials of equal shape into blocks, by a rule that looks at the device, the jobs and the memory only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

__all__ = ["Part", "cpu_parts", "dealt", "device_parts"]

T = TypeVar("T")

LARGEST_CPU_BLOCK = 20
"""More trials in one block gain nothing on a CPU, and a lost block would cost more."""


@attrs.frozen
class Part:
    """The trials of one block (by their place among those of equal shape), and how many lanes it has."""

    places: tuple[int, ...]
    width: int


def dealt(items: Sequence[T], parts: int) -> list[Sequence[T]]:
    """Return ``items`` in consecutive parts whose sizes differ by at most one, larger ones first."""
    size, longer = divmod(len(items), parts)
    starts = [part * size + min(part, longer) for part in range(parts + 1)]
    return [items[start:end] for start, end in itertools.pairwise(starts)]


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """Return ``items`` in consecutive parts of ``size``; the last one may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def cpu_parts(kept: Sequence[int], jobs: int, block_size: int | None) -> list[Part]:
    """Deal the kept trials evenly over the jobs, at most 20 a block; blocks have no idle lanes."""
    if not kept:
        return []
    if block_size is not None:
        groups = chunks(kept, block_size)
    else:
        fewest = -(-len(kept) // LARGEST_CPU_BLOCK)
        groups = dealt(kept, min(len(kept), max(fewest, jobs)))
    return [Part(tuple(group), len(group)) for group in groups]


def device_parts(count: int, kept: Sequence[int], block_size: int | None, fits: Callable[[int], bool]) -> list[Part]:
    """Put all trials into one block, or into the fewest equal parts that fit; idle lanes fill up the width.

    The parts are those of the whole plan: a filter empties lanes and leaves the width, so that a trial's
    numbers do not depend on which others are kept.
    """
    width = block_size or widest(count, fits)
    present = frozenset(kept)
    parts = [Part(tuple(place for place in chunk if place in present), width) for chunk in chunks(range(count), width)]
    return [part for part in parts if part.places]


def widest(count: int, fits: Callable[[int], bool]) -> int:
    """Return the width of the fewest equal parts that fit; 1 where not even one trial does."""
    for parts in range(1, count + 1):
        width = -(-count // parts)
        if fits(width):
            return width
    return 1
