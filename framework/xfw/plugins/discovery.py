"""Find installed plugins from package metadata alone; nothing is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path

import attrs

from xfw.errors import UserError, nearest, shortened

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
    """Return all installed plugins, experiments first, by name; entries of damaged packages come after the others."""
    entries: dict[tuple[str, str], list[tuple[EntryPoint, Distribution]]] = {}
    damaged: list[PluginInfo] = []
    seen: set[str] = set()
    for package in distributions():
        try:
            listed = package.read_text("entry_points.txt") or ""
        except (OSError, UnicodeDecodeError):
            continue
        # Few packages name a group of ours: the others' metadata are not looked at.
        if not any(group in listed for group in KINDS):
            continue
        folder, fault = _fault(package)
        name = "" if fault else normal(package.metadata["Name"]).lower()
        if fault:
            damaged += _damaged(folder, fault, listed)
        elif name not in seen:
            seen.add(name)
            for entry in package.entry_points:
                if entry.group in KINDS:
                    entries.setdefault((entry.group, entry.name), []).append((entry, package))
    return [*(_described(KINDS[group], entries[group, name]) for group, name in sorted(entries)), *damaged]


def _fault(package: Distribution) -> tuple[str, str]:
    """Return the folder of a package's metadata, and what is wrong with them (nothing: empty)."""
    folder = str(getattr(package, "_path", "an unknown folder"))
    if Path(folder).name.startswith("~"):
        return folder, f"{folder} is left over from an uninstallation that was cut short: remove that folder"
    try:
        complete = package.metadata["Name"] and package.version
        list(package.entry_points)
    except (AttributeError, KeyError, TypeError, ValueError, OSError):
        complete = None
    repair = "reinstall the package that it belongs to, or remove that folder"
    return folder, "" if complete else f"the metadata in {folder} are incomplete or damaged: {repair}"


def _damaged(folder: str, fault: str, listed: str) -> list[PluginInfo]:
    """Return the plugins that a package with damaged metadata names, as far as its list can be read."""
    found, group = [], ""
    for line in listed.splitlines():
        name, _, module = (part.strip() for part in line.partition("="))
        if line.startswith("["):
            group = line.strip("[] \t")
        elif group in KINDS and name and not name.startswith(("#", ";")):
            found.append(PluginInfo(name, KINDS[group], module, "", "", (Path(folder).name,), "broken", fault))
    return found


def _described(kind: str, entries: Sequence[tuple[EntryPoint, Distribution]]) -> PluginInfo:
    """Return what the metadata say of the entry points of one name."""
    ordered = sorted(entries, key=lambda pair: str(pair[1].metadata["Name"]))
    entry, package = ordered[0]
    info = PluginInfo(
        name=entry.name,
        kind=kind,
        module=entry.value,
        version=package.version,
        summary=package.metadata["Summary"] or "",
        distributions=tuple(str(other.metadata["Name"]) for _, other in ordered),
    )
    if len(ordered) > 1:
        owners = " and ".join(f"'{name}'" for name in info.distributions)
        return attrs.evolve(info, state="duplicate", error=f"{owners} both have a plugin '{entry.name}'")
    if not NAME.fullmatch(entry.name):
        error = f"the name '{entry.name}' is not allowed, expected lower-case letters, digits and underscores"
        return attrs.evolve(info, state="broken", error=error)
    return info


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
    return UserError(f"unknown {kind} '{shortened(name)}'", hint=hint, exit_code=2)
