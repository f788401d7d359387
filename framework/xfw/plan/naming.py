"""Name conditions by the swept keys that tell them apart, without those that follow from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xfw.config.values import show

__all__ = ["combined", "spans", "telling_axes"]

DERIVED = ("default", "run ")
"""How the origin of a key begins that nobody may have swept in this run: a configuration derived its values."""


def telling_axes(
    axes: Sequence[str], provenance: Mapping[str, str], conditions: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the axes that name a condition: the first, all that somebody swept, and others that split further.

    Left out are keys that a configuration derives from a swept one, such as a learning rate that follows from
    the number of an experiment.
    """
    kept: list[str] = []
    seen = 1
    for axis in axes:
        groups = len({tuple(show(values.get(name)) for name in (*kept, axis)) for values in conditions})
        if not kept or groups > seen or not provenance.get(axis, "default").startswith(DERIVED):
            kept.append(axis)
            seen = groups
    return kept


def combined(axes: Sequence[str], conditions: Sequence[Mapping[str, Any]]) -> str:
    """Return the conditions in few words: ``mode=none lr=0.1,0.01`` where they are all combinations of these values.

    Others are listed one by one.
    """
    chosen = [tuple(show(values.get(axis)) for axis in axes) for values in conditions]
    columns = [list(dict.fromkeys(column)) for column in zip(*chosen, strict=True)]
    product = 1
    for column in columns:
        product *= len(column)
    if product == len(set(chosen)):
        return " ".join(f"{axis}={listed(column)}" for axis, column in zip(axes, columns, strict=True))
    return "; ".join(" ".join(f"{axis}={each}" for axis, each in zip(axes, values, strict=True)) for values in chosen)


def listed(values: Sequence[str], most: int = 8) -> str:
    """Return values with commas, whole numbers in short form; the middle of a long list is left out."""
    if len(values) > 2 and all(value.isdecimal() for value in values):
        return spans(sorted(map(int, values)), "..")
    if len(values) > most:
        return f"{','.join(values[: most - 2])},… ({len(values)})"
    return ",".join(values)


def spans(numbers: Sequence[int], dash: str = "-") -> str:
    """Return sorted whole numbers in short form, such as ``0-4,7``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}{dash}{last}" for first, last in ranges)
