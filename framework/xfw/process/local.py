"""Run blocks as processes of this machine, forked from a server that has torch loaded already."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs

from xfw.process.block import THREAD_VARIABLES
from xfw.process.executor import Job, JobState, State
from xfw.process.slots import block_environment
from xfw.store.claims import process_start

__all__ = ["LocalExecutor", "Options"]

NOBODY = "0:"
"""The handle of a process that was asked for, and of which nothing is known."""


@attrs.frozen
class Options:
    """Options of the local executor; it has none beyond ``--jobs``, ``--threads`` and ``--per-gpu``."""


class LocalExecutor:
    """One supervised process per block, which commits and stops when this process has ended.

    ``preload`` has each block forked with torch loaded. Only Linux allows that: elsewhere blocks are programs of
    their own, and take seconds to start.
    """

    name: ClassVar[str] = "local"
    Options: ClassVar[type] = Options

    def __init__(self, *, threads: int = 1, preload: bool = sys.platform == "linux") -> None:
        self._threads, self._preload = threads, preload
        self._servers: list[Server] = []

    def submit(self, job: Job) -> str:
        """Start a process and return ``pid:start``; where the server dies meanwhile, a handle that is lost."""
        if not self._servers or self._servers[-1].is_gone():
            self._servers.append(Server(self._threads, preload=self._preload))
        return self._servers[-1].start(job)

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        """Return the states; of processes whose server is gone, and of another executor's, the end is not known."""
        codes = {handle: code for server in self._servers for handle, code in server.codes().items()}
        return {handle: self._state(handle, codes) for handle in handles}

    def _state(self, handle: str, codes: Mapping[str, int]) -> JobState:
        if handle in codes:
            return JobState(State.EXITED, codes[handle])
        pending = any(server.runs(handle) for server in self._servers)
        return JobState(State.RUNNING if pending or is_running(handle) else State.LOST)

    def cancel(self, handles: Sequence[str], *, kill: bool = False) -> None:
        """Send SIGTERM, or SIGKILL with ``kill``."""
        for handle in handles:
            if is_running(handle):
                try:
                    os.kill(int(handle.partition(":")[0]), signal.SIGKILL if kill else signal.SIGTERM)
                except ProcessLookupError:
                    continue

    def close(self) -> None:
        """End the servers; processes that still run commit and stop."""
        for server in self._servers:
            server.close()
        self._servers.clear()


class Server:
    """One ``xfw.process.server`` and the processes that it has started."""

    def __init__(self, threads: int, *, preload: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "xfw.process.server", *(["--preload"] if preload else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=block_environment() | dict.fromkeys(THREAD_VARIABLES, str(threads)),
            start_new_session=True,  # neither Ctrl-C nor a closed terminal reaches it: they are ours to answer
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._events = self._process.stdin, self._process.stdout
        self._told = b""
        self._handles: list[str] = []
        self._running: dict[int, str] = {}
        self._codes: dict[str, int] = {}
        self.alive = True

    def start(self, job: Job) -> str:
        """Have a process started; the first one waits until torch is loaded."""
        paths = {"log": str(job.log), "directory": str(job.directory)}
        request = json.dumps({"argv": job.argv, "environment": dict(job.environment), **paths})
        before = len(self._handles)
        try:
            self._requests.write(request.encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            self.alive = False
        while self.alive and len(self._handles) == before:
            self._read()
        return self._handles[-1] if len(self._handles) > before else NOBODY

    def codes(self) -> Mapping[str, int]:
        """Return the exit codes of the processes that have ended."""
        os.set_blocking(self._events.fileno(), False)
        try:
            while self.alive:
                self._read()
        except BlockingIOError:
            pass
        finally:
            os.set_blocking(self._events.fileno(), True)
        return self._codes

    def is_gone(self) -> bool:
        """Say whether the server has ended; what it told before is still to be read."""
        return self._process.poll() is not None

    def runs(self, handle: str) -> bool:
        """Say whether the end of a process is still to be told."""
        return self.alive and handle in self._running.values()

    def _read(self) -> None:
        """Take in what the server tells; its silence for good says that it is gone."""
        data = os.read(self._events.fileno(), 1 << 16)
        self.alive = bool(data)
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if "start" in event:
                self._handles.append(f"{event['pid']}:{event['start']}")
                self._running[event["pid"]] = self._handles[-1]
            else:
                self._codes[self._running.pop(event["pid"])] = event["code"]

    def close(self) -> None:
        """Let the server end, and with it the blocks that still run, as soon as they have committed."""
        try:
            self._requests.close()
        except BrokenPipeError:
            self.alive = False
        self._process.wait()
        self._events.close()


def is_running(handle: str) -> bool:
    """Say whether the process of a handle is there, and is not a later one with the same id."""
    pid, _, start = handle.partition(":")
    return bool(start) and process_start(int(pid)) == start
