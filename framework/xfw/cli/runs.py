"""``xfw runs`` and ``xfw show``: what is stored, and how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from xfw.cli.options import as_is, as_is_option, json_option, results_dir_option
from xfw.cli.printing import print_json, print_table
from xfw.errors import UserError
from xfw.manifest import Manifest, flatten
from xfw.manifest import show as show_value
from xfw.store import proof
from xfw.store.claims import BlockState, supervisors
from xfw.store.rundir import RunDir, find_run, list_runs

__all__ = ["describe", "runs", "show"]

SCHEMA = 1
MOST_URGENT_FIRST = ("running", "lost", "failed", "refused", "interrupted", "pending", "done")


@click.command()
@click.argument("experiment", required=False)
@json_option
@results_dir_option
def runs(experiment: str | None, as_json: bool, results_dir: Path) -> None:
    """List the stored runs, newest first; of one EXPERIMENT if it is named."""
    found = list_runs(results_dir)
    if experiment is not None:
        wanted = find_run(results_dir, experiment).path.parent
        found = [run for run in found if run.path.parent == wanted]
    entries = [describe_safely(run) for run in reversed(found)]
    if as_json:
        print_json({"schema": SCHEMA, "runs": entries})
    elif entries:
        print_table(("run", "preset", "conditions", "trials", "state", "sealed"), [runs_row(each) for each in entries])
        for entry in entries:
            if "error" in entry:
                click.echo(f"{entry['run']}: {entry['error']}")
    else:
        click.echo(f"there are no runs in {results_dir}")


@click.command()
@click.argument("run")
@as_is_option
@json_option
@results_dir_option
def show(run: str, as_json: bool, results_dir: Path) -> None:
    """Show one RUN: configuration with provenance, blocks, attempts, failures, and what is stored."""
    found = find_run(results_dir, run)
    content = describe(found) | details(found)
    if as_json:
        print_json({"schema": SCHEMA, **content})
        return
    print_run(found, content)


def describe(run: RunDir) -> dict[str, Any]:
    """Return what a list says of a run."""
    manifest, states, sealed = run.manifest, run.block_states(), run.run_file.exists()
    done = sum(len(block.members) for block, each in zip(manifest.blocks, states, strict=True) if each.state == "done")
    return {
        "run": run.id,
        "experiment": manifest.experiment,
        "preset": manifest.preset,
        "created": manifest.created,
        "state": "running" if supervisors(run.path) else overall(states),
        "conditions": len(manifest.conditions),
        "trials": len(manifest.members()),
        "done": done,
        "sealed": sealed,
        "stale": sealed and not as_is() and proof.is_stale(run, proof.check(run.run_file, quick=True)),
        "path": str(run.path),
    }


def describe_safely(run: RunDir) -> dict[str, Any]:
    """Return what a list says of a run; a damaged one is listed as such."""
    try:
        return describe(run)
    except UserError as error:
        return {"run": run.id, "experiment": run.path.parent.name, "state": "damaged", "error": str(error)}


def overall(states: Sequence[BlockState]) -> str:
    """Return the state of a run: the most urgent one of its blocks."""
    present = {each.state for each in states}
    return next((state for state in MOST_URGENT_FIRST if state in present), "pending")


def runs_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the list says of one run."""
    trials = f"{entry['done']}/{entry['trials']}" if "trials" in entry else ""
    sealed = "out of date" if entry.get("stale") else {True: "yes", False: "no"}.get(entry.get("sealed", ""), "")
    return entry["run"], entry.get("preset", ""), str(entry.get("conditions", "")), trials, entry["state"], sealed


