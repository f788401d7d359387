"""The shared analyzer ``summary``: location and spread of every metric in every condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from xfw.analysis import samples, statistics
from xfw.analysis.output import Output
from xfw.analysis.tables import Column, Table
from xfw.config.keys import key
from xfw.experiment import Metric
from xfw.store.results import Results

__all__ = ["Options", "analyse", "table"]


@attrs.frozen
class Options:
    """What is summarised, and how."""

    metric: tuple[str, ...] | None = key(None, help="metrics to summarise; default: all")
    confidence: float = key(0.95, gt=0, lt=1, help="level of the confidence interval of the mean")
    ddof: int = key(1, ge=0, le=1, help="the standard deviation has the divisor n - ddof")


def analyse(results: Results, options: Options, output: Output, metrics: Sequence[Metric]) -> None:
    """Print and write the summary table."""
    output.table("summary", table(results, samples.chosen(samples.scalar(metrics), options.metric, results), options))


def table(results: Results, metrics: Sequence[Metric], options: Options) -> Table:
    """Return one row for each metric and condition."""
    rows: list[tuple[Any, ...]] = []
    for metric in metrics:
        values_T = metric.compute(results)
        for group in samples.groups_of(results):
            found = statistics.summarise(values_T[group.positions], confidence=options.confidence, ddof=options.ddof)
            numbers = (found.n, found.mean, found.sd, found.sem, found.low, found.high, found.minimum, found.maximum)
            rows.append((metric.name, *samples.condition_columns(results, group), metric.unit, *numbers))
    return Table(
        columns=_columns(results, options),
        rows=tuple(rows),
        caption=f"{results.run}: summary over trials",
        label=f"tab:{results.experiment}-summary",
        notes=_notes(results, options),
    )


def _columns(results: Results, options: Options) -> tuple[Column, ...]:
    conditions = [Column(axis, axis) for axis in results.telling_axes] or [Column("condition", "condition")]
    percent = f"{100 * options.confidence:g} %"
    form = ".2f"
    return (
        Column("metric", "metric"),
        *conditions,
        Column("unit", "unit"),
        Column("n", "n", form="d"),
        Column("mean", "mean", form=form),
        Column(f"sd_ddof{options.ddof}", "SD", form=form),
        Column("sem", "SEM", form=form),
        Column("ci_low", f"{percent} CI low", form=form),
        Column("ci_high", f"{percent} CI high", form=form),
        Column("min", "min", form=form),
        Column("max", "max", form=form),
    )


def _notes(results: Results, options: Options) -> tuple[str, ...]:
    said = f"SD with divisor {'n - 1' if options.ddof else 'n'}; SEM and t interval of the mean rest on n - 1."
    unfinished = [status for status in results.status if status != "done"]
    if not unfinished:
        return (said,)
    return (
        said,
        f"{len(unfinished)} of {len(results.status)} trials are not done: {', '.join(sorted(set(unfinished)))}.",
    )
