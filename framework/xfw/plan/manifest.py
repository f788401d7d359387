"""What a run is going to do, as written once to ``run.toml``: conditions, trials, blocks, seeds, versions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import attrs

from xfw.config.values import show
from xfw.plan.naming import telling_axes

__all__ = ["BlockPlan", "Condition", "Execution", "Manifest", "Member", "Source"]

FORMAT = 1
"""Version of ``run.toml``."""


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

    def trial_label(self, condition: int, trial: int) -> str:
        """Return the name of a trial: the last parts of its swept keys with their values, and its index."""
        values = self.conditions[condition].values
        named = (f"{path.rpartition('.')[2]}={show(values.get(path))}" for path in self.telling_axes)
        return " ".join([*named, f"trial {trial}"])
