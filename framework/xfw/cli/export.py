"""``xfw export``: the results of a run as CSV, JSON, Parquet or HDF5 for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from xfw.cli.options import as_is, as_is_option, json_option, results_dir_option
from xfw.cli.printing import print_json
from xfw.store.rundir import find_run

__all__ = ["export"]


@click.command()
@click.argument("run")
@click.option(
    "--format",
    "name",
    type=click.Choice(("csv", "json", "parquet", "h5")),
    required=True,
    help="csv and parquet: one table per stream and one of trials; h5: the sealed file, readable as netCDF.",
)
@click.option(
    "-o", "directory", type=click.Path(path_type=Path), metavar="DIR", help="Default: the run's report folder."
)
@as_is_option
@json_option
@results_dir_option
def export(run: str, name: str, directory: Path | None, as_json: bool, results_dir: Path) -> None:
    """Write the results of RUN in another format, and print the paths."""
    found = find_run(results_dir, run)
    from xfw.store.export import write

    paths = write(found, name, directory or found.report_dir, as_is=as_is())
    if as_json:
        print_json({"schema": 1, "run": found.id, "format": name, "files": [str(path) for path in paths]})
    else:
        for path in paths:
            click.echo(str(path))
