"""Compare a plugin's modules with the hook specifications: API number, names, arguments, required hooks, their home."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import attrs
import pluggy

from xfw import hookspecs
from xfw.errors import Problem, did_you_mean
from xfw.hookspecs import API

__all__ = ["OTHERWISE", "Specification", "check_hooks", "hooks_of", "incompatibility", "specifications"]

RENAMED = {
    "configuration": "define_config",
    "presets": "define_presets",
    "check_configuration": "check_config",
    "independent_keys": "select_unpaired_keys",
    "records": "declare_records",
    "optimizer": "build_optimizer",
    "epochs": "plan_passes",
    "draw_order": "sample_order",
    "stages": "define_stages",
    "metrics": "define_metrics",
    "trackers": "register_trackers",
}
"""The hooks of interface 1 that have another name in interface 2."""

OTHERWISE = (
    "xfw.Epoch is xfw.Pass, its argument phase is label",
    "the argument epoch of train_step is pass_; what it did where due was true is done by the hook observe_step",
    "xfw.Pass calls evaluated and every by the names observed and observe_every",
    "a message that began with 'warning:' is xfw.Problem(path, message, level='warning')",
)
"""What else changed from interface 1 to 2."""


@attrs.frozen
class Specification:
    """One hook of the contract: whether it has one answer or any number of observers, its home, its arguments."""

    name: str
    one: bool
    required: bool
    home: str
    arguments: tuple[str, ...]


def specifications() -> Mapping[str, Specification]:
    """Return the hooks of the contract by name, in the order of the page."""
    return {
        name: Specification(name, **attrs.asdict(contract), arguments=tuple(inspect.signature(function).parameters))
        for name, function in vars(hookspecs).items()
        if (contract := getattr(function, "xfw_contract", None)) is not None
    }


def implementations(module: Any) -> dict[str, Mapping[str, Any]]:
    """Return the options of every hook that a module implements, by hook name."""
    manager = pluggy.PluginManager("xfw")
    found: dict[str, Mapping[str, Any]] = {}
    for name in dir(module):
        options = manager.parse_hookimpl_opts(module, name)
        if options is not None:
            found[options.get("specname") or name] = {**options, "function": getattr(module, name)}
    return found


def hooks_of(*modules: Any) -> tuple[str, ...]:
    """Return the names of the hooks that modules implement."""
    return tuple(sorted(name for module in modules for name in implementations(module)))


def incompatibility(module: ModuleType, package: str) -> str:
    """Return why a module's ``api`` does not fit this version of xfw, with what to do about it; empty if it does."""
    api = getattr(module, "api", None)
    if not isinstance(api, int):
        return f"it does not state its hook interface; expected 'api = {API}' in its module"
    if api > API:
        return f"it needs hook interface {api}, this xfw speaks {API}: pip install --upgrade xfw"
    if api < API:
        changes = [f"hook {name}: is {RENAMED[name]} now" for name in implementations(module) if name in RENAMED]
        return "\n    ".join(
            (
                f"it was written for hook interface {api}, this xfw needs {API}: pip install --upgrade {package}; "
                f"where there is no newer one, its authors make these changes and set 'api = {API}':",
                *changes,
                *OTHERWISE,
            )
        )
    return ""


def check_hooks(modules: Mapping[str, Any], kind: str) -> list[Problem]:
    """Return what is wrong with a plugin's hooks: unknown names and arguments, missing ones, wrong kind or home.

    ``modules`` holds those of the plugin's modules that are loaded, by home; the others may have what is missing.
    """
    known, owners = specifications(), dict[str, str]()
    problems = []
    for home, module in modules.items():
        for name, options in implementations(module).items():
            where = f"hook {name}"
            if name not in known:
                hint = f"it is {RENAMED[name]} now" if name in RENAMED else did_you_mean(name, known)
                problems.append(Problem(where, "unknown hook", hint))
                continue
            problems += wrong_parts(known[name], options, kind)
            if name in owners:
                problems.append(
                    Problem(where, f"is in {owners[name]} and in {module.__name__}, expected in one of them")
                )
            owners[name] = module.__name__
            if home not in ("plugin", wanted := home_in(modules, known[name].home)):
                problems.append(Problem(where, f"is in the module of '{home}', expected in that of '{wanted}'"))
    if kind == "experiment":
        missing = [name for name, spec in known.items() if spec.required and name not in owners]
        expected = [name for name in missing if home_in(modules, known[name].home) in modules]
        problems += [Problem(f"hook {name}", "missing, every experiment needs it") for name in expected]
    return problems


def home_in(modules: Mapping[str, Any], home: str) -> str:
    """Return which of a plugin's modules, loaded or not, hooks of a home belong in."""
    if home == "analysis_hooks" and not hasattr(modules["plugin"], home):
        home = "hooks"
    return home if hasattr(modules["plugin"], home) else "plugin"


def wrong_parts(spec: Specification, options: Mapping[str, Any], kind: str) -> Iterator[Problem]:
    """Yield what is wrong with one implemented hook by itself."""
    where = f"hook {spec.name}"
    for argument in inspect.signature(options["function"]).parameters:
        if argument not in spec.arguments:
            yield Problem(where, f"unknown argument '{argument}'", did_you_mean(argument, spec.arguments))
    if kind == "experiment" and (options["wrapper"] or options["hookwrapper"]):
        yield Problem(where, "wraps other hooks, which only extensions may do")
    if kind == "extension" and spec.one:
        yield Problem(where, "has exactly one answer, which is the experiment's")
