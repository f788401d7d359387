"""Load one experiment with the extensions into hooks of its own; heavy modules when one of their hooks is called."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import attrs
import pluggy

from xfw import hookspecs
from xfw.errors import UserError
from xfw.experiment import Experiment
from xfw.plugins.contract import OTHERWISE, check_hooks, home_in, hooks_of, incompatibility, specifications
from xfw.plugins.discovery import PluginInfo, allowed, discover, find
from xfw.plugins.observe import isolated, trace_calls

__all__ = ["Hooks", "Loaded", "PluginInfo", "discover", "load_experiment", "probe"]


class Hooks:
    """The hooks of an experiment and the extensions, as attributes.

    The first access to a hook imports the module of each plugin that it belongs in. Raises ``UserError`` where
    that of the experiment cannot be used; an extension's is reported on the error stream and left out.
    """

    def __init__(self, *plugins: Loaded) -> None:
        """``plugins`` holds the experiment last, whose answers count."""
        self._manager = pluggy.PluginManager("xfw")
        self._manager.add_hookspecs(hookspecs)
        self._plugins = list(plugins)
        self._homes = {name: spec.home for name, spec in specifications().items()}
        for loaded in plugins:
            self._register(loaded, "plugin")
        if os.environ.get("XFW_TRACE") == "1":
            trace_calls(self._manager)

    def __getattr__(self, name: str) -> pluggy.HookCaller:
        home = self._homes.get(name, "plugin")
        if home != "plugin":
            for place, loaded in enumerate(self._plugins):
                needed = home_in(loaded.modules, home)
                if needed not in loaded.modules and loaded.info.state == "ok":
                    self._plugins[place] = self._completed(loaded, needed)
        caller: pluggy.HookCaller = getattr(self._manager.hook, name)
        return caller

    def _completed(self, loaded: Loaded, home: str) -> Loaded:
        loaded = with_module(loaded, home)
        if loaded.info.state == "ok":
            self._register(loaded, home)
        elif loaded.info.kind == "experiment":
            raise unusable(loaded.info)
        else:
            print(f"warning: {unusable(loaded.info)}", file=sys.stderr)  # noqa: T201
        return loaded

    def _register(self, loaded: Loaded, home: str) -> None:
        module, name = loaded.modules[home], loaded.info.name
        self._manager.register(isolated(module, name) if loaded.info.kind == "extension" else module, f"{name} {home}")
        self._manager.check_pending()


@attrs.frozen(eq=False)
class Loaded:
    """A plugin after an attempt to import it: its state, its modules by home, the seconds each took, any traceback."""

    info: PluginInfo
    modules: Mapping[str, Any] = attrs.field(factory=dict)
    seconds: Mapping[str, float] = attrs.field(factory=dict)
    traceback: str = ""

    @property
    def hooks(self) -> tuple[str, ...]:
        """The names of the hooks that its modules implement."""
        return hooks_of(*self.modules.values())


def load_experiment(name: str, plugins: Sequence[PluginInfo] | None = None) -> Experiment:
    """Import an experiment and the extensions, and return it with hooks of its own.

    Raises ``UserError`` for a plugin that is unknown, duplicate, broken or incompatible. An extension that
    cannot be loaded is reported on the error stream and left out.
    """
    plugins = discover() if plugins is None else plugins
    info = find(name, [plugin for plugin in plugins if plugin.kind == "experiment"], "experiment")
    if not allowed(info.name):
        raise UserError(f"experiment '{info.name}' is left out by XFW_PLUGINS", hint="unset XFW_PLUGINS", exit_code=2)
    usable = []
    for extension in (plugin for plugin in plugins if plugin.kind == "extension" and allowed(plugin.name)):
        loaded = probe(extension)
        if loaded.info.state == "ok":
            usable.append(loaded)
        else:
            print(f"warning: {unusable(loaded.info)}", file=sys.stderr)  # noqa: T201
    loaded = probe(info)
    if loaded.info.state != "ok":
        raise unusable(loaded.info)
    hooks = Hooks(*usable, loaded)
    return Experiment(info.name, info.version, loaded.modules["plugin"], hooks, hooks.define_config())


def probe(info: PluginInfo, *, strict: bool | None = None, whole: bool = False) -> Loaded:
    """Import a plugin's module, or the ``whole`` plugin, and return its state; if ``strict``, what it raises is raised.

    By default ``XFW_STRICT_PLUGINS=1`` decides.
    """
    loaded = Loaded(info)
    homes = hookspecs.HOMES if whole else hookspecs.HOMES[:1]
    for home in homes if info.state == "installed" else ():
        if home == "plugin" or (loaded.info.state == "ok" and hasattr(loaded.modules["plugin"], home)):
            loaded = with_module(loaded, home, strict=strict)
    return loaded


def with_module(loaded: Loaded, home: str, *, strict: bool | None = None) -> Loaded:
    """Return a plugin with one more of its modules imported, and the state that it then deserves."""
    if strict is None:
        strict = os.environ.get("XFW_STRICT_PLUGINS") == "1"
    info, started = loaded.info, time.perf_counter()
    try:
        if home == "plugin":
            module = EntryPoint(info.name, info.module, "").load()
        else:
            named = getattr(loaded.modules["plugin"], home)
            module = named if isinstance(named, ModuleType) else import_module(named)
    except (Exception, SystemExit) as error:
        if strict:
            raise
        state, text = "broken", f"{type(error).__name__}: {error}"
        if isinstance(error, ImportError) and error.name == "xfw" and "'Epoch'" in text:
            state, text = "incompatible", f"{text}\n    it was written for hook interface 1: {'; '.join(OTHERWISE)}"
        broken = attrs.evolve(info, state=state, error=text)
        return attrs.evolve(loaded, info=broken, traceback=traceback.format_exc())
    modules = {**loaded.modules, home: module}
    checked = examined(info, modules)
    if checked.state not in ("ok", "installed") and strict:
        raise unusable(checked)
    return Loaded(checked, modules, {**loaded.seconds, home: time.perf_counter() - started})


def examined(info: PluginInfo, modules: Mapping[str, Any]) -> PluginInfo:
    """Return a plugin with the state that its modules deserve."""
    reason = incompatibility(modules["plugin"], info.distributions[0])
    if reason:
        return attrs.evolve(info, state="incompatible", error=reason)
    problems = check_hooks(modules, info.kind)
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
