"""What blocks of earlier runs took, from the files that their processes left."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import attrs

from xfw.errors import UserError
from xfw.plan.manifest import BlockPlan, Manifest
from xfw.store.claims import DONE, BlockState
from xfw.store.rundir import RunDir, list_runs

__all__ = ["BlockTiming", "block_timings"]

NEWEST = 50
"""Runs that are looked at, so that a long history costs no time."""


@attrs.frozen
class BlockTiming:
    """One finished block of an earlier run, and the seconds from its claim to its end."""

    manifest: Manifest
    block: BlockPlan
    seconds: float


def block_timings(results_dir: Path, experiment: str) -> Iterator[BlockTiming]:
    """Yield the blocks that this machine finished at the first attempt, those of the newest run first."""
    runs = [run for run in list_runs(results_dir) if run.path.parent.name == experiment]
    for run in reversed(runs[-NEWEST:]):
        yield from _of_run(run)


def _of_run(run: RunDir) -> Iterator[BlockTiming]:
    try:
        manifest, states = run.manifest, run.block_states()
    except UserError:
        return  # a damaged run is no reason not to plan another one
    for block, state in zip(manifest.blocks, states, strict=True):
        seconds = _seconds(state)
        if seconds is not None:
            yield BlockTiming(manifest, block, seconds)


def _seconds(state: BlockState) -> float | None:
    if state.state != DONE or state.attempts != 1 or state.claim is None or state.end is None:
        return None
    if state.claim.host != socket.gethostname():
        return None
    began, ended = (datetime.fromisoformat(each.time) for each in (state.claim, state.end))
    return (ended - began).total_seconds()
