"""Requests to stop: from a signal, from a parent that is gone, or from whoever supervises."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stop", "on_signals"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Remembers that somebody asked to stop, and why. The first signal asks; a second one interrupts.

    With ``interrupting=False`` further signals are only counted.
    """

    def __init__(self, *, interrupting: bool = True) -> None:
        self._interrupting = interrupting
        self.reason = ""
        self.signal: int | None = None
        self.count = 0

    @property
    def requested(self) -> bool:
        """Say whether anybody has asked."""
        return bool(self.reason)

    @property
    def exit_code(self) -> int:
        """Return what a shell expects of a command that a signal stopped: 130 or 143."""
        return 128 + (self.signal or signal.SIGINT)

    def request(self, reason: str) -> None:
        """Ask to stop; the first reason is kept."""
        self.reason = self.reason or reason

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle a signal; the second one raises KeyboardInterrupt where the program is, if so asked."""
        self.count += 1
        self.signal = self.signal or number
        self.request(signal.Signals(number).name)
        if self.count > 1 and self._interrupting:
            raise KeyboardInterrupt


@contextmanager
def on_signals(stop: Stop) -> Iterator[Stop]:
    """Let SIGINT and SIGTERM ask ``stop``; outside the main thread, which gets no signals, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.receive) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
