"""Track a run while it goes on: one thread beside the supervisor that reads files and tells the trackers."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis.conditions import Values
from xfw.config.structure import flatten, nested
from xfw.errors import UserError
from xfw.experiment import Metric, Stream
from xfw.manifest import BlockPlan, Manifest, Member
from xfw.store import atomic, schema, segments
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir
from xfw.store.state import load_state
from xfw.tracking.protocol import TrackedRun, TrackedTrial, Tracker

__all__ = ["FOLDER", "Chosen", "Tracking", "track_figures"]

FOLDER = "tracking"
LIVE = "live"
FORMAT = 1
INTERVAL = 1.0
"""Seconds between two looks at the files."""


@attrs.frozen
class Chosen:
    """A tracker that was asked for, with its options; it has said that it can work here."""

    tracker: type[Tracker]
    options: Any

    @property
    def name(self) -> str:
        """Return the tracker's name."""
        return self.tracker.name


class Guarded:
    """A tracker whose failures stay its own: the first one is shown and kept, and nothing is sent after it."""

    def __init__(self, chosen: Chosen, run: RunDir) -> None:
        self.name, self.failed = chosen.name, False
        self._log = run.path / FOLDER / f"{chosen.name}.txt"
        self._tracker: Tracker | None = None
        self.call(lambda: setattr(self, "_tracker", chosen.tracker(chosen.options, tracked_run(run, chosen.name))))

    def tell(self, method: str, *arguments: Any, **named: Any) -> None:
        """Call a method of the tracker."""
        self.call(lambda: getattr(self._tracker, method)(*arguments, **named))

    def call(self, action: Callable[[], Any]) -> None:
        """Do something that may fail in any way; after a failure do nothing."""
        if self.failed:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - a tracker must not stop the run
            self.failed = True
            self._keep(error)

    def _keep(self, error: Exception) -> None:
        what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        print(  # noqa: T201
            f"warning: tracker '{self.name}' failed and is left out from here; the run goes on\n  {what}\n"
            f"  traceback: {self._log}",
            file=sys.stderr,
        )
        try:
            self._log.parent.mkdir(exist_ok=True)
            self._log.write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:  # the disk may be what has failed
            return


class Tracking:
    """Follows a run for some trackers, from entering to leaving a ``with`` statement.

    A run that a tracker has wholly is left alone.
    """

    def __init__(self, run: RunDir, chosen: Sequence[Chosen], metrics: Sequence[Metric] | None) -> None:
        self._run, self._chosen, self._declared = run, tuple(chosen), metrics
        self._asked_to_stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def __enter__(self) -> Self:
        if self._chosen:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._asked_to_stop.set()
        if self._chosen:
            self._thread.join()

    def _work(self) -> None:
        followers = [Follower(self._run, chosen) for chosen in self._chosen]
        while not self._asked_to_stop.wait(INTERVAL):
            for follower in followers:
                follower.poll()
        for follower in followers:
            follower.finish(self._declared)


class Follower:
    """Tells one tracker what the blocks of a run commit, and what the sealed file holds in the end."""

    def __init__(self, run: RunDir, chosen: Chosen) -> None:
        self._run, self._chosen = run, chosen
        self._path = run.path / FOLDER / f"{chosen.name}.json"
        self._positions: dict[int, BlockPosition] = {}
        self._complete = False
        self._guarded: Guarded | None = None
        self._trials = [tracked_trials(run.manifest, plan) for plan in run.manifest.blocks]

    def poll(self) -> None:
        """Tell the tracker of every segment that was committed since the last time."""
        try:
            if self._guarded is None:
                self._positions, self._complete = read_positions(self._path)
            if self._complete:
                return
            for plan, trials in zip(self._run.manifest.blocks, self._trials, strict=True):
                self._follow(plan, trials)
        except (OSError, UserError) as error:
            self._tracker.call(partial(reraise, error))

    @property
    def _tracker(self) -> Guarded:
        if self._guarded is None:
            self._guarded = Guarded(self._chosen, self._run)
        return self._guarded

    def _follow(self, plan: BlockPlan, trials: Sequence[TrackedTrial]) -> None:
        position = self._positions.get(plan.index, BlockPosition())
        for found, after in pieces(self._run, plan, position):
            for piece in found:
                for lane, trial in enumerate(trials):
                    self._tracker.tell("rows", trial, piece.stream, piece.coordinate, piece.first, piece.of_lane(lane))
            if self._tracker.failed:
                return
            self._positions[plan.index] = after
            write_positions(self._path, self._positions, complete=False)

    def finish(self, declared: Sequence[Metric] | None) -> None:
        """Tell the rest: the last segments, and of a finished run the metrics and pictures."""
        self.poll()
        if self._complete:
            return
        finished = self._run.run_file.is_file() and all(block.state == "done" for block in self._run.block_states())
        if finished:
            self._tracker.call(lambda: self._tell_results(declared))
        if self._guarded is not None:
            self._guarded.tell("close", finished=finished)
            if finished and not self._guarded.failed:
                write_positions(self._path, self._positions, complete=True)

    def _tell_results(self, declared: Sequence[Metric] | None) -> None:
        by_identity = {(each.condition, each.trial): each for trials in self._trials for each in trials}
        with open_run(self._run) as results:
            found = final_metrics(declared, results)
            for place, pair in enumerate(zip(results.condition.tolist(), results.trial.tolist(), strict=True)):
                values = {name: float(each[place]) for name, each in found.items() if np.isfinite(each[place])}
                self._tracker.tell("metrics", by_identity[pair], values, results.status[place])
        for path in sorted((self._run.report_dir / LIVE).rglob("*.png")):
            self._tracker.tell("figure", path.relative_to(self._run.report_dir).with_suffix("").as_posix(), path)


