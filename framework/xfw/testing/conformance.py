"""The conformance suite of plugins: what ``xfw check NAME`` runs, and what a plugin's own tests can run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from xfw.config.keys import schema_of
from xfw.config.resolve import resolve
from xfw.config.structure import structure, unstructure
from xfw.errors import UserError
from xfw.plugins.discovery import discover, find
from xfw.plugins.registry import load_experiment, probe
from xfw.store.rundir import find_run
from xfw.testing.runs import metrics_of
from xfw.testing.suite import TRIALS, Refuted, Suite, told

__all__ = ["CHECKS", "Check", "Outcome", "Refuted", "Suite", "run_checks"]

LONGEST_IMPORT = 1.0
"""Seconds that the import of a plugin's module may take, on top of that of xfw."""

OTHER_SEED = 2
IMPORT = """
import sys, time
import attrs, xfw
began = time.perf_counter()
import {module}
seconds = time.perf_counter() - began
heavy = [name for name in ("torch", "h5py", "matplotlib") if name in sys.modules]
print(seconds, *heavy)
"""


@attrs.frozen
class Check:
    """One property of a plugin: its name, what holds where it passes, and the check that it builds upon."""

    name: str
    claim: str
    examine: Callable[[Suite], None]
    needs: str = ""


@attrs.frozen
class Outcome:
    """What became of a check: ``ok``, ``failed`` or ``skipped``, and why."""

    name: str
    claim: str
    state: str
    reason: str = ""


