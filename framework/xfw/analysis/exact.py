"""Whether two runs have stored the same numbers, bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis.conditions import groups_of
from xfw.analysis.tables import Table, columns
from xfw.store.results import Results

__all__ = ["IGNORED", "Unequal", "as_table", "differences"]

IGNORED = ("wall_time", "attempts", "strategy", "origin")
"""What equal runs may differ in: names that begin so, beside run id, dates, versions and device."""

Trial = tuple[Any, ...]


@attrs.frozen
class Unequal:
    """One stored quantity that differs: in how many of its elements, and by how much at most (None: no numbers)."""

    name: str
    elements: int
    of: int
    largest: float | None = None
    note: str = ""


def differences(first: Results, second: Results) -> tuple[int, list[Unequal]]:
    """Return how many quantities were compared, and those that differ; trials are matched by condition and index."""
    mine, theirs = trials_of(first), trials_of(second)
    common = [trial for trial in mine if trial in theirs]
    found = []
    for name, own, others in (("first", mine, theirs), ("second", theirs, mine)):
        alone = sum(trial not in others for trial in own)
        if alone:
            found.append(Unequal("trials", alone, len(own), note=f"only in the {name} run"))
    places = np.array([mine[trial] for trial in common], int), np.array([theirs[trial] for trial in common], int)
    one, other = dict(quantities(first, places[0])), dict(quantities(second, places[1]))
    for name in dict.fromkeys((*one, *other)):
        if name not in one or name not in other:
            found.append(Unequal(name, 1, 1, note=f"only in the {'first' if name in one else 'second'} run"))
        elif (unequal := compared(name, one[name], other[name])) is not None:
            found.append(unequal)
    return len({*one, *other}), found


def trials_of(results: Results) -> dict[Trial, int]:
    """Return the position of every trial by its condition's swept values and its index."""
    return {
        (group.identity, trial): int(position)
        for group in groups_of(results)
        for trial, position in zip(group.trials, group.positions, strict=True)
    }


def quantities(results: Results, places: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield everything that a run has stored of the trials at these positions, by name."""
    per_trial = {
        "key": results.key,
        "seed": results.seeds,
        "status": results.status,
        "first_epoch": results.first_epoch,
    }
    for name, values in per_trial.items():
        yield name, np.asarray(values)[places]
    for path, value in sorted(flat(results.config)):
        yield f"config {path}", np.asarray(repr(value))
    for stream in results.streams():
        count = results.count(stream)[places]
        rows = int(count.max(initial=0))
        yield f"{stream}/count", count
        yield f"{stream}/{results.coordinate_name(stream)}", results.coordinate(stream)[:rows]
        for variable in results.variables(stream):
            if not variable.startswith(IGNORED):
                yield f"{stream}/{variable}", results.values(stream, variable)[places, :rows]
    for name in results.arrays():
        if not name.startswith(IGNORED):
            yield name, results.array(name)[places]
    for number, place in enumerate(places.tolist()):
        for name, values in results.ragged(place).items():
            yield f"{name} of trial {number}", values


def flat(config: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested configuration with their key paths."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def compared(name: str, one: NDArray[Any], other: NDArray[Any]) -> Unequal | None:
    """Return how two arrays differ; None where they are the same, bit by bit."""
    if (
        one.shape != other.shape
        or one.dtype.kind != other.dtype.kind
        or (one.dtype.kind in "biuf" and one.dtype != other.dtype)
    ):
        return Unequal(name, one.size, one.size, note=f"{one.dtype} {one.shape} against {other.dtype} {other.shape}")
    if one.dtype.kind != "f":
        unequal = np.asarray(one != other)
    else:
        bits = f"u{one.dtype.itemsize}"
        unequal = np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(other).view(bits)
    if not unequal.any():
        return None
    largest = None
    if one.dtype.kind in "biuf":
        apart = np.abs(one[unequal].astype(np.float64) - other[unequal].astype(np.float64))
        largest = float(apart[np.isfinite(apart)].max(initial=0.0))
    return Unequal(name, int(unequal.sum()), int(unequal.size), largest)


def as_table(first: Results, second: Results, found: list[Unequal]) -> Table:
    """Return one row for each quantity that differs."""
    described = columns(
        ("quantity", "quantity"),
        ("elements", "elements that differ", "", "d"),
        ("of", "of", "", "d"),
        ("largest", "largest difference", "", ".3g"),
        ("note", "note"),
    )
    rows = tuple((unequal.name, unequal.elements, unequal.of, unequal.largest, unequal.note) for unequal in found)
    return Table(described, rows, caption=f"{first.run}, {second.run}: not equal")
