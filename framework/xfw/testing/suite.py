"""The trainings of one plugin that its conformance is judged by, each in child processes.

Whatever trains or analyses does so in a forked child, so that nothing a plugin keeps in its modules gets from one
training to the next, and a killed one is really gone.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xfw.config.resolve import Resolved, resolve
from xfw.data.sources import cache_dir
from xfw.errors import UserError
from xfw.experiment import Experiment
from xfw.manifest import Execution
from xfw.plugins.discovery import discover, find
from xfw.plugins.registry import load_experiment
from xfw.process.stop import Stop
from xfw.store.rundir import RunDir, find_run

__all__ = ["Refuted", "Suite", "told"]

TRIALS = 3
SEED = 1
LONGEST = 60.0
"""Seconds that three trials may train on a CPU."""

PRELOADED = ("torch._dynamo", "h5py", "sklearn.datasets", "xfw.engine.session", "xfw.analysis.shared")
"""What every child would import, and so its parent does."""


class Refuted(Exception):  # noqa: N818
    """A plugin does not do what a check expects; the message is the reason, in one line."""


class Suite:
    """The checks of one installed plugin: ``overrides`` (``KEY=VALUE``) and ``preset`` say what its trainings train.

    A process that works for more than ``longest`` seconds is killed.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        overrides: Sequence[str] = (),
        preset: str | None = None,
        longest: float = LONGEST,
    ) -> None:
        self.name, self.folder, self.overrides, self.preset = name, folder, tuple(overrides), preset
        self.longest = longest
        self._runs: dict[str, RunDir] = {}

    @property
    def experiment(self) -> Experiment:
        """The loaded plugin; its heavy modules are imported when they are needed."""
        return load_experiment(self.name)

    def resolved(self, preset: str | None = None) -> Resolved:
        """Return the configuration of the trainings, or that of a preset as it is."""
        if preset is not None:
            return resolve(self.experiment, preset=preset)
        return resolve(self.experiment, preset=self.preset, overrides=self.overrides)

    def run(self, label: str, *, seed: int = SEED, only: int | None = None, stop_after: int = 0) -> RunDir:
        """Return the sealed run of a label, trained in child processes the first time it is asked for.

        ``only`` keeps one trial. After ``stop_after`` questions whether to stop, the process is killed and
        another one resumes.
        """
        if label not in self._runs:
            place = self.folder / label
            self.child(label, lambda: train(planned(self, place, seed, only), stop_after), killed=stop_after > 0)
            run = find_run(place, "@last")
            if stop_after:
                self.child(label, lambda: train(run))
            self._runs[label] = run
        return self._runs[label]

    def child(self, label: str, work: Callable[[], None], *, killed: bool = False) -> None:
        """Do some work in a forked process, in a folder of its own; raise ``Refuted`` with what it raised."""
        for name in PRELOADED:
            importlib.import_module(name)
        gc.freeze()
        place = self.folder / f"{label}-work"
        place.mkdir(parents=True, exist_ok=True)
        reason = self.folder / f"{label}.reason"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads, which the child does not use
            process = os.fork()
        if process == 0:
            os._exit(worked(work, self.name, place, self.folder / f"{label}.txt", reason))
        code = ended(process, self.longest)
        if code is None:
            raise Refuted(f"it takes more than {self.longest:g} s: shorten it with -s KEY=VALUE")
        if code != 0 and not (killed and code == KILLED):
            raise Refuted(reason.read_text(encoding="utf-8") if reason.exists() else f"its process died with {code}")


def ended(process: int, seconds: float) -> int | None:
    """Wait for a child and return its exit code; kill it after so many seconds, and return None."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            finished, status = os.waitpid(process, os.WNOHANG)
            if finished:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
    except BaseException:
        kill(process)
        raise
    kill(process)
    return None


def kill(process: int) -> None:
    """End a child, and wait until it is gone."""
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


# --- trainings ------------------------------------------------------------------------------------------------

KILLED = 86
"""The exit code of a process that has killed itself on request."""


class Dying(Stop):
    """A request to stop that kills the process at the question of a number, and so leaves only what is committed."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self._left = questions

    @property
    def requested(self) -> bool:
        """Count the question."""
        self._left -= 1
        if self._left == 0:
            os._exit(KILLED)
        return False


