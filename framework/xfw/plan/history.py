"""Predict a block's time from what finished blocks of the same work took on this machine."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from xfw.config.resolve import condition_configs
from xfw.config.structure import canonical, unstructure
from xfw.errors import UserError
from xfw.experiment import Experiment, Pass
from xfw.manifest import BlockPlan, Execution, Manifest
from xfw.plan.estimate import Work, work_of
from xfw.plan.shape import Shape, estimated
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
    """One measured block: its work and passes, how it ran, and the seconds it took."""

    work: Work
    epochs: tuple[Pass, ...]
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
        if not alike or not shape.epochs:
            return None
        best = min(alike, key=lambda entry: (abs(math.log(entry.width / width)), -entry.steps))
        before = estimated(attrs.evolve(shape, epochs=best.epochs), best.width, execution).seconds
        return best.seconds * estimated(shape, width, execution).seconds / before


def _alike(entry: Entry, shape: Shape, execution: Execution) -> bool:
    if entry.work != shape.work or entry.strategy != shape.strategy or entry.manner != _manner(execution):
        return False
    if set(entry.epochs) != set(shape.epochs):
        return False
    return entry.steps == estimated(attrs.evolve(shape, epochs=entry.epochs), 1, execution).steps


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
    known: dict[str, Work] = {}
    for timing in timings:
        if timing.seconds < SHORTEST or timing.block.steps < FEWEST:
            continue
        run = timing.manifest.run
        if run not in configs:
            try:
                configs[run] = condition_configs(timing.manifest, experiment.config_class)
            except UserError:
                configs[run] = ()
        if configs[run]:
            entries.append(_entry(experiment, configs[run], timing, known))
    return History(tuple(entries))


def _entry(experiment: Experiment, configs: Sequence[Any], timing: BlockTiming, known: dict[str, Work]) -> Entry:
    block = timing.block
    config = configs[block.members[0].condition]
    text = canonical(unstructure(config))
    if text not in known:
        known[text] = _work(experiment, config)
    epochs = tuple(experiment.hooks.plan_passes(config=config))
    manner = _manner(timing.manifest.execution)
    return Entry(known[text], epochs, block.steps, block.width, block.strategy, manner, timing.seconds)


def _work(experiment: Experiment, config: Any) -> Work:
    import torch

    with torch.random.fork_rng(devices=[]):
        return work_of(experiment.hooks.build_model(config=config))
