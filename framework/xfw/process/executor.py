"""What an executor is: something that starts commands and says whether they are still running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import attrs

__all__ = ["BLOCK", "Executor", "Job", "JobState", "Resources", "State"]

BLOCK = ("-P", "-m", "xfw.block")
"""How Python is told to run a block: ``-P`` keeps the working directory off its path of modules."""


@attrs.frozen
class Resources:
    """What one job needs; None where it does not say."""

    cpus: int = 1
    gpus: int = 0
    memory_gb: float | None = None
    minutes: float | None = None


@attrs.frozen
class Job:
    """One block of a run as a command: nothing else has to be handed over, all input is in the run directory."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    resources: Resources = attrs.field(factory=Resources)
    labels: Mapping[str, str] = attrs.field(factory=dict)
    attempt: int = 1


class State:
    """The states of a job."""

    PENDING = "pending"
    RUNNING = "running"
    EXITED = "exited"
    LOST = "lost"


@attrs.frozen
class JobState:
    """Whether a job runs; ``code`` is its exit code once it has exited (negative: the signal that killed it)."""

    state: str
    code: int | None = None

    @property
    def over(self) -> bool:
        """Say whether the job will not change any more."""
        return self.state in (State.EXITED, State.LOST)


class Executor(Protocol):
    """Runs jobs. Claiming, retries, progress and summaries are the core's, the same for all executors.

    ``Options`` is an attrs class of keys, validated by the core and given to the constructor.
    """

    name: ClassVar[str]
    Options: ClassVar[type]

    def submit(self, job: Job) -> str:
        """Start a job, or queue it, and return its handle: a text that a new process can use."""

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        """Return the state of each job."""

    def cancel(self, handles: Sequence[str], *, kill: bool = False) -> None:
        """Ask jobs to commit and stop; with ``kill`` end them at once."""

    def close(self) -> None:
        """Give back what the executor holds; jobs that outlive the submitting process go on."""
