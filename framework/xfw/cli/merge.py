"""``xfw merge``: one run out of several."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from xfw.cli.options import json_option, results_dir_option
from xfw.cli.printing import print_json
from xfw.store.rundir import find_run
from xfw.terminal import counted

__all__ = ["merge"]


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@json_option
@results_dir_option
def merge(runs: tuple[str, ...], as_json: bool, results_dir: Path) -> None:
    """Join finished runs of one experiment into a new one; each RUN stays as it is.

    Keys in which their configurations differ become swept keys. The same trial twice is refused.
    """
    found = [find_run(results_dir, run) for run in runs]
    from xfw.store.merge import merge as joined

    made = joined(found, results_dir, ("xfw", *sys.argv[1:]))
    manifest = made.manifest
    trials, conditions = len(manifest.members()), len(manifest.conditions)
    if as_json:
        content = {"schema": 1, "run": made.id, "path": str(made.path), "trials": trials, "conditions": conditions}
        print_json({**content, "merged": [part.run for part in manifest.merged]})
        return
    parts = f"{counted(trials, 'trial')} in {counted(conditions, 'condition')}, of {len(manifest.merged)} runs"
    click.echo(f"run {made.id}: {parts}")
    click.echo(f"{made.id}: done   {made.run_file}")
    click.echo(f"next: {made.command('analyze')}")
