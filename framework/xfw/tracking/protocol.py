"""What a tracker is: something that is told of trials, records, metrics and figures, and sends them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import attrs

__all__ = ["TrackedRun", "TrackedTrial", "Tracker"]


@attrs.frozen
class TrackedTrial:
    """One trial: its identity within the run, a name for people, and its whole configuration, nested by key."""

    condition: int
    trial: int
    seed: int
    key: str
    label: str
    config: Mapping[str, Any]


@attrs.frozen
class TrackedRun:
    """The run that is tracked. ``folder`` is where the tracker's own files go; it is made when it is needed."""

    id: str
    experiment: str
    preset: str
    stages: tuple[str, ...]
    folder: Path
    versions: Mapping[str, str]
    execution: Mapping[str, Any]


class Tracker(Protocol):
    """Sends what a run stores to a service.

    ``Options`` is an attrs class of keys, given as ``--track NAME:KEY=VALUE,…``. All methods but ``check`` are
    called by one thread of the supervising process, never by the process that trains; an exception in one
    is shown once, kept, and ends the tracking, not the run.
    """

    name: ClassVar[str]
    Options: ClassVar[type]

    def __init__(self, options: Any, run: TrackedRun) -> None: ...

    @staticmethod
    def check(options: Any) -> None:
        """Raise UserError where this tracker cannot work here; called before anything is computed."""

    def rows(self, trial: TrackedTrial, stream: str, coordinate: str, first: int, rows: Sequence[Any]) -> None:
        """Take new rows of one trial, each a mapping of the variables and the coordinate.

        ``first`` counts the rows of all streams that the trial had before them: equal rows have equal numbers,
        whatever was interrupted and resumed.
        """

    def metrics(self, trial: TrackedTrial, values: Mapping[str, float], status: str) -> None:
        """Take the metrics of a finished trial, and how it ended."""

    def figure(self, name: str, path: Path) -> None:
        """Take a picture of the run."""

    def close(self, *, finished: bool) -> None:
        """Send what is left; ``finished`` says whether the run is."""
