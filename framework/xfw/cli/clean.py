"""``xfw clean``: remove runs, after saying which."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from xfw.cli.options import json_option, results_dir_option
from xfw.cli.printing import print_json
from xfw.errors import UserError
from xfw.store.rundir import MANIFEST, RunDir, find_run, list_runs

__all__ = ["clean"]


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN]...")
@click.option("--all", "everything", is_flag=True, help="Remove every run.")
@click.option("--dry-run", is_flag=True, help="List what would be removed, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@results_dir_option
def clean(names: tuple[str, ...], everything: bool, dry_run: bool, yes: bool, as_json: bool, results_dir: Path) -> int:
    """Remove each RUN (a run id, @last, or an experiment: its newest run) with all that it stores."""
    found = chosen(names, everything, results_dir)
    sizes = {run.path: nbytes(run.path) for run in found}
    if as_json and not (dry_run or yes):
        raise UserError("--json cannot ask", hint="add --dry-run or --yes", exit_code=2)
    if not as_json:
        for path, size in sizes.items():
            click.echo(f"{path}  {size:,} bytes")
        click.echo(f"total: {len(sizes)} {'run' if len(sizes) == 1 else 'runs'}, {sum(sizes.values()):,} bytes")
    removed = bool(found) and not dry_run and (yes or click.confirm("Remove them?", default=False))
    if removed:
        for run in found:
            remove(run)
    if as_json:
        entries = [{"path": str(path), "bytes": size} for path, size in sizes.items()]
        print_json({"schema": 1, "runs": entries, "total": sum(sizes.values()), "removed": removed})
    return 0


def chosen(names: Sequence[str], everything: bool, results_dir: Path) -> list[RunDir]:
    """Return the runs to remove, each once; a run at work is refused."""
    if everything == bool(names):
        raise UserError("say which runs to remove", hint="RUN..., or --all for every run", exit_code=2)
    found = list_runs(results_dir) if everything else [find_run(results_dir, name) for name in names]
    unique = list({run.path: run for run in found}.values())
    for run in unique:
        refuse_running(run)
    return unique


def refuse_running(run: RunDir) -> None:
    """Raise UserError where a process is at work on the run: on a block, between two, or about to start."""
    from xfw.store.claims import at_work

    if owner := at_work(run.path):
        raise UserError(f"run {run.id} is being run by {owner}", hint="stop it first, or wait", exit_code=2)


def nbytes(directory: Path) -> int:
    """Return the size of all files below a directory; links count as themselves."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_symlink() or path.is_file())


def remove(run: RunDir) -> None:
    """Remove a run's directory; its ``run.toml`` goes last, so that a removal cut short can be repeated."""
    try:
        for path in run.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != MANIFEST:
                path.unlink()
        (run.path / MANIFEST).unlink()
        run.path.rmdir()
    except OSError as error:
        raise UserError(f"cannot remove {run.path}: {error.strerror or error}") from error
