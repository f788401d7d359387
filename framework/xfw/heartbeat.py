"""Show that a block's process is alive, and notice when the one that started it is gone."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xfw.stop import Stop
from xfw.store.claims import HEARTBEAT

__all__ = ["beating"]

WATCH = 0.5
"""Seconds between two looks at the parent."""


@contextmanager
def beating(claim: Path, stop: Stop, *, interval: float = HEARTBEAT) -> Iterator[None]:
    """Touch a claim at an interval while the body runs; ask ``stop`` if the claim or the parent process is gone."""
    finished = threading.Event()
    thread = threading.Thread(target=watch, args=(claim, stop, interval, finished), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def watch(claim: Path, stop: Stop, interval: float, finished: threading.Event) -> None:
    """Look at the parent often, and touch the claim at every interval, until ``finished``."""
    parent = multiprocessing.parent_process()
    looks = max(1, round(interval / WATCH))
    count = 0
    while not finished.wait(min(WATCH, interval)):
        if parent is not None and not parent.is_alive():
            stop.request("the process that started this block is gone")
        count += 1
        if count % looks == 0 and not touch(claim):
            stop.request(f"{claim.name} has been removed")


def touch(path: Path) -> bool:
    """Set a file's time to now; False where it does not exist."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # a full disk or a lost network share: the next beat tries again
        return True
    return True
