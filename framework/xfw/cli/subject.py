"""Find what NAME means on the command line: an experiment, or a named run of a file or of a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import attrs
import click

from xfw.config.named import FILE, NamedRun, load_named_runs, read_file
from xfw.errors import UserError
from xfw.experiment import Experiment
from xfw.plugins.discovery import PluginInfo, allowed, discover, normal, unknown
from xfw.plugins.registry import load_experiment

__all__ = ["Subject", "find_subject", "shipped_runs"]


@attrs.frozen
class Subject:
    """A loaded experiment, and the named run that asked for it, if any."""

    experiment: Experiment
    named: NamedRun | None = None


def find_subject(name: str, folder: Path) -> Subject:
    """Load the experiment of NAME; named runs are looked for from ``folder`` upwards, then in the plugins."""
    plugins = discover()
    experiments = [plugin.name for plugin in plugins if plugin.kind == "experiment"]
    if normal(name) in experiments:
        return Subject(load_experiment(name, plugins))
    runs = {**shipped_runs(plugins), **load_named_runs(folder, experiments)}
    if name in runs:
        return Subject(load_experiment(runs[name].plugin, plugins), runs[name])
    raise unknown(name, "experiment or named run", [*experiments, *runs])


def shipped_runs(plugins: Sequence[PluginInfo]) -> dict[str, NamedRun]:
    """Return the named runs in the ``experiments.toml`` beside each experiment's module, which is not imported."""
    experiments = [plugin.name for plugin in plugins if plugin.kind == "experiment"]
    found: dict[str, NamedRun] = {}
    for plugin in plugins:
        if plugin.kind != "experiment" or plugin.state != "installed" or not allowed(plugin.name):
            continue
        spec = find_spec(plugin.module.partition(":")[0].partition(".")[0])
        for folder in (spec and spec.submodule_search_locations) or ():
            found |= _own_runs(plugin.name, Path(folder) / FILE, experiments)
    return found


def _own_runs(plugin: str, path: Path, experiments: Sequence[str]) -> dict[str, NamedRun]:
    """Return the named runs of one plugin; a wrong file is reported and stops nothing that needs other plugins."""
    if not path.is_file():
        return {}
    try:
        runs = read_file(path, experiments)
    except UserError as error:
        click.echo(f"warning: the named runs of plugin '{plugin}' are left out: {error}", err=True)
        return {}
    return {name: run for name, run in runs.items() if normal(run.plugin) == plugin}
