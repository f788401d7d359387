"""Run blocks as processes of this machine, forked from a server that has torch loaded already."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from multiprocessing.forkserver import ensure_running
from typing import ClassVar

import attrs

from xfw.block import THREAD_VARIABLES, command
from xfw.executors.protocol import Job, JobState, State
from xfw.store.claims import process_start

__all__ = ["LocalExecutor", "Options", "start_server"]

PRELOAD = (
    "torch",
    "torch._dynamo",
    "h5py",
    "xfw.block",
    "xfw.engine.session",
    "xfw.plugins.registry",
    "xfw.store.commit",
    "xfw.executors.frozen",
)
"""What the fork server imports once, so that a block starts in a tenth of a second; the last freezes it.

Every optimizer of torch imports ``torch._dynamo``, which takes as long as torch itself.
"""

Context = ForkServerContext | SpawnContext
Process = ForkServerProcess | SpawnProcess


@attrs.frozen
class Options:
    """Options of the local executor; it has none beyond ``--jobs``, ``--threads`` and ``--per-gpu``."""


class LocalExecutor:
    """One supervised process per block. Children get their own process group, so that Ctrl-C reaches us alone."""

    name: ClassVar[str] = "local"
    Options: ClassVar[type] = Options

    def __init__(self, *, threads: int = 1) -> None:
        self._context = start_server(threads)
        self._processes: dict[str, Process] = {}

    def submit(self, job: Job) -> str:
        """Start a process and return ``pid:start``."""
        target = self._context.Process(target=child, args=(job,), name=job.labels.get("block", "block"))
        target.start()
        pid = target.pid or 0
        handle = f"{pid}:{process_start(pid)}"
        self._processes[handle] = target
        return handle

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        """Return the states; processes of another executor are running or lost."""
        return {handle: self._state(handle) for handle in handles}

    def _state(self, handle: str) -> JobState:
        process = self._processes.get(handle)
        code = process.exitcode if process is not None else None
        if is_running(handle) or (process is not None and code is None):
            return JobState(State.RUNNING)  # whatever the code: a fork server that was killed reports 255
        return JobState(State.LOST) if process is None else JobState(State.EXITED, code)

    def cancel(self, handles: Sequence[str], *, kill: bool = False) -> None:
        """Send SIGTERM, or SIGKILL with ``kill``."""
        for handle in handles:
            if self._state(handle).over:
                continue
            try:
                os.kill(int(handle.partition(":")[0]), signal.SIGKILL if kill else signal.SIGTERM)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        """Collect the processes that have ended; others commit and stop when this process ends."""
        for process in self._processes.values():
            if process.exitcode is not None:
                process.join()
        self._processes.clear()


def is_running(handle: str) -> bool:
    """Say whether the process of a handle is there, and is not a later one with the same id."""
    pid, _, start = handle.partition(":")
    return bool(start) and process_start(int(pid)) == start


def start_server(threads: int = 1) -> Context:
    """Start the fork server (on Linux) and return the context that makes processes.

    It imports torch while the caller goes on, so call it early; never after CUDA is in use. Elsewhere
    processes are spawned.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    with environment(dict.fromkeys(THREAD_VARIABLES, str(threads))), without_interrupts():
        ensure_running()
    return context


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Let a process that starts here ignore Ctrl-C, which a terminal sends to all: it is the caller's to answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for as long as the body runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def child(job: Job) -> None:
    """Become the job's command, in a child process; blocks start without another interpreter."""
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(job.environment)
    os.chdir(job.directory)
    redirect(job)
    program, *rest = job.argv
    if rest[:2] == ["-m", "xfw.block"]:
        sys.exit(command(rest[2:]))
    os.execvpe(program, list(job.argv), dict(job.environment))


def redirect(job: Job) -> None:
    """Append what the process prints to the job's log, and give it nothing to read."""
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in ((0, null), (1, log), (2, log)):
        os.dup2(descriptor, number)
    os.close(log)
    os.close(null)