def reraise(error: Exception) -> None:
    """Raise an error where somebody waits for it."""
    raise error


def final_metrics(declared: Sequence[Metric] | None, results: Results) -> dict[str, np.ndarray]:
    """Return the metrics with one value per trial; what the run lacks the records for is left out."""
    values = Values(declared)
    return {metric.name: values.of(results, metric) for metric in values.chosen(results, None, series=False)}


def tracked_run(run: RunDir, tracker: str) -> TrackedRun:
    """Return what a tracker is told of the run."""
    manifest = run.manifest
    return TrackedRun(
        id=run.id,
        experiment=manifest.experiment,
        preset=manifest.preset,
        stages=manifest.stages,
        folder=run.path / FOLDER / tracker,
        versions=manifest.versions,
        execution=attrs.asdict(manifest.execution),
    )


def tracked_trials(manifest: Manifest, plan: BlockPlan) -> list[TrackedTrial]:
    """Return the trials of a block."""
    return [tracked_trial(manifest, member) for member in plan.members]


def tracked_trial(manifest: Manifest, member: Member) -> TrackedTrial:
    """Return what a tracker is told of a trial."""
    values = manifest.conditions[member.condition].values
    return TrackedTrial(
        condition=member.condition,
        trial=member.trial,
        seed=manifest.seed,
        key=member.key,
        label=manifest.trial_label(member.condition, member.trial),
        config=nested({**flatten(manifest.config), **values}),
    )


def track_figures(run: RunDir, chosen: Sequence[Chosen], paths: Iterable[Path]) -> None:
    """Send pictures that were made of a run."""
    pictures = [path for path in paths if path.suffix == ".png"]
    for each in chosen:
        guarded = Guarded(each, run)
        for path in pictures:
            guarded.tell("figure", path.stem, path)
        guarded.tell("close", finished=True)


# --- what the blocks have committed ----------------------------------------------------------------------


@attrs.frozen
class BlockPosition:
    """How much of a block has been followed: its segments, and the rows of each stream in them."""

    segments: int = 0
    rows: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def step(self) -> int:
        """Return the number of rows of all streams."""
        return sum(self.rows.values())


@attrs.frozen(eq=False)
class Piece:
    """The rows that one segment adds to one stream: variables as (row, lane, ...), and the number of rows before."""

    stream: str
    coordinate: str
    first: int
    variables: Mapping[str, NDArray[Any]]

    def of_lane(self, lane: int) -> list[dict[str, Any]]:
        """Return the rows of one trial."""
        count = len(next(iter(self.variables.values()), ()))
        return [{name: values[row, lane] for name, values in self.variables.items()} for row in range(count)]


def pieces(run: RunDir, plan: BlockPlan, position: BlockPosition) -> Iterator[tuple[list[Piece], BlockPosition]]:
    """Yield the content of each further committed segment, and the position after it."""
    directory = run.block_dir(plan.index)
    for attempt in counted(directory, position.segments):
        records = segments.read(directory, position.segments + 1, attempt, position.rows)
        rows = dict(position.rows)
        found, step = [], position.step
        for stream, variables in records.items():
            declared = schema.declared_stream(run.records, stream)
            found.append(piece(declared, variables, rows.get(stream, 0), step))
            count = len(next(iter(variables.values()), ()))
            rows[stream] = rows.get(stream, 0) + count
            step += count
        position = BlockPosition(position.segments + 1, rows)
        yield found, position


def piece(declared: Stream, variables: Mapping[str, NDArray[Any]], before: int, step: int) -> Piece:
    """Return the rows of one stream with their coordinate, made from the number of rows where none is recorded."""
    values = dict(variables)
    if declared.coordinate not in values and values:
        count, lanes = next(iter(values.values())).shape[:2]
        numbers = np.arange(count, dtype=np.int64) + declared.first + before
        values[declared.coordinate] = np.broadcast_to(numbers[:, None], (count, lanes))
    return Piece(declared.name, declared.coordinate, step, values)


def counted(block_dir: Path, followed: int) -> Sequence[int]:
    """Return the attempts that wrote the segments beyond ``followed``, as the newest state counts them."""
    if not any((block_dir / segments.DIRECTORY).glob(f"{followed + 1:05d}*.h5")):
        return ()  # a look at the names is cheap, the state may be large
    restored = load_state(block_dir, with_state=False)
    return restored.segments[followed:] if restored else ()


def read_positions(path: Path) -> tuple[dict[int, BlockPosition], bool]:
    """Return how far a tracker has followed each block, and whether it has everything."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema"] != FORMAT:
            raise UserError(f"{path} was written by a newer xfw", hint="update xfw", exit_code=2)
        return {int(block): BlockPosition(**each) for block, each in content["blocks"].items()}, content["complete"]
    except FileNotFoundError:
        return {}, False
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error}", hint="remove it to track from the start", exit_code=2) from error


def write_positions(path: Path, positions: Mapping[int, BlockPosition], *, complete: bool) -> None:
    """Store how far a tracker has followed each block."""
    blocks = {str(block): attrs.asdict(each) for block, each in positions.items()}
    content = {"schema": FORMAT, "complete": complete, "blocks": blocks}
    path.parent.mkdir(exist_ok=True)
    atomic.publish(path, json.dumps(content).encode())
