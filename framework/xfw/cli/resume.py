"""``xfw resume``: finish what was interrupted."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xfw.cli.options import json_option, per_gpu_option, results_dir_option
from xfw.cli.printing import print_json
from xfw.cli.tracking import chosen_trackers, track_option, tracked
from xfw.errors import UserError
from xfw.store.rundir import RunDir, find_run

if TYPE_CHECKING:
    from xfw.store.claims import BlockState

__all__ = ["resume"]


@click.command()
@click.argument("run")
@click.option("--jobs", type=click.IntRange(min=0), help="Blocks at once; 0: in this process.  [default: as planned]")
@per_gpu_option
@track_option
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    default="",
    metavar="DIR",
    help="Folder of data sets, where the planned one has moved.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@click.option("--allow-version-change", is_flag=True, help="Accept another version of xfw or of the plugin.")
@click.option("--quiet", is_flag=True, help="Print failures and the result only.")
@click.option("--debug", is_flag=True, help="Print tracebacks of expected errors too.")
@json_option
@results_dir_option
def resume(
    run: str,
    jobs: int | None,
    per_gpu: int,
    trackers: tuple[str, ...],
    data_dir: str,
    fail_fast: bool,
    allow_version_change: bool,
    quiet: bool,
    debug: bool,
    as_json: bool,
    results_dir: Path,
) -> int:
    """Continue RUN from its last commits to its end; a finished run stays as it is."""
    del debug  # read from the arguments
    found = RunDir(find_run(results_dir, run).path, data_dir=data_dir)
    code, problem = 0, sealing_problem(found)
    if found.manifest.merged and problem:
        parts = " ".join(part.run for part in found.manifest.merged)
        what = f"run {found.id} was merged, and has lost its results: {problem.what}"
        raise UserError(what, hint=found.command("merge", run=parts), exit_code=2)
    with following(found, trackers):
        if finished(found.block_states()):
            if problem:
                from xfw.store.seal import seal

                seal(found)
        else:
            from xfw.process.supervise import execute

            code = execute(
                found,
                jobs=jobs,
                per_gpu=per_gpu,
                fail_fast=fail_fast,
                quiet=quiet or as_json,
                allow_version_change=allow_version_change,
            )
    report(found, code, as_json)
    return code


def following(run: RunDir, trackers: tuple[str, ...]) -> AbstractContextManager[Any]:
    """Return a context in which trackers follow the run, from where they were."""
    if not trackers:
        return nullcontext()
    from xfw.plugins.registry import load_experiment

    if run.manifest.merged:
        parts = ", ".join(part.run for part in run.manifest.merged)
        raise UserError(f"--track: run {run.id} was merged", hint=f"track its parts: {parts}", exit_code=2)
    experiment = load_experiment(run.manifest.experiment)
    return tracked(run, chosen_trackers(experiment, trackers), experiment)


def sealing_problem(run: RunDir) -> UserError | None:
    """Return why the sealed results cannot be used as they are: missing, out of date, or not what was sealed."""
    from xfw.store.results import open_run

    try:
        open_run(run).close()
    except UserError as error:
        return error
    return None


def finished(states: list[BlockState]) -> bool:
    """Say whether every block is done."""
    return all(each.state == "done" for each in states)


def report(run: RunDir, code: int, as_json: bool) -> None:
    """Print what became of the run."""
    states = [each.state for each in run.block_states()]
    if as_json:
        print_json({"schema": 1, "run": run.id, "path": str(run.path), "blocks": states, "exit_code": code})
    elif run.manifest.merged:
        click.echo(f"{run.id}: merged from finished runs, nothing to do   {run.run_file}")
    else:
        done = states.count("done")
        click.echo(f"{run.id}: {done} of {len(states)} blocks done   {run.run_file}")
