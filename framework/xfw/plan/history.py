"""Predict a block's time from what finished blocks of the same work took on this machine."""

from __future__ import annotations

import math
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from xfw.config.resolve import condition_configs
from xfw.config.structure import canonical, unstructure
from xfw.engine.work import work_of
from xfw.errors import UserError
from xfw.experiment import Experiment, Pass
from xfw.manifest import BlockPlan, Execution, Manifest
from xfw.plan.estimate import Shape, estimated, outline
from xfw.store.claims import DONE, BlockState
from xfw.store.rundir import list_runs

__all__ = ["BlockTiming", "History", "block_timings", "history_of"]

NEWEST = 50
"""Runs that are looked at, so that a long history costs no time."""

SHORTEST, FEWEST = 10.0, 200
"""Seconds and steps below which a block's time says more about its start than about its steps."""


@attrs.frozen
class BlockTiming:
    """One finished block of an earlier run, and the seconds from its claim to its end."""

    manifest: Manifest
    block: BlockPlan
    seconds: float


@attrs.frozen
class Entry:
    """One measured block: its parameters' shapes and its passes, how it ran, and the seconds it took."""

    shapes: tuple[tuple[int, ...], ...]
    passes: Mapping[Pass, int]
    steps: int
    width: int
    strategy: str
    manner: tuple[Any, ...]
    seconds: float


@attrs.frozen
class History:
    """Measured blocks, the newest first."""

    entries: tuple[Entry, ...] = ()

    def seconds(self, shape: Shape, width: int, execution: Execution) -> float | None:
        """Return the expected seconds of a block of this shape, or None where none like it was measured.

        The measured time of the block of nearest width (of those the one with most steps) is scaled to
        this width and number of steps as the model of ``plan/estimate`` scales.
        """
        alike = [entry for entry in self.entries if _alike(entry, shape, execution)]
        if not alike or not shape.passes:
            return None
        best = min(alike, key=lambda entry: (abs(math.log(entry.width / width)), -entry.steps))
        before = estimated(attrs.evolve(shape, passes=best.passes), best.width, execution).seconds
        return best.seconds * estimated(shape, width, execution).seconds / before


def _alike(entry: Entry, shape: Shape, execution: Execution) -> bool:
    if entry.shapes != shape.work.shapes or entry.strategy != shape.strategy or entry.manner != _manner(execution):
        return False
    if entry.passes.keys() != shape.passes.keys():
        return False
    return entry.steps == estimated(attrs.evolve(shape, passes=entry.passes), 1, execution).steps


def _manner(execution: Execution) -> tuple[Any, ...]:
    # What of an execution decides how fast a block is.
    return execution.device.partition(":")[0], execution.dtype, execution.allow_tf32, execution.threads


def block_timings(results_dir: Path, experiment: str) -> Iterator[BlockTiming]:
    """Yield the blocks that this machine finished at the first attempt, those of the newest run first."""
    runs = [run for run in list_runs(results_dir) if run.path.parent.name == experiment]
    for run in reversed(runs[-NEWEST:]):
        try:
            manifest, states = run.manifest, run.block_states()
        except UserError:
            continue  # a damaged run is no reason not to plan another one
        for block, state in zip(manifest.blocks, states, strict=True):
            seconds = _seconds(state)
            if seconds is not None:
                yield BlockTiming(manifest, block, seconds)


def _seconds(state: BlockState) -> float | None:
    if state.state != DONE or state.attempts != 1 or state.claim is None or state.end is None:
        return None
    if state.claim.host != socket.gethostname():
        return None
    began, ended = (datetime.fromisoformat(moment.time) for moment in (state.claim, state.end))
    return (ended - began).total_seconds()


def history_of(experiment: Experiment, timings: Iterable[BlockTiming]) -> History:
    """Return the history that finished blocks make; those of another version of the configuration are left out."""
    entries: list[Entry] = []
    configs: dict[str, Sequence[Any]] = {}
    known: dict[str, tuple[tuple[int, ...], ...]] = {}
    for timing in timings:
        block, run = timing.block, timing.manifest.run
        if timing.seconds < SHORTEST or block.steps < FEWEST:
            continue
        if run not in configs:
            try:
                configs[run] = condition_configs(timing.manifest, experiment.config_class)
            except UserError:
                configs[run] = ()
        if not configs[run]:
            continue
        config = configs[run][block.members[0].condition]
        text = canonical(unstructure(config))
        if text not in known:
            known[text] = work_of(outline(partial(experiment.hooks.build_model, config=config))).shapes
        passes = Counter(experiment.hooks.plan_passes(config=config))
        manner = _manner(timing.manifest.execution)
        entries.append(Entry(known[text], passes, block.steps, block.width, block.strategy, manner, timing.seconds))
    return History(tuple(entries))
