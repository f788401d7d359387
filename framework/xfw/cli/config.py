"""``xfw config``: every key of an experiment with its value, origin, default and meaning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from xfw.cli.options import json_option
from xfw.cli.printing import print_json, print_table
from xfw.cli.subject import find_subject, shipped_runs
from xfw.config.keys import Key, describe_type, schema_of
from xfw.config.resolve import Resolved, resolve
from xfw.experiment import Experiment
from xfw.manifest import frozen, show
from xfw.plugins.discovery import discover, find

__all__ = ["config"]


@click.command()
@click.argument("name")
@click.option("--preset", metavar="NAME", help="Named configuration; by default 'quick'.")
@click.option("-s", "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Set a key, as in `xfw run`.")
@json_option
def config(name: str, preset: str | None, overrides: Sequence[str], as_json: bool) -> None:
    """Show every key of the experiment or named run NAME: value, origin, default, unit, meaning."""
    subject = find_subject(name, Path.cwd())
    resolved = resolve(subject.experiment, preset=preset, overrides=overrides, named=subject.named)
    if as_json:
        print_json(as_data(subject.experiment, resolved))
    else:
        print_config(subject.experiment, resolved)
        for run in shipped_runs([find(subject.experiment.name, discover())]).values():
            click.echo(f"named run {run.name}: {run.help}")


def shown_keys(experiment: Experiment) -> list[Key]:
    """Return the keys that users are shown."""
    return [key for key in schema_of(experiment.config_class).keys.values() if not key.info.hidden]


def values_of(resolved: Resolved) -> dict[str, list[Any]]:
    """Return the distinct values of every key over the conditions."""
    distinct: dict[str, dict[Any, Any]] = {path: {} for path in resolved.provenance}
    for path, values in distinct.items():
        for flat in resolved.flat:
            values.setdefault(frozen(flat.get(path)), flat.get(path))
    return {path: list(values.values()) for path, values in distinct.items()}


def as_data(experiment: Experiment, resolved: Resolved) -> dict[str, Any]:
    """Return a resolved configuration as JSON holds it."""
    values = values_of(resolved)
    return {
        "schema": 1,
        "experiment": experiment.name,
        "version": experiment.version,
        "preset": resolved.preset,
        "presets": [
            {"name": name, "help": preset.help, "trials": preset.trials}
            for name, preset in experiment.presets().items()
        ],
        "trials": resolved.trials,
        "conditions": len(resolved.conditions),
        "config_hash": resolved.config_hash,
        "keys": [key_data(key, values[key.path], resolved) for key in shown_keys(experiment)],
    }


def key_data(key: Key, values: list[Any], resolved: Resolved) -> dict[str, Any]:
    """Return one key as JSON holds it."""
    return {
        "key": key.path,
        "values": values,
        "origin": resolved.provenance[key.path],
        "default": None if key.required else key.default,
        "required": key.required,
        "type": describe_type(key.kind),
        "unit": key.info.unit,
        "bounds": key.info.bounds(),
        "choices": None if key.info.choices is None else list(key.info.choices),
        "per_trial": key.info.per_trial,
        "aliases": list(key.info.alias),
        "help": key.info.help,
    }


def print_config(experiment: Experiment, resolved: Resolved) -> None:
    """Print the table of keys, and below it the presets."""
    preset = f", preset {resolved.preset}" if resolved.preset else ""
    values = values_of(resolved)
    rows = []
    for key in shown_keys(experiment):
        value = ", ".join(show(each) for each in values[key.path])
        default = "required" if key.required else show(key.default)
        meaning = f"{key.info.help} ({key.expected()})"
        rows.append((key.path, value, resolved.provenance[key.path], default, meaning))
    caption = f"{experiment.name} {experiment.version}{preset}"
    print_table(("key", "value", "origin", "default", "meaning (what is expected)"), rows, caption=caption)
    click.echo()
    for name, each in experiment.presets().items():
        click.echo(f"preset {name}: {each.help}")
    for warning in resolved.warnings:
        click.echo(warning, err=True)
