"""What a run is going to do, as written once to ``run.toml``: conditions, trials, blocks, seeds, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs

__all__ = [
    "BlockPlan",
    "Condition",
    "Execution",
    "Manifest",
    "Member",
    "Source",
    "combined",
    "flatten",
    "frozen",
    "nested",
    "show",
    "spans",
    "telling_axes",
]

FORMAT = 1
"""Version of ``run.toml``."""

DERIVED = ("default", "run ")
"""How the origin of a key begins that nobody may have swept in this run: a configuration derived its values."""


@attrs.frozen
class Condition:
    """One point of the sweep: its number in the plan and the values of the swept keys, by key path."""

    index: int
    values: Mapping[str, Any]


@attrs.frozen
class Member:
    """One trial of one condition, with the 64-bit base key of its random streams (16 hexadecimal digits)."""

    condition: int
    trial: int
    key: str


@attrs.frozen
class BlockPlan:
    """Trials of equal shape that train together in one process.

    ``timings`` holds seconds per step and trial of the strategies that ``--strategy tune`` compared.
    """

    index: int
    members: tuple[Member, ...]
    width: int
    strategy: str
    steps: int
    memory: int
    timings: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class Execution:
    """Everything outside the configuration that fixes the numbers of a run."""

    device: str
    dtype: str
    allow_tf32: bool
    strategy: str
    threads: int
    jobs: int
    data_dir: str


@attrs.frozen
class Source:
    """Another run that this one starts from or holds, and the content hash of what was read."""

    run: str
    sha256: str


@attrs.frozen
class Manifest:
    """The whole of ``run.toml``.

    ``config`` holds the values common to all conditions (nested by key), ``provenance`` the origin of
    every key path, ``axes`` the swept key paths in order, ``stages`` the stages that the run goes through.
    ``merged`` names the sealed runs that this one was joined from; their seeds may differ (``seed`` is -1 then).
    """

    run: str
    experiment: str
    preset: str
    stages: tuple[str, ...]
    created: str
    command: tuple[str, ...]
    seed: int
    config: Mapping[str, Any]
    config_hash: str
    provenance: Mapping[str, str]
    axes: tuple[str, ...]
    conditions: tuple[Condition, ...]
    blocks: tuple[BlockPlan, ...]
    execution: Execution
    versions: Mapping[str, str]
    source: Source | None = None
    merged: tuple[Source, ...] = ()
    format: int = FORMAT

    def members(self) -> list[Member]:
        """Return all trials in file order: by condition, then by trial index."""
        found = [member for block in self.blocks for member in block.members]
        return sorted(found, key=lambda member: (member.condition, member.trial))

    @cached_property
    def telling_axes(self) -> list[str]:
        """The swept key paths that name a condition, without those that follow from others."""
        return telling_axes(self.axes, self.provenance, [condition.values for condition in self.conditions])

    @cached_property
    def flat(self) -> tuple[Mapping[str, Any], ...]:
        """The whole configuration of each condition, by key path."""
        common = flatten(self.config)
        return tuple({**common, **condition.values} for condition in self.conditions)

    def trial_label(self, condition: int, trial: int) -> str:
        """Return the name of a trial: the last parts of its swept keys with their values, and its index."""
        values = self.conditions[condition].values
        named = (f"{path.rpartition('.')[2]}={show(values.get(path))}" for path in self.telling_axes)
        return " ".join([*named, f"trial {trial}"])


def show(value: Any) -> str:
    """Return a value as one would write it on the command line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ",".join(show(item) for item in value) + "]"
    return str(value)


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


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries as values by key path."""
    flat: dict[str, Any] = {}
    rest = [(str(name), value) for name, value in reversed(list(values.items()))]
    while rest:
        path, value = rest.pop()
        if isinstance(value, Mapping):
            rest += [(f"{path}.{name}", inner) for name, inner in reversed(list(value.items()))]
        else:
            flat[path] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by key path as nested dictionaries; values of None are left out."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        if value is not None:
            *parents, name = path.split(".")
            branch = tree
            for parent in parents:
                branch = branch.setdefault(parent, {})
            branch[name] = value
    return tree


def frozen(value: Any) -> Any:
    """Return a value that equal values share and that can be looked up: lists become tuples."""
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value
