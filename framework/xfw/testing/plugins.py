"""Plugins made by hand, for tests: an experiment in this process, and an installed package in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from xfw.experiment import Experiment
from xfw.hookspecs import hookimpl
from xfw.plugins.discovery import EXPERIMENTS, PluginInfo
from xfw.plugins.registry import Hooks, Loaded

__all__ = ["make_experiment", "write_distribution"]


def make_experiment(config_class: type, name: str = "demo", **hooks: Callable[..., Any]) -> Experiment:
    """Return an experiment with these hooks and this configuration class."""
    functions: Mapping[str, Callable[..., Any]] = {"define_config": lambda: config_class, **hooks}
    module = SimpleNamespace(**{hook: hookimpl(function) for hook, function in functions.items()})
    info = PluginInfo(name, "experiment", "", "1.0", "", (f"xfw-{name}",), "ok")
    return Experiment(name, "1.0", module, Hooks(Loaded(info, {"plugin": module})), config_class)


def write_distribution(
    folder: Path,
    plugin: str,
    source: str,
    *,
    package: str = "",
    module: str = "",
    group: str = EXPERIMENTS,
    version: str = "1.0",
    target: str = "",
) -> Path:
    """Write an installed package with one plugin into a folder that may stand on the search path of modules.

    The entry point names ``target`` where that is another module than the written one.
    """
    package = package or f"xfw-{plugin.replace('_', '-')}"
    module = module or package.replace("-", "_")
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nSummary: a plugin for tests\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{plugin} = {target or module}\n", encoding="utf-8")
    return folder
