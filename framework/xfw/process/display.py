"""Show a run while it goes on: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import attrs
from rich.console import Console
from rich.live import Live
from rich.table import Table

from xfw import terminal
from xfw.manifest import BlockPlan, Manifest
from xfw.process.progress import Progress
from xfw.terminal import counted, duration

__all__ = ["Display"]

MOST_TRIALS = 24
"""Up to so many trials get a row each; beyond that, blocks do."""

MOST_ROWS = 30
PLAIN_INTERVAL = 10.0


@attrs.frozen
class Row:
    """One block as it is now."""

    plan: BlockPlan
    state: str
    progress: Progress | None


class Display:
    """Prints what happens to the blocks of a run; a context manager. ``quiet`` leaves failures only."""

    def __init__(self, manifest: Manifest, *, quiet: bool = False, console: Console | None = None) -> None:
        self._manifest = manifest
        self._quiet = quiet
        self._console = console or terminal.console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True) if self._animated else None
        self._printed = time.monotonic()
        self._noted: set[str] = set()

    @property
    def _animated(self) -> bool:
        return self._console.is_terminal and not self._quiet

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str, *, always: bool = False) -> None:
        """Print a line above the table; ``always`` even where quiet."""
        if always or not self._quiet:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, states: Mapping[int, str], progress: Mapping[int, Progress | None]) -> None:
        """Bring the table up to date, or print a line for each running block now and then."""
        rows = [Row(plan, states[plan.index], progress.get(plan.index)) for plan in self._manifest.blocks]
        self._say_notes(rows)
        if self._live:
            self._live.update(self._table(rows))
        elif time.monotonic() - self._printed >= PLAIN_INTERVAL:
            self._printed = time.monotonic()
            for row in rows:
                if row.state == "running" and row.progress:
                    self.say(f"block {row.plan.index}: {summary(row.progress)}")

    def _say_notes(self, rows: Sequence[Row]) -> None:
        """Print each note once, whichever blocks have it."""
        for row in rows:
            for note in row.progress.notes if row.progress else ():
                if note not in self._noted:
                    self._noted.add(note)
                    self.say(f"block {row.plan.index}: {note}", always=True)

    def _table(self, rows: Sequence[Row]) -> Table:
        trials = sum(len(row.plan.members) for row in rows) <= MOST_TRIALS
        names = headline_names(rows) if trials else []
        table = Table(title=f"{self._manifest.run}: {how_far(rows)}", title_justify="left", box=None, pad_edge=False)
        for name in ["trial" if trials else "block", "state", "epochs", *names, "trial-steps/s", "left"]:
            table.add_column(name, justify="left" if name in ("trial", "block", "state") else "right")
        lines = self._trial_lines(rows, names) if trials else block_lines(rows)
        for number, line in enumerate(lines):
            if number == MOST_ROWS:
                break
            table.add_row(*line)
        return table

    def _trial_lines(self, rows: Sequence[Row], names: Sequence[str]) -> Iterator[list[str]]:
        for row in rows:
            for lane, member in enumerate(row.plan.members):
                values = [headline_value(row.progress, name, lane) for name in names]
                label = self._manifest.trial_label(member.condition, member.trial)
                yield [label, row.state, epochs_done(row), *values, *speed(row)]


def block_lines(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Yield a line for each block, the running ones first."""
    for row in sorted(rows, key=lambda row: (row.state != "running", row.state in ("done", "pending"))):
        yield [
            f"{row.plan.index} ({counted(len(row.plan.members), 'trial')})",
            row.state,
            epochs_done(row),
            *speed(row),
        ]


def how_far(rows: Sequence[Row]) -> str:
    """Return how many trials are done, and the time left at the present rate."""
    done = sum(len(row.plan.members) for row in rows if row.state == "done")
    total = sum(len(row.plan.members) for row in rows)
    running = [row.progress for row in rows if row.state == "running" and row.progress]
    rate = sum(progress.rate for progress in running)
    steps = sum(progress.total_steps - progress.steps for progress in running)
    steps += sum(row.plan.steps for row in rows if row.state == "pending")
    left = f", {duration(steps / rate)} left" if rate > 0 else ""
    return f"{done} of {counted(total, 'trial')} done{left}"


def headline_names(rows: Sequence[Row]) -> list[str]:
    """Return the names of the newest values that any block tells."""
    return list(dict.fromkeys(name for row in rows if row.progress for name in row.progress.headline))


def headline_value(progress: Progress | None, name: str, lane: int) -> str:
    """Return the newest value of one trial, or nothing."""
    values = progress.headline.get(name, ()) if progress else ()
    return f"{values[lane]:.6g}" if lane < len(values) else ""


def epochs_done(row: Row) -> str:
    """Return ``3/10``: how many epochs (or cells of a stage) a block has done; nothing before its first progress."""
    if row.progress is None:
        return ""
    done = row.progress.epochs if row.state == "done" else row.progress.epoch
    return f"{row.progress.stage} {done}/{row.progress.epochs}".strip()


def speed(row: Row) -> tuple[str, str]:
    """Return the trial-steps per second and the time left of a running block."""
    if row.state != "running" or row.progress is None or row.progress.left is None:
        return "", ""
    return f"{row.progress.rate * len(row.plan.members):,.0f}", duration(row.progress.left)


def summary(progress: Progress) -> str:
    """Return one line about a running block."""
    left = f", {duration(progress.left)} left" if progress.left is not None else ""
    what, unit = (f"cells of {progress.stage}", "cells") if progress.stage else ("epochs", "steps")
    return f"{progress.epoch} of {progress.epochs} {what} done, {progress.rate:,.1f} {unit}/s{left}"
