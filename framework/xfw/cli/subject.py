"""Find what NAME means on the command line: an experiment, or a named run of ``experiments.toml``."""

from __future__ import annotations

from pathlib import Path

import attrs

from xfw.config.named import NamedRun, load_named_runs
from xfw.plugins.discovery import discover, normal, unknown
from xfw.plugins.registry import Experiment, load_experiment

__all__ = ["Subject", "find_subject"]


@attrs.frozen
class Subject:
    """A loaded experiment, and the named run that asked for it, if any."""

    experiment: Experiment
    named: NamedRun | None = None


def find_subject(name: str, folder: Path) -> Subject:
    """Load the experiment of NAME; named runs are looked for from ``folder`` upwards."""
    plugins = discover()
    experiments = [plugin.name for plugin in plugins if plugin.kind == "experiment"]
    if normal(name) in experiments:
        return Subject(load_experiment(name, plugins))
    runs = load_named_runs(folder, experiments)
    if name in runs:
        return Subject(load_experiment(runs[name].plugin, plugins), runs[name])
    raise unknown(name, "experiment", [*experiments, *runs])
