"""Compare a plugin's module with the hook specifications: API number, names, arguments, required hooks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import attrs
import pluggy

from xfw import hookspecs
from xfw.errors import Problem, did_you_mean
from xfw.hookspecs import API

__all__ = ["Specification", "check_hooks", "hooks_of", "incompatibility", "specifications"]

OLDEST_API = 1


@attrs.frozen
class Specification:
    """One hook of the contract: whether it has one answer or any number of observers, and its arguments."""

    name: str
    one: bool
    required: bool
    arguments: tuple[str, ...]


def specifications() -> Mapping[str, Specification]:
    """Return the hooks of the contract by name, in the order of the page."""
    found = {}
    for name, function in vars(hookspecs).items():
        options = getattr(function, "xfw_spec", None)
        if options is not None:
            text = " ".join((inspect.getdoc(function) or "").split())
            found[name] = Specification(
                name=name,
                one=bool(options["firstresult"]),
                required="Kind: one, required" in text,
                arguments=tuple(inspect.signature(function).parameters),
            )
    return found


def implementations(module: ModuleType) -> dict[str, Mapping[str, Any]]:
    """Return the options of every hook that a module implements, by hook name."""
    manager = pluggy.PluginManager("xfw")
    found: dict[str, Mapping[str, Any]] = {}
    for name in dir(module):
        options = manager.parse_hookimpl_opts(module, name)
        if options is not None:
            found[options.get("specname") or name] = {**options, "function": getattr(module, name)}
    return found


def hooks_of(module: ModuleType) -> tuple[str, ...]:
    """Return the names of the hooks that a module implements."""
    return tuple(sorted(implementations(module)))


def incompatibility(module: ModuleType, package: str) -> str:
    """Return why a module's ``api`` does not fit this version of xfw, with the command to fix it; empty if it does."""
    api = getattr(module, "api", None)
    if not isinstance(api, int):
        return f"it states no hook interface; expected 'api = {API}' in its module"
    if api > API:
        return f"it needs hook interface {api}, this xfw speaks {OLDEST_API} to {API}: pip install --upgrade xfw"
    if api < OLDEST_API:
        return f"it speaks hook interface {api}, this xfw {OLDEST_API} to {API}: pip install --upgrade {package}"
    return ""


def check_hooks(module: ModuleType, kind: str) -> list[Problem]:
    """Return what is wrong with a module's hooks: unknown names and arguments, missing ones, wrong kind."""
    known = specifications()
    implemented = implementations(module)
    problems = []
    for name, options in implemented.items():
        if name not in known:
            problems.append(Problem(f"hook {name}", "unknown hook", did_you_mean(name, known)))
        else:
            problems += check_hook(known[name], options, kind)
    if kind == "experiment":
        missing = [name for name, spec in known.items() if spec.required and name not in implemented]
        problems += [Problem(f"hook {name}", "missing, every experiment needs it") for name in missing]
    return problems


def check_hook(spec: Specification, options: Mapping[str, Any], kind: str) -> list[Problem]:
    """Return what is wrong with one implemented hook."""
    where = f"hook {spec.name}"
    problems = []
    for argument in inspect.signature(options["function"]).parameters:
        if argument not in spec.arguments:
            problems.append(Problem(where, f"unknown argument '{argument}'", did_you_mean(argument, spec.arguments)))
    if kind == "experiment" and (options["wrapper"] or options["hookwrapper"]):
        problems.append(Problem(where, "wraps other hooks, which only extensions may do"))
    if kind == "extension" and spec.one:
        problems.append(Problem(where, "has exactly one answer, which is the experiment's"))
    return problems
