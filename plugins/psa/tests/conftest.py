"""Runs of psa through the command line, in this process, on the embedded digits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from xfw.cli.main import invoke
from xfw.store.results import Results, open_run
from xfw.store.rundir import find_run

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"

if SHARED_DATA.is_dir():
    os.environ.setdefault("XFW_DATA_DIR", str(SHARED_DATA))

# A shell that starts the tests in the background lets them ignore Ctrl-C; tests of Ctrl-C need Python's own handler.
signal.signal(signal.SIGINT, signal.default_int_handler)

Run = Callable[..., Results]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Train psa with small settings and return the sealed results; further arguments are those of ``xfw run``."""
    with ExitStack() as stack:

        def train(*arguments: str, arch: str = "1*4", loops: int = 3, seed: str = "5", jobs: str = "0") -> Results:
            keys = ("-s", f"arch={arch}", "-s", f"meta_loops={loops}") if "--from" not in arguments else ()
            seeded = ("--seed", seed) if "--from" not in arguments else ()
            place = ("--results-dir", str(tmp_path), "--device", "cpu", "--jobs", jobs, "--quiet")
            assert invoke(["run", "psa", *keys, *seeded, *place, *arguments]) == 0
            return stack.enter_context(open_run(find_run(tmp_path, "@last")))

        yield train