def different(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the names whose contents differ."""
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


# --- the plugin as it is installed ----------------------------------------------------------------------------


def installed(suite: Suite) -> None:
    info = find(suite.name, [plugin for plugin in discover() if plugin.kind == "experiment"], "experiment")
    if info.state != "installed":
        raise Refuted(info.error)
    package, module = f"xfw-{info.name.replace('_', '-')}", f"xfw_{info.name}"
    for what, name, expected in (("distribution", info.distributions[0], package), ("module", info.module, module)):
        if name != expected:
            raise Refuted(f"the {what} is called '{name}', expected '{expected}'")


def light(suite: Suite) -> None:
    module = find(suite.name, discover()).module
    spec = find_spec(module)
    folders = (spec and spec.submodule_search_locations) or ()
    configs = [f"{module}.config" for folder in folders if (Path(folder) / "config.py").exists()]
    for name in (module, *configs):
        command = [sys.executable, "-c", IMPORT.format(module=name)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise Refuted(f"the import of {name} fails: {done.stderr.strip().splitlines()[-1]}")
        seconds, *heavy = done.stdout.split()
        if heavy:
            raise Refuted(f"{name} imports {', '.join(heavy)}; move what needs it to the module named by `hooks`")
        if float(seconds) > LONGEST_IMPORT:
            raise Refuted(f"the import of {name} takes {float(seconds):.1f} s, expected at most {LONGEST_IMPORT:g} s")


def valid_hooks(suite: Suite) -> None:
    loaded = probe(find(suite.name, discover()), strict=False, whole=True)
    if loaded.info.state != "ok":
        raise Refuted(" ".join(loaded.info.error.split()))


# --- its configuration ----------------------------------------------------------------------------------------


def complete_defaults(suite: Suite) -> None:
    for key in schema_of(suite.experiment.config_class).keys.values():
        if not key.info.help:
            raise Refuted(f"$.{key.path} has no help, which xfw config shows")
    resolve(suite.experiment)


def round_trip(suite: Suite) -> None:
    experiment = suite.experiment
    for preset in experiment.presets() or [None]:
        for config in suite.resolved(preset).configs:
            stored = tomllib.loads(tomli_w.dumps(unstructure(config)))
            again: Any = structure(experiment.config_class, stored)
            if again != config:
                wrong = [name for name in attrs.asdict(config) if getattr(again, name) != getattr(config, name)]
                raise Refuted(f"preset {preset}: $.{wrong[0]} is another value after it was written to TOML and read")


def wrong_keys_refused(suite: Suite) -> None:
    experiment = suite.experiment
    for key in schema_of(experiment.config_class).keys.values():
        for override in (f"{key.path}_=1", f"{key.path}=no such value"):
            try:
                resolve(experiment, overrides=[override])
            except UserError:
                continue
            except Exception as error:
                raise Refuted(f"-s '{override}' raises {type(error).__name__}, expected ValueError") from error
            if "str" not in str(key.kind):
                raise Refuted(f"-s '{override}' is taken without an error")


def valid_presets(suite: Suite) -> None:
    experiment = suite.experiment
    for name, preset in experiment.presets().items():
        if not preset.help:
            raise Refuted(f"preset '{name}' has no help")
        resolve(experiment, preset=name)


# --- its training ---------------------------------------------------------------------------------------------


def smoke(suite: Suite) -> None:
    suite.run("base")


def records_stored(suite: Suite) -> None:
    from xfw.store.results import open_run

    run = suite.run("base")
    with open_run(run) as results:
        for records in [suite.experiment.hooks.declare_records(config=config) for config in suite.resolved().configs]:
            for stream in records.streams:
                if stream.name not in results.streams() or not results.count(stream.name).any():
                    raise Refuted(f"stream '{stream.name}' is declared, and nothing was recorded in it")
                for variable in stream.variables:
                    if not variable.unit or not variable.long_name:
                        raise Refuted(f"{stream.name}/{variable.name} has no unit or no long name")
            for array in records.arrays:
                if not array.unit or not array.long_name:
                    raise Refuted(f"array '{array.name}' has no unit or no long name")


def repeated(suite: Suite) -> None:
    if wrong := different(metrics_of(suite.run("base")), metrics_of(suite.run("again"))):
        raise Refuted(f"a second run with the same seed has other numbers: {', '.join(wrong[:3])}")


def other_seed(suite: Suite) -> None:
    if not different(metrics_of(suite.run("base")), metrics_of(suite.run("other", seed=OTHER_SEED))):
        raise Refuted("a run with another seed has the same numbers")


def neighbours(suite: Suite) -> None:
    from xfw.store.results import open_run

    with open_run(suite.run("base")) as among, open_run(suite.run("alone", only=1)) as alone:
        place = list(among.trial).index(1)
        named = {
            f"{stream}/{variable}": (among.values(stream, variable)[place], alone.values(stream, variable)[0])
            for stream in among.streams()
            for variable in among.variables(stream)
            if variable != "wall_time"
        }
        for name in {*among.arrays()} & {*alone.arrays()}:
            named[name] = among.array(name)[place], alone.array(name)[0]
        for name, (values, lone) in sorted(named.items()):
            if values.dtype != lone.dtype or content(values) != content(lone):
                raise Refuted(f"trial 1 alone has another {name} than among {TRIALS} trials")


def content(values: Any) -> Any:
    """Return what an array holds, such that equal bits are equal: NaN is no number, and texts are no bytes."""
    return values.tolist() if values.dtype.kind in "OT" else values.tobytes()


def resumed(suite: Suite) -> None:
    base = suite.run("base")
    steps = max(plan.steps for plan in base.manifest.blocks)
    if wrong := different(metrics_of(base), metrics_of(suite.run("resumed", stop_after=max(2, steps * 5 // 8)))):
        raise Refuted(f"a run that was killed and resumed has other numbers: {', '.join(wrong[:3])}")


def inside(suite: Suite) -> None:
    suite.run("base")
    place = suite.folder / "base-work"
    outside = [path.relative_to(place) for path in sorted(place.rglob("*")) if path.is_file()]
    if outside:
        raise Refuted(f"{outside[0]} was written outside the run directory")


# --- its results ----------------------------------------------------------------------------------------------


def analysed(suite: Suite) -> None:
    run = suite.run("base")
    copied = suite.folder / "copied" / run.path.parent.name / run.path.name
    shutil.copytree(run.path, copied, ignore=shutil.ignore_patterns(run.block_dir(0).parent.name, run.report_dir.name))
    outputs = []
    for attempt in ("first", "second"):
        folder = suite.folder / f"analysis-{attempt}"
        suite.child(f"{attempt}-analysis", partial(analyse, run.id, suite.folder / "copied", folder))
        outputs.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    if wrong := different(*({str(name): text for name, text in files.items()} for files in outputs)):
        raise Refuted(f"a second analysis of the same file has another {wrong[0]}")


def analyse(run: str, results_dir: Path, folder: Path) -> None:
    """Make all tables and figures of a run."""
    from xfw.analysis.output import Output
    from xfw.analysis.shared import all_analyzers
    from xfw.store.results import open_run

    with open_run(find_run(results_dir, run)) as results:
        experiment = load_experiment(results.experiment)
        for analyzer in all_analyzers(experiment.hooks.define_metrics(), experiment.hooks.analyze()).values():
            if analyzer.needs_run and not analyzer.available(results):
                analyzer.run(results, analyzer.options() if analyzer.options else None, Output(folder))


def targets_exist(suite: Suite) -> None:
    from xfw.analysis.targets import targets_text
    from xfw.analysis.verification import read_published

    if targets_text(suite.experiment.module) is not None:
        read_published(suite.experiment)


CHECKS = (
    Check("installed", "is installed once, under names that follow the rules", installed),
    Check("light", "its module and config import fast, without torch, h5py and matplotlib", light, "installed"),
    Check("hooks", "its hooks exist, take known arguments and stand where they belong", valid_hooks, "installed"),
    Check("defaults", "its keys have defaults and help", complete_defaults, "hooks"),
    Check("presets", "its presets can be resolved, and have help", valid_presets, "hooks"),
    Check("round-trip", "its configurations are the same after TOML", round_trip, "presets"),
    Check("wrong-keys", "unknown keys and values of another type are refused", wrong_keys_refused, "hooks"),
    Check("smoke", "three trials train on a CPU in a minute", smoke, "defaults"),
    Check("records", "every declared stream is recorded, with units", records_stored, "smoke"),
    Check("repeat", "the same seed gives the same numbers", repeated, "smoke"),
    Check("seed", "another seed gives other numbers", other_seed, "smoke"),
    Check("neighbours", "a trial alone has the numbers that it has among others", neighbours, "repeat"),
    Check("resume", "a killed and resumed run has the numbers of an uninterrupted one", resumed, "repeat"),
    Check("inside", "nothing is written outside the run directory", inside, "smoke"),
    Check("analysis", "its analyses need the stored file alone, and repeat themselves", analysed, "smoke"),
    Check("targets", "its published numbers speak of metrics and keys that exist", targets_exist, "presets"),
)
"""All checks, in the order in which they run."""


def run_checks(suite: Suite) -> Iterator[Outcome]:
    """Run all checks of a plugin, and yield what became of each."""
    passed: set[str] = set()
    for check in CHECKS:
        if check.needs and check.needs not in passed:
            yield Outcome(check.name, check.claim, "skipped", f"needs '{check.needs}'")
            continue
        try:
            check.examine(suite)
        except Exception as error:  # noqa: BLE001 - the plugin's code runs in here
            yield Outcome(check.name, check.claim, "failed", told(error, suite.name))
        else:
            passed.add(check.name)
            yield Outcome(check.name, check.claim, "ok")
