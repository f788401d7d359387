"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["as_is", "as_is_option", "json_option", "per_gpu_option", "results_dir_option"]

AS_IS = "xfw.as_is"


def as_is() -> bool:
    """Say whether the running command is to read sealed results as they are."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(AS_IS))


as_is_option = click.option(
    "--as-is",
    is_flag=True,
    expose_value=False,
    callback=lambda context, _, value: context.meta.update({AS_IS: value}),
    help="Read run.h5 although it is out of date, or is not the file that was sealed.",
)
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
