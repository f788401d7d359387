"""Show that a process is at work, and notice when its claim is lost or whoever started it is gone."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xfw.errors import UserError
from xfw.stop import Stop
from xfw.store.claims import HEARTBEAT

__all__ = ["beating"]

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
