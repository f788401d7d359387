"""Find what a run started with ``--from`` begins with: the stored trial for each of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.manifest import Member
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir
from xfw.store.sources import TrialSource, nest, unpack
from xfw.store.state import Restored, load_state

__all__ = ["trial_sources"]


def trial_sources(run: RunDir, members: Sequence[Member], conditions: Mapping[int, int]) -> list[TrialSource]:
    """Return the stored trial for each member: equal trial index, and the condition that ``conditions`` names.

    Raises UserError (exit code 2) where ``run`` has no such trial, and where it was merged: it may hold several
    trials of one index.
    """
    if run.manifest.merged:
        parts = ", ".join(part.run for part in run.manifest.merged)
        raise UserError(f"run {run.id} was merged", hint=f"name one of its parts: {parts}", exit_code=2)
    snapshots = snapshot_reader(run)
    with open_run(run) as results:
        places = {
            pair: place
            for place, pair in enumerate(zip(results.condition.tolist(), results.trial.tolist(), strict=True))
        }
        found = []
        for member in members:
            condition = conditions[member.condition]
            place = places.get((condition, member.trial))
            if place is None:
                raise UserError(
                    f"run {run.id} has no trial {member.trial} to start from",
                    hint="ask for fewer --trials",
                    exit_code=2,
                )
            found.append(read_trial(results, place, snapshots(condition, member.trial)))
    return found


def read_trial(results: Results, place: int, snapshots: Callable[[str], dict[str, NDArray[Any]] | None]) -> TrialSource:
    """Return what a sealed run holds for the trial at one position."""
    condition = int(results.condition[place])
    rows = {stream: int(results.count(stream)[place]) for stream in results.streams()}
    arrays = {name: results.array(name, place) for name in results.arrays()} | results.ragged(place)
    return TrialSource(
        run=results.run,
        config=nest(results.config, results.conditions[condition]),
        condition=condition,
        trial=int(results.trial[place]),
        seed=int(results.seeds[place]),
        status=results.status[place],
        arrays=arrays,
        rows=rows,
        last={stream: results.row(stream, place, count - 1) for stream, count in rows.items() if count},
        snapshots=snapshots,
    )


def snapshot_reader(run: RunDir) -> Callable[[int, int], Callable[[str], dict[str, NDArray[Any]] | None]]:
    """Return a reader of snapshots in the blocks' final states, which loads each block at most once."""
    lanes = {
        (member.condition, member.trial): (block.index, lane)
        for block in run.manifest.blocks
        for lane, member in enumerate(block.members)
    }

    @cache
    def state_of(block: int) -> Restored | None:
        return load_state(run.block_dir(block))

    def of_trial(condition: int, trial: int) -> Callable[[str], dict[str, NDArray[Any]] | None]:
        def read(snapshot: str) -> dict[str, NDArray[Any]] | None:
            block, lane = lanes[condition, trial]
            restored = state_of(block)
            return unpack(restored, snapshot, lane) if restored else None

        return read

    return of_trial
