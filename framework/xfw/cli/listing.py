"""``xfw list-plugins`` and ``xfw doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from xfw.cli.options import json_option
from xfw.cli.printing import print_json, print_table
from xfw.plugins.discovery import allowed, discover, find
from xfw.plugins.registry import Loaded, PluginInfo, probe

__all__ = ["doctor", "list_plugins"]


@click.command("list-plugins")
@click.option("--hooks", is_flag=True, help="Import the plugins; show their hooks and import times.")
@click.option("--strict", is_flag=True, help="Import the plugins; exit with 1 if any of them is not in order.")
@json_option
def list_plugins(hooks: bool, strict: bool, as_json: bool) -> int:
    """List the installed plugins: name, version, kind, state, summary.

    Without --hooks and --strict nothing is imported, and the state is 'installed' or 'duplicate'.
    """
    found = discover()
    loaded = [probe(info, whole=True) if (hooks or strict) and allowed(info.name) else Loaded(info) for info in found]
    if as_json:
        print_json({"schema": 1, "plugins": [described(one, hooks) for one in loaded]})
    elif not loaded:
        click.echo("no plugin is installed; those that ship with xfw: pip install ./plugins/NAME")
    else:
        print_listing(loaded, hooks)
    return 1 if strict and any(one.info.state not in ("ok", "installed") for one in loaded) else 0


def described(loaded: Loaded, hooks: bool) -> dict[str, Any]:
    """Return a plugin as JSON holds it."""
    info = loaded.info
    entry: dict[str, Any] = {
        "name": info.name,
        "version": info.version,
        "kind": info.kind,
        "state": info.state,
        "summary": info.summary,
        "module": info.module,
        "distributions": list(info.distributions),
        "error": info.error,
    }
    if hooks:
        entry |= {"hooks": list(loaded.hooks), "import_seconds": {k: round(v, 4) for k, v in loaded.seconds.items()}}
    return entry


def import_times(loaded: Loaded) -> str:
    """Return how long a plugin's modules took to import."""
    return ", ".join(f"{home} {seconds * 1e3:.0f} ms" for home, seconds in loaded.seconds.items())


def print_listing(plugins: Sequence[Loaded], hooks: bool) -> None:
    """Print the table of plugins, and below it what is wrong with some."""
    rows = []
    for one in plugins:
        info = one.info
        extra = (import_times(one), ", ".join(one.hooks)) if hooks else ()
        rows.append((info.name, info.version, info.kind, info.state, info.summary, *extra))
    print_table(("name", "version", "kind", "state", "summary", *(("import", "hooks") if hooks else ())), rows)
    for one in plugins:
        info = one.info
        if info.error:
            click.echo(f"{info.name} is {info.state}: {info.error.splitlines()[0]}   all of it: xfw doctor {info.name}")


@click.command()
@click.argument("name")
def doctor(name: str) -> int:
    """Import a plugin and say all that is wrong with it; exit with 1 if it cannot be used."""
    plugins = discover()
    chosen = find(name, plugins)
    loaded = probe(chosen, strict=False, whole=True)
    info = loaded.info
    click.echo(f"plugin        {info.name} ({info.kind})")
    click.echo(f"distribution  {', '.join(info.distributions)} {info.version}")
    click.echo(f"module        {info.module}")
    click.echo(f"state         {info.state}")
    if not allowed(info.name):
        click.echo("              left out by XFW_PLUGINS")
    for other in plugins:
        if other.name == info.name and other is not chosen:
            click.echo(f"also there    {other.error}")
    if info.state == "ok":
        click.echo(f"hooks         {', '.join(loaded.hooks)}")
        click.echo(f"import        {import_times(loaded)}")
        return 0
    click.echo(f"\n{info.error}")
    if loaded.traceback:
        click.echo(f"\n{loaded.traceback.rstrip()}")
    click.echo(f"\n{remedy(info)}")
    return 1


def remedy(info: PluginInfo) -> str:
    """Return what a user can do about a plugin that is not in order."""
    if info.state == "duplicate":
        return "uninstall all but one of them: " + " or ".join(f"pip uninstall {each}" for each in info.distributions)
    if info.state == "incompatible":
        return "what is said above makes the plugin fit this xfw"
    if not info.version:
        return "no other plugin is touched by that"
    return f"reinstall or update it: pip install --upgrade {info.distributions[0]}; else tell its authors"
