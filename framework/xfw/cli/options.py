"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["json_option", "per_gpu_option", "results_dir_option"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print data as JSON.")
per_gpu_option = click.option(
    "--per-gpu", type=click.IntRange(min=1), default=1, show_default=True, help="Blocks that share a GPU."
)
results_dir_option = click.option(
    "--results-dir",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    metavar="DIR",
    help="Where runs are stored.",
)
