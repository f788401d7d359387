"""What grows with a run: wall and processor seconds and extra memory, figure by figure, beside an older checkout.

    python benchmarks/growth.py [--figure NAME]... [--against CHECKOUT] [--repeat N]

Each figure is a function below with its name; what it does between two yields is measured. Every measurement is a
process of its own, the two builds take turns, and the least of the repeats counts.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parents[1]
RANDOM = np.random.default_rng(0)

Figure = Callable[[Path], Iterator[None]]


# --- the store ---------------------------------------------------------------------------------------------


def sealed(
    folder: Path, commit: Callable[[Any], dict[str, Any]], records: Any, *, seal: bool = True, **plan: Any
) -> Any:
    """Return a run whose blocks have committed once: what ``commit`` returns for the plan of each block."""
    from xfw.store import claims
    from xfw.store.commit import Commit, Committer
    from xfw.store.rundir import create_run
    from xfw.store.seal import seal as make
    from xfw.testing.runs import make_manifest

    run = create_run(folder, make_manifest(**plan), records)
    for block in run.manifest.blocks:
        directory, width = run.block_dir(block.index), len(block.members)
        claim = claims.claim_block(directory, "cpu")
        state = {"parameters": np.zeros((width, 1), np.float32)}
        fields = {"records": {}, "arrays": {}, "state": state, "position": {}, "layout": {}, "status": ["done"] * width}
        Committer(directory).commit(Commit(**(fields | commit(block)), final=True))
        claims.write_end(directory, claims.End(claim.attempt, "done", "", claims.now()))
    if seal:
        make(run)
    return run


def merge_ragged(folder: Path) -> Iterator[None]:
    """Merge two runs of 40 trials in each of two conditions, with 20 arrays whose shapes differ."""
    from xfw.experiment import Array, Records
    from xfw.store.merge import merge

    def commit(block: Any) -> dict[str, Any]:
        shapes = [4 + member.condition for member in block.members]
        return {"arrays": {f"best/{number}": [np.zeros(n, np.float32) for n in shapes] for number in range(20)}}

    records = Records((), (Array("best/*", "float32", "weights"),))
    runs = [sealed(folder, commit, records, trials=40, sweep={"lr": [1, 2]}, seed=seed) for seed in (1, 2)]
    yield
    merge(runs, folder, ("xfw",))
    yield


def seal_arrays(folder: Path) -> Iterator[None]:
    """Seal 512 MiB of arrays: eight blocks of two trials with 32 MiB each."""
    from xfw.experiment import Array, Records
    from xfw.store.seal import seal

    def commit(block: Any) -> dict[str, Any]:
        return {"arrays": {"best/w": RANDOM.standard_normal((len(block.members), 8 << 20), np.float32)}}

    script = "make" if not (folder / "demo").exists() else "seal"
    if script == "make":
        sealed(folder, commit, Records((), (Array("best/w", "float32", "weights"),)), seal=False, trials=16, blocks=8)
    yield
    from xfw.store.rundir import RunDir

    (path,) = (folder / "demo").iterdir()
    seal(RunDir(path))
    yield


def rows_of_four(folder: Path) -> Any:
    """Return a run of 100 trials with 10,000 rows of four variables."""
    from xfw.experiment import Records, Stream, Variable

    names = ("loss", "a", "b", "c")
    stream = Stream("epoch", "epoch", tuple(Variable(name, "float32", name) for name in names), first=1)

    def commit(block: Any) -> dict[str, Any]:
        shape = (10_000, len(block.members))
        return {"records": {"epoch": {name: RANDOM.random(shape, np.float32) for name in names}}}

    return sealed(folder, commit, Records((stream,)), trials=10, sweep={"lr": list(range(10))})


def export(folder: Path, form: str) -> Iterator[None]:
    """Export 10^6 rows of four variables."""
    from xfw.store.export import write
    from xfw.store.rundir import RunDir

    if not (folder / "demo").exists():
        rows_of_four(folder)
    yield
    (path,) = (folder / "demo").iterdir()
    write(RunDir(path), form, folder / "out")
    yield


# --- analysis ----------------------------------------------------------------------------------------------


def analyze(folder: Path, name: str, conditions: int, trials: int) -> Iterator[None]:
    """Run a shared analyzer on a sweep of one key with 20 rows a trial, tables and figures as files."""
    from xfw.analysis.output import Output
    from xfw.store.results import open_run
    from xfw.testing.runs import finished_run

    try:
        from xfw.analysis.shared import all_analyzers
    except ImportError:  # before the analyzers shared one module
        from xfw.analysis.registry import all_analyzers

    run = finished_run(folder, rows=20, trials=trials, sweep={"lr": list(range(conditions))}, blocks=2)
    analyzer = all_analyzers(None, None)[name]
    yield
    with open_run(run) as results:
        assert analyzer.available(results) == ""
        analyzer.run(results, analyzer.options(), Output(folder / "out"))
    yield


# --- planning ----------------------------------------------------------------------------------------------


def swept() -> tuple[Any, list[str]]:
    """Return an experiment of 25 keys, and a sweep of 1,000 conditions."""
    import attrs
    import torch
    import xfw
    from xfw import hookspecs
    from xfw.testing.plugins import make_experiment

    keys = {f"key{number}": xfw.key(0.5, help="a number", ge=0, per_trial=True) for number in range(20)}
    texts = {f"mode{number}": xfw.key("none", help="a choice", choices=("none", "all")) for number in range(5)}
    types = dict.fromkeys(keys, float) | dict.fromkeys(texts, str)
    config = attrs.make_class("Config", keys | texts, frozen=True)
    config.__annotations__ = types
    for field in attrs.fields(config):
        object.__setattr__(field, "type", types[field.name])
    training = getattr(xfw, "Pass", None) or xfw.Epoch
    hooks = {
        "load_data": lambda: {"train": xfw.Dataset((torch.zeros(100, 784),))},
        "build_model": lambda: torch.nn.Linear(784, 10),
        "plan_passes" if hasattr(hookspecs, "plan_passes") else "epochs": lambda: [training(batch_size=10)] * 9,
    }
    return make_experiment(config, "demo", **hooks), ["key0=0.001..1..0.001"]


def planned(experiment: Any, sweep: list[str]) -> Any:
    """Return the plan of a sweep with ten trials of each condition."""
    from xfw.config.resolve import resolve
    from xfw.plan import build

    execution = build.Execution("cpu", "float32", False, "auto", 1, 2, "")
    return build.build(experiment, resolve(experiment, overrides=sweep), build.Request(execution, 1, 10))


def plan(_: Path) -> Iterator[None]:
    """Plan a sweep of 1,000 conditions with ten trials each."""
    experiment, sweep = swept()
    planned(experiment, [])
    yield
    planned(experiment, sweep)
    yield


def start_from(conditions: int) -> Iterator[None]:
    """Find the trials that those of a run of so many conditions and ten trials start from."""
    from xfw.testing.runs import make_manifest

    try:
        from xfw.plan.source import check_source
    except ImportError:
        from xfw.plan.preflight import check_source

    experiment, _ = swept()
    manifest = make_manifest(
        trials=10, sweep={"key0": [(1 + i) / 1000 for i in range(conditions)]}, config={}, blocks=conditions // 2
    )
    yield
    check_source(experiment, manifest, manifest)
    yield


def start_block(folder: Path) -> Iterator[None]:
    """Read what one block of a run of 1,000 conditions with ten trials each needs of the plan."""
    from xfw.config.resolve import condition_configs
    from xfw.store.rundir import RunDir, create_run

    experiment, sweep = swept()
    run = RunDir(create_run(folder, planned(experiment, sweep), ()).path)
    yield
    members = run.manifest.blocks[0].members
    try:
        condition_configs(run.manifest, experiment.config_class, sorted({member.condition for member in members}))
    except TypeError:
        condition_configs(run.manifest, experiment.config_class)
    yield


FIGURES: dict[str, Figure] = {
    "plan": plan,
    "from-400": lambda _: start_from(400),
    "from-1000": lambda _: start_from(1000),
    "start-block": start_block,
    "compare-400": lambda folder: analyze(folder, "compare", 400, 5),
    "compare-1000": lambda folder: analyze(folder, "compare", 1000, 10),
    "summary-1000": lambda folder: analyze(folder, "summary", 1000, 10),
    "curves-400": lambda folder: analyze(folder, "curves", 400, 5),
    "merge-ragged": merge_ragged,
    "seal-arrays": seal_arrays,
    "export-csv": lambda folder: export(folder, "csv"),
    "export-json": lambda folder: export(folder, "json"),
    "export-parquet": lambda folder: export(folder, "parquet"),
}
PREPARED = {"seal-arrays", "export-csv", "export-json", "export-parquet"}
"""Figures whose input is made by a process of its own, so that making it does not count as memory."""


# --- measuring ---------------------------------------------------------------------------------------------


def measure(name: str, folder: Path) -> dict[str, float]:
    """Return seconds and extra memory in MiB of what a figure does after its first ``yield``."""
    steps = FIGURES[name](folder)
    next(steps)
    before, began, used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    next(steps)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": seconds, "processor": processor, "MiB": extra / 1024}


def measured(name: str, checkout: Path) -> dict[str, float]:
    """Measure a figure with the core of a checkout, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "framework"), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, __file__, "--measure", name, "--folder", folder]
        if name in PREPARED:
            subprocess.run([*line, "--prepare"], env=environment, check=True)
        found = subprocess.run(line, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(found.stdout)
    return result


def main() -> None:
    """Read the command line; print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", action="append", choices=FIGURES, help="default: all")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="an older checkout, measured in turn")
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument("--measure", choices=FIGURES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        if given.prepare:
            next(FIGURES[given.measure](given.folder))
        else:
            print(json.dumps(measure(given.measure, given.folder)))
        return
    builds = {"this": REPOSITORY} | ({"older": given.against} if given.against else {})
    for name in given.figure or FIGURES:
        runs = {build: [] for build in builds}  # type: dict[str, list[dict[str, float]]]
        for _ in range(given.repeat):
            for build, checkout in builds.items():
                runs[build].append(measured(name, checkout.resolve()))
        least = {build: {key: min(run[key] for run in found) for key in found[0]} for build, found in runs.items()}
        text = "   ".join(
            f"{build} {found['seconds']:.2f} s ({found['processor']:.2f} of CPU), {found['MiB']:.0f} MiB"
            for build, found in least.items()
        )
        ratio = least["older"]["seconds"] / least["this"]["seconds"] if given.against else 0
        print(f"{name:<16}{text}{f'   {ratio:.1f} times faster' if ratio else ''}", flush=True)


if __name__ == "__main__":
    main()
