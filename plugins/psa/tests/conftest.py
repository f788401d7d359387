"""Runs of psa through the command line, in this process, on the embedded digits; and runs with given results."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import attrs
import numpy as np
import pytest
import xfw_psa
from numpy.typing import NDArray
from xfw.cli.main import invoke
from xfw.config.named import NamedRun
from xfw.config.resolve import resolve
from xfw.manifest import BlockPlan, Condition, Member
from xfw.plugins.registry import load_experiment
from xfw.store import claims
from xfw.store.commit import Commit, Committer
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir, create_run, find_run
from xfw.store.seal import seal
from xfw.testing.runs import make_manifest

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"

if SHARED_DATA.is_dir():
    os.environ.setdefault("XFW_DATA_DIR", str(SHARED_DATA))

# A shell that starts the tests in the background lets them ignore Ctrl-C; tests of Ctrl-C need Python's own handler.
signal.signal(signal.SIGINT, signal.default_int_handler)

Run = Callable[..., Results]
Curves = Mapping[tuple[str, str], NDArray[np.float64]]
Stored = Callable[..., Results]


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


IMAGES = 10_000
"""Validation images of MNIST."""


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """Seal a run of MNIST with given accuracies, and return its results.

    ``curves`` holds percentages as (trial, loop) for every (network, mode), all of one shape. ``meta_loops`` is what
    the configuration says, by default their number.
    """
    with ExitStack() as stack:

        def make(curves: Curves, preset: str = "paper", meta_loops: int | None = None) -> Results:
            return stack.enter_context(open_run(sealed(tmp_path, curves, preset, meta_loops)))

        yield make


def sealed(results_dir: Path, curves: Curves, preset: str, meta_loops: int | None) -> RunDir:
    """Return a sealed run whose trials have these accuracies."""
    val_LE = np.rint(np.concatenate(list(curves.values())) * IMAGES / 100).astype(np.int64)
    trials, loops = next(iter(curves.values())).shape
    cells = list(enumerate(curves))
    members = tuple(
        Member(condition, trial, f"{condition:08x}{trial:08x}") for condition, _ in cells for trial in range(trials)
    )
    values = {"meta_loops": meta_loops or loops, "keep_weights": False}
    run = NamedRun("given", "psa", Path(), preset, values)
    resolved = resolve(load_experiment("psa"), named=run, folder=Path())
    common = {name: value for name, value in resolved.common.items() if name not in ("arch", "mode")}
    conditions = [Condition(index, {"arch": f"[{arch}]", "mode": mode}) for index, (arch, mode) in cells]
    plan = make_manifest(experiment="psa", preset=preset, config=common, axes=("arch", "mode"))
    blocks = (BlockPlan(0, members, len(members), "serial", loops, 1),)
    manifest = attrs.evolve(plan, conditions=tuple(conditions), blocks=blocks)
    made = create_run(results_dir, manifest, xfw_psa.declare_records(resolved.configs[0]))
    directory = made.block_dir(0)
    claim = claims.claim_block(directory, "cpu")
    assert claim is not None
    Committer(directory).commit(finished(val_LE))
    claims.write_end(directory, claims.End(claim.attempt, "done", "", claims.now()))
    seal(made)
    return made


def finished(val_LE: NDArray[np.int64]) -> Commit:
    """Return the one commit of a block with these numbers of correct images, one row per lane."""
    lanes, loops = val_LE.shape
    lkg_LE = np.maximum.accumulate(val_LE, axis=1)
    accepted_LE = np.diff(lkg_LE, axis=1, prepend=-1) > 0
    none_EL = np.full((loops, lanes), -1, np.int64)
    rows = {
        "epoch": np.broadcast_to(np.arange(1, loops + 1)[:, None], (loops, lanes)).astype(np.int64),
        "val_correct": val_LE.T,
        "lkg_correct": lkg_LE.T,
        "accepted": accepted_LE.T,
        "train_loss": np.ones((loops, lanes), np.float32),
        "ablated_layer": none_EL,
        "ablated_unit": none_EL,
        "wall_time": np.ones((loops, lanes)),
        "finite": np.ones((loops, lanes), np.bool_),
    }
    arrays = {
        "bounty_loop": loops - np.argmax(accepted_LE[:, ::-1], axis=1),
        "test_correct": lkg_LE[:, -1],
        "loops_done": np.full(lanes, loops),
        "parameters": np.ones(lanes, np.int64),
        "n_val": np.full(lanes, IMAGES),
        "z_val": np.full(lanes, 11.02),
    }
    return Commit(
        records={"epoch": rows},
        arrays=arrays,
        state={"parameters": np.zeros((lanes, 1), np.float32)},
        position={"epoch": loops},
        layout={"parameters": [["weight", [1], 0]]},
        status=["done"] * lanes,
        final=True,
    )
