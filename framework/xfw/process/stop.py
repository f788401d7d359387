"""Requests to stop: from a signal, when a claim is lost, or when whoever started this process is gone."""

from __future__ import annotations

import os
import select
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from xfw.errors import UserError
from xfw.store.claims import HEARTBEAT

__all__ = ["Stop", "beating", "on_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite end, and a terminal that is closed."""


class Stop:
    """Remembers that somebody asked to stop, and why. The first signal asks; a second one interrupts.

    With ``interrupting=False`` further signals are only counted.
    """

    def __init__(self, *, interrupting: bool = True) -> None:
        self._interrupting = interrupting
        self.reason = ""
        self.say: Callable[[str], None] = lambda _line: None
        self.signal: int | None = None
        self.count = 0

    @property
    def requested(self) -> bool:
        """Say whether anybody has asked."""
        return bool(self.reason)

    @property
    def exit_code(self) -> int:
        """Return what a shell expects of a command that a signal stopped: 129, 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    def request(self, reason: str) -> None:
        """Ask to stop; the first reason is kept, and told to ``say``."""
        if not self.reason:
            self.reason = reason
            self.say(f"asked to stop: {reason}")

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle a signal; the second one raises KeyboardInterrupt where the program is, if so asked."""
        self.count += 1
        self.signal = self.signal or number
        self.request(signal.Signals(number).name)
        if number == signal.SIGHUP:
            leave_closed_terminal()
        if self.count > 1 and self._interrupting:
            raise KeyboardInterrupt


def leave_closed_terminal() -> None:
    """Write nowhere from now on where output went to a terminal that is closed: every print would raise."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        try:
            if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
                os.dup2(nowhere, number)
        except OSError:  # it was closed before
            continue
    os.close(nowhere)


@contextmanager
def on_signals(stop: Stop) -> Iterator[Stop]:
    """Let the signals ask ``stop``; outside the main thread, which gets no signals, do nothing.

    A SIGHUP that is ignored stays so: that is what ``nohup`` is for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = [number for number in SIGNALS if not (number == signal.SIGHUP and ignored)]
    before = {number: signal.signal(number, stop.receive) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


WATCH = 0.5
"""Seconds between two looks at the claim and at the starter."""


@contextmanager
def beating(
    claim: Path,
    stop: Stop,
    *,
    check: Callable[[], None] = lambda: None,
    lifeline: int | None = None,
    interval: float = HEARTBEAT,
) -> Iterator[None]:
    """Touch a claim at an interval while the body runs, and ask ``stop`` when it is lost.

    ``check`` raises UserError where somebody else has it. ``lifeline`` is a pipe whose other end is held by whoever
    started this process: when that is closed, nobody waits for this one any more.
    """
    finished = threading.Event()

    def watch() -> None:
        looks, count = max(1, round(interval / WATCH)), 0
        while not finished.wait(min(WATCH, interval)):
            if lifeline is not None and is_closed(lifeline):
                stop.request("the process that started this block is gone")
            count += 1
            if count % looks == 0:
                try:
                    check()
                    touch(claim)
                except UserError as error:
                    stop.request(error.what)

    thread = threading.Thread(target=watch, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def is_closed(pipe: int) -> bool:
    """Say whether nobody holds the writing end of a pipe any more."""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


def touch(claim: Path) -> None:
    """Set a claim's time to now; UserError where it does not exist."""
    try:
        os.utime(claim)
    except FileNotFoundError:
        raise UserError(f"{claim.name} has been removed") from None
    except OSError:  # a full disk or a lost network share: the next beat tries again
        return
