"""``xfw new`` and ``xfw check``: the commands for authors of plugins."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import attrs
import click

from xfw.cli.options import json_option
from xfw.cli.printing import print_json
from xfw.errors import UserError
from xfw.plugins.discovery import NAME, discover, find, normal

__all__ = ["check", "new"]

PLACEHOLDER = "newcomer"


@click.command()
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="Where the folder goes.")
def new(name: str, into: Path) -> None:
    """Write a plugin package in the folder NAME: it can be installed, run and tested as it is."""
    name = normal(name)
    if not NAME.fullmatch(name) or "__" in f"{name}_":
        hint = "begin with a letter; use lower-case letters and digits, with single underscores between words"
        raise UserError(f"'{name}' is no name for a plugin", hint=hint, exit_code=2)
    taken = [info for info in discover() if info.name == name]
    if taken:
        where = f"{taken[0].kind} of {taken[0].distributions[0]}"
        raise UserError(f"there is a plugin '{name}' already, the {where}", hint="choose another name", exit_code=2)
    folder = into / name
    try:
        folder.mkdir(parents=True)
        for path, content in written(files("xfw.plugins") / "template", name):
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content, encoding="utf-8")
            click.echo(str(place))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {folder}: {reason}", hint="choose another place with --into", exit_code=2
        ) from error
    click.echo(f"next: pip install -e {folder} && xfw run {name}\nthen: edit it, and xfw check {name}")


def written(folder: Traversable, name: str, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and content of every file of the template, for a plugin of this name."""
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        place = f"{path}{item.name}"
        if item.is_dir():
            yield from written(item, name, f"{place}/")
        elif place.endswith(".in"):
            yield named(place.removesuffix(".in"), name), named(item.read_text(encoding="utf-8"), name)


def named(text: str, name: str) -> str:
    """Return a text of the template with the plugin's name in place of the placeholder."""
    title = name.replace("_", " ").capitalize()
    words = {"new-comer": name.replace("_", "-"), PLACEHOLDER.capitalize(): title, PLACEHOLDER: name}
    return re.sub("|".join(words), lambda match: words[match[0]], text)


@click.command()
@click.argument("name")
@click.option("--preset", metavar="NAME", help="Configuration that is trained; by default 'quick'.")
@click.option("-s", "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Set a key, as in `xfw run`.")
@json_option
def check(name: str, preset: str | None, overrides: Sequence[str], as_json: bool) -> int:
    """Run the conformance suite on the experiment NAME; exit with 1 if a check fails.

    Everything is trained three trials at a time in a temporary directory; -s can make that shorter.
    """
    from xfw.testing.conformance import CHECKS, Suite, run_checks

    info = find(name, discover())
    if info.kind == "extension":
        hint = f"what is wrong with it: xfw doctor {info.name}"
        raise UserError(f"'{info.name}' is an extension, and the checks are about experiments", hint=hint, exit_code=2)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="xfw-check-") as folder:
        for outcome in run_checks(Suite(info.name, Path(folder), overrides, preset)):
            outcomes.append(outcome)
            if not as_json:
                reason = f": {outcome.reason}" if outcome.reason else ""
                click.echo(f"{outcome.state:<8}{outcome.name:<12}{outcome.claim}{reason}")
    passed = sum(outcome.state == "ok" for outcome in outcomes)
    if as_json:
        checks = [attrs.asdict(outcome) for outcome in outcomes]
        print_json({"schema": 1, "plugin": info.name, "checks": checks})
    else:
        click.echo(f"{info.name}: {passed} of {len(CHECKS)} checks passed")
    return 0 if passed == len(CHECKS) else 1
