"""What a running block tells others: its log, and a small file that live tables read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from xfw.process.stop import Stop
from xfw.store import atomic

__all__ = ["FILE", "LOG", "Log", "Progress", "Reporter", "read_progress"]

FILE = "progress.json"
LOG = "log.txt"
INTERVAL = 0.5
"""Seconds that lie at least between two writes of the progress file."""


@attrs.frozen
class Progress:
    """How far an attempt is: steps at its start and now, at which times, and the last values per trial.

    ``notes`` holds what the user shall see once: warnings, and a strategy that could not be used. In a ``stage`` that
    does not train, its cells stand for steps and epochs.
    """

    begun_steps: int
    begun: float
    steps: int
    time: float
    total_steps: int
    epoch: int
    epochs: int
    headline: Mapping[str, Sequence[float]]
    notes: Sequence[str] = ()
    stage: str = ""

    @property
    def rate(self) -> float:
        """Return the steps per second of this attempt; 0 where nothing was measured yet."""
        seconds = self.time - self.begun
        return (self.steps - self.begun_steps) / seconds if seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Return the seconds until the end at this rate, or None."""
        return (self.total_steps - self.steps) / self.rate if self.rate > 0 else None


class Reporter:
    """What the engine asks and tells while it runs a block."""

    def __init__(self, block_dir: Path, stop: Stop, *, clock: Callable[[], float] = time.time) -> None:
        self._path = block_dir / FILE
        self._stop = stop
        self._clock = clock
        self._begun: dict[str, tuple[int, float]] = {}
        self._written = -INTERVAL
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        """Show a line to the user, once."""
        self._notes.append(text)

    def stop_requested(self) -> bool:
        """Say whether the block is to commit and stop; cheap enough for every step."""
        return self._stop.requested

    def progress(
        self,
        done_steps: int,
        total_steps: int,
        epoch: int,
        epochs: int,
        headline: Mapping[str, Sequence[float]],
        stage: str = "",
    ) -> None:
        """Tell how far the block is; ``headline`` holds the newest values per trial. Written twice a second at most."""
        now = self._clock()
        self._begun.setdefault(stage, (done_steps, now))
        if now - self._written < INTERVAL and done_steps < total_steps:
            return
        self._written = now
        values = {name: [float(value) for value in each] for name, each in headline.items()}
        begun_steps, begun = self._begun[stage]
        found = Progress(begun_steps, begun, done_steps, now, total_steps, epoch, epochs, values, self._notes, stage)
        publish(self._path, found)


def publish(path: Path, progress: Progress) -> None:
    """Replace the progress file; nothing is lost where the disk refuses it."""
    try:
        atomic.publish(path, json.dumps(attrs.asdict(progress)).encode())
    except OSError:  # progress is for looking at: a full disk shows at the next commit
        return


def read_progress(block_dir: Path) -> Progress | None:
    """Return the newest progress of a block, or None."""
    try:
        content: dict[str, Any] = json.loads((block_dir / FILE).read_text("utf-8"))
        return Progress(**content)
    except (OSError, ValueError, TypeError):
        return None


class Log:
    """Appends lines to a block's ``log.txt``."""

    def __init__(self, block_dir: Path) -> None:
        self._path = block_dir / LOG

    def __call__(self, line: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError:  # the log is for people: a full disk shows at the next commit
            return
