"""Deal trials of equal shape into blocks, by a rule that looks at the device, the jobs and the memory only."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

__all__ = ["Part", "cpu_parts", "dealt", "device_parts"]

T = TypeVar("T")

LARGEST_CPU_BLOCK = 20
"""More trials in one block gain nothing on a CPU, and a lost block would cost more."""

FIXED = 2.3
"""What a block costs beside its trials, in trials: ten stacked ones take 3.7 times the time of one on a CPU."""


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


def cpu_parts(
    groups: Sequence[Sequence[int]], costs: Sequence[float], jobs: int, block_size: int | None
) -> list[list[Part]]:
    """Deal the kept trials of each group into blocks without idle lanes, at most 20 trials each.

    Blocks are as wide as keep the jobs busy: of all numbers of blocks the one that ends first, where the most costly
    blocks are divided first. ``costs`` holds what one trial of each group costs.
    """
    if block_size is not None:
        return [_whole([kept[at : at + block_size] for at in range(0, len(kept), block_size)]) for kept in groups]
    counts = [-(-len(kept) // LARGEST_CPU_BLOCK) for kept in groups]
    best, soonest = list(counts), _end(groups, costs, counts, jobs)
    while sum(counts) < 2 * jobs:
        divisible = [place for place, kept in enumerate(groups) if counts[place] < len(kept)]
        if not divisible:
            break
        counts[max(divisible, key=lambda place: costs[place] * len(groups[place]) / counts[place])] += 1
        end = _end(groups, costs, counts, jobs)
        if end < 0.99 * soonest:  # not for a gain that nobody would notice
            best, soonest = list(counts), end
    return [_whole(dealt(kept, count) if kept else []) for kept, count in zip(groups, best, strict=True)]


def _whole(parts: Sequence[Sequence[int]]) -> list[Part]:
    return [Part(tuple(part), len(part)) for part in parts]


def _end(groups: Sequence[Sequence[int]], costs: Sequence[float], counts: Sequence[int], jobs: int) -> float:
    """Return when the last job ends, its blocks dealt over the jobs in their order."""
    free = [0.0] * max(1, jobs)
    for kept, cost, count in zip(groups, costs, counts, strict=True):
        size, longer = divmod(len(kept), count or 1)
        for part in range(count):
            heapq.heapreplace(free, free[0] + max(cost, 1e-9) * (FIXED + size + (part < longer)))
    return max(free)


def device_parts(count: int, kept: Sequence[int], block_size: int | None, fits: Callable[[int], bool]) -> list[Part]:
    """Put all trials into one block, or into the fewest equal parts that fit; idle lanes fill up the width.

    The parts are those of the whole plan: a filter empties lanes and leaves the width, so that a trial's
    numbers do not depend on which others are kept. Single trials where not even one fits.
    """
    widths = (-(-count // parts) for parts in range(1, count + 1))
    width = block_size or next((width for width in widths if fits(width)), 1)
    present = frozenset(kept)
    parts = (range(start, min(start + width, count)) for start in range(0, count, width))
    chosen = (tuple(place for place in part if place in present) for part in parts)
    return [Part(places, width) for places in chosen if places]