def worked(work: Callable[[], None], plugin: str, place: Path, output: Path, reason: Path) -> int:
    """Do a child's work, with its output in a file; return its exit code."""
    home = place / "home"
    home.mkdir(exist_ok=True)
    os.chdir(place)
    draw_anew()
    if "torch" in sys.modules:
        # A child that asks for the threads of a pool which its parent has used waits for ever.
        sys.modules["torch"].set_num_threads(1)
    known = cache_dir()
    os.environ |= {"HOME": str(home), "OMP_NUM_THREADS": "1"}
    if known.is_dir() and cache_dir() != known:  # data sets that were downloaded before are there to be read
        cache_dir().parent.mkdir(parents=True, exist_ok=True)
        cache_dir().unlink(missing_ok=True)
        cache_dir().symlink_to(known)
    with output.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the plugin's code runs in here
            traceback.print_exc()
            reason.write_text(told(error, plugin), encoding="utf-8")
            return 1
    return 0


def draw_anew() -> None:
    """Seed the global generators afresh: a child would go on with its parent's, and so repeat its siblings' draws."""
    import random

    import numpy as np
    import torch

    random.seed()
    np.random.seed()
    torch.seed()


def told(error: BaseException, plugin: str) -> str:
    """Return an error in one line, with the place in the plugin where it was raised."""
    if isinstance(error, Refuted):
        return str(error)
    text = " ".join((error.what if isinstance(error, UserError) else f"{type(error).__name__}: {error}").split())
    if isinstance(error, UserError):
        return text
    return text + place_in(
        plugin, [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    )


def place_in(plugin: str, lines: Sequence[tuple[str, Any]]) -> str:
    """Return the last of a traceback's lines that is the plugin's own, in brackets; nothing where none is."""
    spec = find_spec(find(plugin, discover()).module)
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), spec.origin or ""]
    inside = [
        (path, line) for path, line in lines if any(Path(path).is_relative_to(place) for place in places if place)
    ]
    return f" ({Path(inside[-1][0]).name}:{inside[-1][1]})" if inside else ""


def planned(suite: Suite, place: Path, seed: int, only: int | None) -> RunDir:
    """Make the run directory of a training."""
    from xfw.plan.build import Request, build
    from xfw.plan.trials import Only
    from xfw.store.rundir import create_run

    experiment, resolved = suite.experiment, suite.resolved()
    stages = experiment.hooks.define_stages(config=resolved.configs[0]) or ()
    kept = Only(trials=None if only is None else (only,))
    execution = Execution("cpu", "float32", False, "auto", 1, 1, os.environ.get("XFW_DATA_DIR", ""))
    names = tuple(stage.name for stage in stages) or ("train",)
    request = Request(execution, seed, TRIALS, kept, stages=names)
    records = [experiment.hooks.declare_records(config=config) for config in resolved.configs]
    return create_run(place, build(experiment, resolved, request), records)


def train(run: RunDir, stop_after: int = 0) -> None:
    """Run all blocks of a run to their end and seal it; with ``stop_after``, die on the way."""
    from xfw.process import block
    from xfw.store.seal import seal

    os.environ[block.COMMIT_SECONDS] = "0" if stop_after else "1000"
    stop = Dying(stop_after) if stop_after else Stop()
    for plan in run.manifest.blocks:
        if block.main(run.path, plan.index, stop=stop) != block.DONE:
            raise Refuted(failure(run, plan.index))
    seal(run)


def failure(run: RunDir, index: int) -> str:
    """Return why a block failed, with the place in the plugin's code."""
    from xfw.store import claims

    end = claims.block_state(run.block_dir(index)).end
    reason = " ".join(end.reason.split()) if end is not None else "its block was refused"
    kept = sorted(run.block_dir(index).glob("traceback-*.txt"))
    text = kept[-1].read_text(encoding="utf-8") if kept else ""
    return reason + place_in(run.manifest.experiment, re.findall(r'File "([^"]+)", line (\d+)', text))
