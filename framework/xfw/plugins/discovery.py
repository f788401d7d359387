"""Find installed plugins from package metadata alone; nothing is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import attrs

from xfw.errors import UserError, nearest

__all__ = ["EXPERIMENTS", "EXTENSIONS", "PluginInfo", "allowed", "discover", "find", "normal", "unknown"]

EXPERIMENTS = "xfw.experiments"
EXTENSIONS = "xfw.extensions"
KINDS = {EXPERIMENTS: "experiment", EXTENSIONS: "extension"}
NAME = re.compile(r"[a-z][a-z0-9_]*")


@attrs.frozen
class PluginInfo:
    """What the metadata say of a plugin, and its state.

    From metadata alone the state is ``installed`` or ``duplicate``; loading makes it ``ok``, ``broken`` or
    ``incompatible``, and ``error`` says why. ``distributions`` names every package that has this plugin.
    """

    name: str
    kind: str
    module: str
    version: str
    summary: str
    distributions: tuple[str, ...]
    state: str = "installed"
    error: str = ""


def discover() -> list[PluginInfo]:
    """Return all installed plugins, experiments first, by name."""
    found = []
    for group in (EXPERIMENTS, EXTENSIONS):
        by_name: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=group):
            by_name.setdefault(entry.name, []).append(entry)
        found += [described(KINDS[group], by_name[name]) for name in sorted(by_name)]
    return found


def described(kind: str, entries: Sequence[EntryPoint]) -> PluginInfo:
    """Return what the metadata say of the entry points of one name."""
    ordered = sorted(entries, key=distribution)
    first = ordered[0]
    packages = tuple(distribution(entry) for entry in ordered)
    info = PluginInfo(
        name=first.name,
        kind=kind,
        module=first.value,
        version=first.dist.version if first.dist is not None else "",
        summary=(first.dist.metadata["Summary"] or "") if first.dist is not None else "",
        distributions=packages,
    )
    if len(ordered) > 1:
        owners = " and ".join(f"'{package}'" for package in packages)
        return attrs.evolve(info, state="duplicate", error=f"{owners} both have a plugin '{first.name}'")
    if not NAME.fullmatch(first.name):
        error = f"the name '{first.name}' is not allowed, expected lower-case letters, digits and underscores"
        return attrs.evolve(info, state="broken", error=error)
    return info


def distribution(entry: EntryPoint) -> str:
    """Return the name of the package that an entry point belongs to."""
    return entry.dist.name if entry.dist is not None else "unknown"


def normal(name: str) -> str:
    """Return a plugin's name as registered; the command line also takes dashes."""
    return name.replace("-", "_")


def allowed(name: str) -> bool:
    """Say whether ``XFW_PLUGINS`` lets a plugin load; where it is not set, all may."""
    listed = os.environ.get("XFW_PLUGINS")
    return listed is None or name in {normal(part.strip()) for part in listed.split(",")}


def find(name: str, plugins: Sequence[PluginInfo], kind: str = "plugin") -> PluginInfo:
    """Return the plugin of a name; raise ``UserError`` with the nearest ones where there is none."""
    for plugin in plugins:
        if plugin.name == normal(name):
            return plugin
    raise unknown(name, kind, [plugin.name for plugin in plugins])


def unknown(name: str, kind: str, known: Sequence[str]) -> UserError:
    """Return the error of a name that no plugin or named run has."""
    close = nearest(name, known)
    if close:
        hint = f"did you mean {' or '.join(repr(one) for one in close)}?   all: xfw list-plugins"
    elif known:
        hint = f"known: {', '.join(known)}"
    else:
        hint = "no plugin is installed; those that ship with xfw: pip install ./plugins/NAME"
    return UserError(f"unknown {kind} '{name}'", hint=hint, exit_code=2)