def details(run: RunDir) -> dict[str, Any]:
    """Return what only ``show`` says of a run."""
    import attrs

    manifest, states = run.manifest, run.block_states()
    return {
        "seed": manifest.seed,
        "command": list(manifest.command),
        "source": attrs.asdict(manifest.source) if manifest.source else None,
        "merged": [attrs.asdict(part) for part in manifest.merged],
        "versions": dict(manifest.versions),
        "execution": attrs.asdict(manifest.execution),
        "config": dict(manifest.config),
        "provenance": dict(manifest.provenance),
        "axes": list(manifest.axes),
        "condition_values": [dict(condition.values) for condition in manifest.conditions],
        "blocks": [block_entry(run, states, index) for index in range(len(manifest.blocks))],
        **stored_streams(run),
    }


def block_entry(run: RunDir, states: Sequence[BlockState], index: int) -> dict[str, Any]:
    """Return what there is to say of one block."""
    plan, found = run.manifest.blocks[index], states[index]
    return {
        "block": plan.index,
        "state": found.state,
        "attempts": found.attempts,
        "trials": len(plan.members),
        "strategy": plan.strategy,
        "ran": ran(run, index),
        "width": plan.width,
        "owner": found.owner if found.claim else "",
        "reason": found.end.reason if found.end else "",
    }


def ran(run: RunDir, index: int) -> str:
    """Return how a block's steps have been run up to its last commit; empty where that cannot be read."""
    from xfw.store.contents import strategy_of
    from xfw.store.state import load_layout

    try:
        return strategy_of(load_layout(run.block_dir(index)))
    except UserError:
        return ""


def stored_streams(run: RunDir) -> dict[str, Any]:
    """Return the streams of the sealed file with their variables, and why it cannot be used as it is, if so."""
    if not run.run_file.exists():
        return {"streams": [], "problem": ""}
    from xfw.store.results import open_run

    try:
        with open_run(run, as_is=as_is()) as results:
            streams = [
                {"stream": name, "rows": int(results.count(name).max()), "variables": results.variables(name)}
                for name in results.streams()
            ]
    except UserError as error:
        return {"streams": [], "problem": str(error)}
    return {"streams": streams, "problem": ""}


def print_run(run: RunDir, content: Mapping[str, Any]) -> None:
    """Print a run for people."""
    for name in ("run", "state", "preset", "created", "seed", "path"):
        several = name == "seed" and content[name] < 0
        click.echo(f"{name:<11}{'several' if several else content[name]}")
    click.echo(f"{'trials':<11}{content['done']} of {content['trials']} done")
    if content["merged"]:
        click.echo(f"{'merged':<11}{', '.join(part['run'] for part in content['merged'])}")
    if content["source"]:
        click.echo(f"{'from':<11}{content['source']['run']}")
    click.echo(f"{'command':<11}{' '.join(content['command'])}")
    click.echo()
    print_table(("key", "value", "from"), config_rows(run.manifest), caption="configuration")
    click.echo()
    print_blocks(content["blocks"])
    if content["problem"]:
        click.echo(f"results: {content['problem']}")
    for stream in content["streams"]:
        click.echo(f"stream {stream['stream']}: {stream['rows']} rows of {', '.join(stream['variables'])}")


def config_rows(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Return the configuration with the origin of every value; of swept keys, all values."""
    values = flatten(manifest.config)
    rows = [(path, show_value(value), manifest.provenance.get(path, "")) for path, value in values.items()]
    for axis in manifest.axes:
        choices = dict.fromkeys(show_value(condition.values.get(axis)) for condition in manifest.conditions)
        origin = manifest.provenance.get(axis, "")
        rows.append((axis, ", ".join(choices), origin if axis in manifest.telling_axes else f"{origin}, follows"))
    return rows


def print_blocks(blocks: Sequence[Mapping[str, Any]]) -> None:
    """Print the blocks after a count: every one up to 20, else those that are not done."""
    counts = Counter(block["state"] for block in blocks)
    click.echo("blocks: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    names = ("block", "trials", "strategy", "state", "attempts", "reason")
    shown = [block for block in blocks if len(blocks) <= 20 or block["state"] != "done"]
    if shown:
        rows = [dict(block) | {"strategy": block["ran"] or f"{block['strategy']}, planned"} for block in shown]
        print_table(names, [[str(row[name]) for name in names] for row in rows])
