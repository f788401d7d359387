"""``xfw data``: list, describe, fetch and check data sets."""

from __future__ import annotations

from typing import Any

import click

from xfw.cli.options import json_option
from xfw.cli.printing import print_json
from xfw.data.images import NamedSet
from xfw.data.sources import DATA_SETS, Sources, cache_dir, check_data_dir, named_set
from xfw.errors import WrongInput

__all__ = ["data"]

data_dir_option = click.option("--data-dir", metavar="DIR", help="Folder of data sets; others are not searched.")


@click.group()
def data() -> None:
    """List, describe, fetch and check data sets."""


@data.command("list")
@data_dir_option
@json_option
def list_command(data_dir: str | None, as_json: bool) -> None:
    """List the data sets and where each was found."""
    sources = Sources(data_dir)
    rows = []
    for chosen in DATA_SETS.values():
        described = chosen.describe()
        summary = {key: described[key] for key in ("name", "summary", "embedded", "licence", "train", "test")}
        rows.append({**summary, "found": "embedded" if chosen.embedded else str(sources.find(chosen.name) or "")})
    if as_json:
        print_json({"schema": 1, "data": rows})
        return
    for row in rows:
        click.echo(f"{row['name']:<10} {row['found'] or 'not here':<12} {row['summary']}")


@data.command()
@click.argument("name")
@json_option
def describe(name: str, as_json: bool) -> None:
    """Show origin, licence, sizes, options and files of a data set."""
    described = named_set(name).describe()
    if as_json:
        print_json({"schema": 1, "data": [described]})
        return
    for key, value in described.items():
        if key != "files":
            click.echo(f"{key:<9} {_text(value)}")
    for file in described["files"]:
        click.echo(f"file      {file['path']}  {file['bytes']:,} bytes  MD5 {file['md5']}")


@data.command()
@click.argument("name")
@click.option("--data-dir", metavar="DIR", help="Folder to download into; default: the user's cache.")
def fetch(name: str, data_dir: str | None) -> None:
    """Download a data set and verify it."""
    chosen = named_set(name)
    if chosen.fetch is None:
        click.echo(f"{name} is embedded: nothing to fetch")
        return
    target = check_data_dir(data_dir) or cache_dir()
    if not all(file.places(target) for file in chosen.files):
        chosen.fetch(target)
    for file in chosen.files:
        file.read(target)
    click.echo(f"{name}: complete and verified in {target}")


@data.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@data_dir_option
@json_option
def check(names: tuple[str, ...], data_dir: str | None, as_json: bool) -> None:
    """Verify the checksums of data sets; a damaged one, or a named one that is missing, gives exit code 2."""
    sources = Sources(data_dir)
    rows = [_state(sources, named_set(name)) for name in names or DATA_SETS]
    if as_json:
        print_json({"schema": 1, "data": rows})
    else:
        for row in rows:
            click.echo(f"{row['name']:<10} {row['state']:<9} {row['detail']}")
    bad = [row for row in rows if row["state"] == "damaged" or (names and row["state"] == "missing")]
    if bad:
        raise WrongInput(f"{len(bad)} of {len(rows)} data sets cannot be used: {', '.join(row['name'] for row in bad)}")


def _state(sources: Sources, chosen: NamedSet) -> dict[str, Any]:
    if chosen.embedded:
        return {"name": chosen.name, "state": "ok", "detail": "embedded"}
    folder = sources.find(chosen.name)
    if folder is None:
        searched = ", ".join(map(str, sources.folders()))
        return {"name": chosen.name, "state": "missing", "detail": f"searched: {searched}"}
    try:
        for file in chosen.files:
            file.read(folder)
    except WrongInput as error:
        return {"name": chosen.name, "state": "damaged", "detail": error.what}
    return {"name": chosen.name, "state": "ok", "detail": str(folder)}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {text}" for key, text in value.items()) or "none"
    if isinstance(value, list):
        return "×".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
