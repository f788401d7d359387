"""Load one experiment with the extensions into a hook manager of its own."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from typing import Any

import attrs
import pluggy

from xfw import hookspecs
from xfw.errors import UserError
from xfw.experiment import Experiment
from xfw.plugins.contract import check_hooks, hooks_of, incompatibility
from xfw.plugins.discovery import PluginInfo, allowed, discover, find
from xfw.plugins.observe import isolated, trace_calls

__all__ = ["Loaded", "PluginInfo", "discover", "load_experiment", "probe"]


@attrs.frozen(eq=False)
class Loaded:
    """A plugin after an attempt to import it: its state, hooks, import time in seconds, and traceback if any."""

    info: PluginInfo
    module: Any = None
    hooks: tuple[str, ...] = ()
    seconds: float = 0.0
    traceback: str = ""


def load_experiment(name: str, plugins: Sequence[PluginInfo] | None = None) -> Experiment:
    """Import an experiment and the extensions, and return it with hooks of its own.

    Raises ``UserError`` for a plugin that is unknown, duplicate, broken or incompatible. An extension that
    cannot be loaded is reported on the error stream and left out.
    """
    plugins = discover() if plugins is None else plugins
    info = find(name, [plugin for plugin in plugins if plugin.kind == "experiment"], "experiment")
    if not allowed(info.name):
        raise UserError(f"experiment '{info.name}' is left out by XFW_PLUGINS", hint="unset XFW_PLUGINS", exit_code=2)
    manager = pluggy.PluginManager("xfw")
    manager.add_hookspecs(hookspecs)
    register_extensions(manager, [plugin for plugin in plugins if plugin.kind == "extension" and allowed(plugin.name)])
    loaded = probe(info)
    if loaded.info.state != "ok":
        raise unusable(loaded.info)
    manager.register(loaded.module, name=info.name)
    manager.check_pending()
    if os.environ.get("XFW_TRACE") == "1":
        trace_calls(manager)
    return Experiment(info.name, info.version, loaded.module, manager.hook, manager.hook.configuration())


def register_extensions(manager: pluggy.PluginManager, extensions: Sequence[PluginInfo]) -> None:
    """Load the extensions and register those that are in order; name the others."""
    for info in extensions:
        loaded = probe(info)
        if loaded.info.state == "ok":
            manager.register(isolated(loaded.module, info.name), name=info.name)
        else:
            print(f"warning: {unusable(loaded.info)}", file=sys.stderr)  # noqa: T201


def probe(info: PluginInfo, *, strict: bool | None = None) -> Loaded:
    """Import a plugin and return its state; if ``strict``, what it raises is raised.

    By default ``XFW_STRICT_PLUGINS=1`` decides.
    """
    if strict is None:
        strict = os.environ.get("XFW_STRICT_PLUGINS") == "1"
    if info.state != "installed":
        return Loaded(info)
    started = time.perf_counter()
    try:
        module = EntryPoint(info.name, info.module, "").load()
    except (Exception, SystemExit) as error:
        if strict:
            raise
        broken = attrs.evolve(info, state="broken", error=f"{type(error).__name__}: {error}")
        return Loaded(broken, seconds=time.perf_counter() - started, traceback=traceback.format_exc())
    seconds = time.perf_counter() - started
    checked = examined(info, module)
    if checked.state != "ok" and strict:
        raise unusable(checked)
    return Loaded(checked, module, hooks_of(module), seconds)


def examined(info: PluginInfo, module: Any) -> PluginInfo:
    """Return a plugin with the state that its module deserves."""
    reason = incompatibility(module, info.distributions[0])
    if reason:
        return attrs.evolve(info, state="incompatible", error=reason)
    problems = check_hooks(module, info.kind)
    if problems:
        return attrs.evolve(info, state="broken", error="\n".join(str(problem) for problem in problems))
    return attrs.evolve(info, state="ok")


def unusable(info: PluginInfo) -> UserError:
    """Return the error of a plugin that cannot be used, with what to do."""
    package = f"{info.distributions[0]} {info.version}".strip()
    hint = f"the whole reason: xfw doctor {info.name}"
    if info.state == "duplicate":
        what = f"{info.kind} '{info.name}' is installed twice: {info.error}; neither is used"
        hint = f"uninstall one of them: pip uninstall {info.distributions[-1]}"
    else:
        what = f"{info.kind} '{info.name}' ({package}) is {info.state}: {info.error}"
    return UserError(what, hint=hint, exit_code=2)
