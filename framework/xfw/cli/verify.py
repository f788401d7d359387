"""``xfw verify``: which published numbers the stored runs reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from xfw.cli.options import json_option, results_dir_option
from xfw.cli.printing import print_json
from xfw.errors import UserError

if TYPE_CHECKING:
    from xfw.analysis.verification import Report
    from xfw.experiment import Experiment
    from xfw.store.rundir import RunDir

__all__ = ["verify"]

SCHEMA = 1
STANDARD_OUTPUT = "-"


@click.command()
@click.argument("subject", metavar="RUN|EXPERIMENT")
@click.option("--only", default="", metavar="TEXT", help="Judge the targets whose name holds this text.")
@click.option("--all", "everything", is_flag=True, help="List targets without data too.")
@click.option("--markdown", metavar="FILE", help="Write the table as Markdown; - prints it.")
@json_option
@results_dir_option
def verify(subject: str, only: str, everything: bool, markdown: str | None, as_json: bool, results_dir: Path) -> int:
    """Judge one run (a run id or @last), or all sealed runs of an EXPERIMENT, by the published numbers.

    Exit code 1 only where a target that has data is missed.
    """
    from xfw.analysis.verification import as_data
    from xfw.analysis.verification import verify as judged

    experiment, runs = found(subject, results_dir)
    report = judged(experiment, runs, only)
    code = 1 if report.failed else 0
    if markdown is not None:
        write_markdown(report, markdown, everything)
    if as_json:
        print_json({"schema": SCHEMA, **as_data(report), "exit_code": code})
    elif markdown != STANDARD_OUTPUT:
        print_report(report, everything)
    return code


def found(subject: str, results_dir: Path) -> tuple[Experiment, list[RunDir]]:
    """Return the experiment and the runs to measure, newest first: one run, or all sealed ones of an experiment."""
    from xfw.plugins.discovery import normal
    from xfw.plugins.registry import discover, load_experiment
    from xfw.store.results import open_run
    from xfw.store.rundir import find_run, list_runs

    if normal(subject) in {info.name for info in discover() if info.kind == "experiment"}:
        runs = [run for run in list_runs(results_dir) if run.path.parent.name == normal(subject)]
        return load_experiment(subject), [run for run in reversed(runs) if run.run_file.is_file()]
    run = find_run(results_dir, subject)
    open_run(run).close()  # refuses a run that was never sealed
    return load_experiment(run.manifest.experiment), [run]


def write_markdown(report: Report, place: str, everything: bool) -> None:
    """Write the table as Markdown into a file, or print it."""
    from xfw.analysis.tables import to_markdown
    from xfw.analysis.verification import as_table

    text = to_markdown(as_table(report, everything=everything))
    if place == STANDARD_OUTPUT:
        click.echo(text, nl=False)
        return
    try:
        Path(place).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--markdown {place}: cannot write: {error.strerror}", exit_code=2) from error


def print_report(report: Report, everything: bool) -> None:
    """Print the verdicts for people."""
    from xfw.analysis.tables import to_text
    from xfw.analysis.verdicts import NO_DATA
    from xfw.analysis.verification import as_tables, summary_lines

    for table in as_tables(report, everything=everything):
        click.echo(to_text(table))
    missing = [each.target.name for each in report.of(NO_DATA)]
    if missing and not everything:
        click.echo(f"no data for {len(missing)}: {shortened(missing)}")
    for line in summary_lines(report):
        click.echo(line)


def shortened(names: list[str], most: int = 6) -> str:
    """Return some names, and how to see them all."""
    shown = "; ".join(names[:most])
    return shown if len(names) <= most else f"{shown}; … (--all lists them)"
