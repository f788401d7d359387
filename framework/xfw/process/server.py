"""A process that has torch loaded and forks one block after another: a block starts in a tenth of a second.

Run by the local executor as ``python -P -m xfw.process.server``. It reads jobs as lines of JSON from its standard
input and writes what becomes of them to its standard output; both ends when whoever started it ends. It is a
program of its own, so that blocks import from where Python is installed and from PYTHONPATH, and never from the
directory in which somebody happens to stand.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from xfw.process.executor import BLOCK
from xfw.store.claims import process_start

PRELOAD = (
    "torch",
    "torch._dynamo",
    "h5py",
    "xfw.process.block",
    "xfw.engine.session",
    "xfw.plugins.registry",
    "xfw.store.commit",
)
"""Every optimizer of torch imports ``torch._dynamo``, which takes as long as torch itself."""


def serve(requests: int, events: int) -> None:
    """Start what is asked for and report how it ends, until nobody can ask any more."""
    awake, wake = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(awake, selectors.EVENT_READ)
    asked = b""
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, 1 << 16)
            if key.fd == awake:
                report_ends(events)
            elif not data:
                return
            else:
                *lines, asked = (asked + data).split(b"\n")
                for line in lines:
                    start(json.loads(line), requests, (events, awake, wake))


def preload() -> None:
    """Import what every block needs. What is loaded is no garbage, and blocks need not search it again and again."""
    for module in PRELOAD:
        try:
            importlib.import_module(module)
        except ImportError:
            continue  # the block says what is missing, in its own log
    gc.freeze()


def report_ends(events: int) -> None:
    """Write a line for every child that has ended; the code of a killed one is negative."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        tell(events, {"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def start(job: Mapping[str, Any], requests: int, others: Sequence[int]) -> None:
    """Fork a child that becomes the job, and say which process that is."""
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        events, *wakers = others
        for descriptor in (events, *wakers):
            os.close(descriptor)
        child(job, requests)
    tell(others[0], {"pid": pid, "start": process_start(pid)})


def tell(events: int, event: Mapping[str, Any]) -> None:
    """Write one line, short enough to be written at once."""
    try:
        os.write(events, json.dumps(event).encode() + b"\n")
    except BrokenPipeError:
        os._exit(0)


def child(job: Mapping[str, Any], lifeline: int) -> NoReturn:
    """Become the job, with a process group of its own: Ctrl-C reaches the supervisor alone."""
    code = 1
    try:
        os.setpgid(0, 0)
        redirect(job["log"])
        os.chdir(job["directory"])
        os.environ.clear()
        os.environ.update(job["environment"])
        code = become(job["argv"], lifeline)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - nothing may return into the loop of the parent
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def become(argv: Sequence[str], lifeline: int) -> int:
    """Run the job's command; a block needs no other interpreter where everything is loaded."""
    program, *rest = argv
    if tuple(rest[: len(BLOCK)]) != BLOCK:
        os.execvpe(program, [*argv], os.environ)
    watched = [*rest[len(BLOCK) :], "--lifeline", str(lifeline)]
    if "xfw.process.block" not in sys.modules:
        os.set_inheritable(lifeline, True)
        os.execvpe(program, [program, *BLOCK, *watched], os.environ)
    from xfw.process.block import command

    return command(watched)


def redirect(log: str) -> None:
    """Append what the process prints to the job's log, and give it nothing to read."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in ((0, nothing), (1, output), (2, output)):
        os.dup2(descriptor, number)
    os.close(output)
    os.close(nothing)


if __name__ == "__main__":
    asking, telling = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what a library prints while it is imported is for people
    if "--preload" in sys.argv:
        preload()
    serve(asking, telling)
    os._exit(0)
