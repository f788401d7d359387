"""The shared analyzer ``compare``: differences between conditions of a run, or between runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis import samples, statistics
from xfw.analysis.output import Output
from xfw.analysis.samples import Group
from xfw.analysis.statistics import Difference
from xfw.analysis.tables import Column, Table
from xfw.config.keys import key
from xfw.errors import WrongInput, did_you_mean
from xfw.experiment import Metric
from xfw.store.results import Results

__all__ = ["Options", "Pair", "analyse", "available", "between_runs", "difference", "within_run"]


@attrs.frozen
class Options:
    """What is compared with what."""

    metric: tuple[str, ...] | None = key(None, help="metrics to compare; default: all")
    baseline: str | None = key(None, help="condition that the others are compared with; default: the first")
    confidence: float = key(0.95, gt=0, lt=1, help="level of the interval of the difference")


@attrs.frozen(eq=False)
class Pair:
    """Two groups to compare, first minus second, each with the results that it is part of."""

    first: tuple[Results, Group]
    second: tuple[Results, Group]


def available(results: Results) -> str:
    """Say why there is nothing to compare; empty where there is."""
    return "" if len(samples.groups_of(results)) > 1 else "the run has one condition"


def analyse(results: Results, options: Options, output: Output, metrics: Sequence[Metric]) -> None:
    """Print and write the comparison of every condition with the baseline."""
    output.table("compare", _table(within_run(results, options.baseline), metrics, options, [results]))


def compare_runs(runs: Sequence[Results], options: Options, output: Output, metrics: Sequence[Metric]) -> None:
    """Print and write the comparison of each run with the first one, condition by condition."""
    output.table("compare", _table(between_runs(runs, options.baseline), metrics, options, runs))


def within_run(results: Results, baseline: str | None) -> list[Pair]:
    """Return every condition paired with the baseline."""
    groups = samples.groups_of(results)
    reference = _named(groups, baseline)
    return [Pair((results, group), (results, reference)) for group in groups if group is not reference]


def between_runs(runs: Sequence[Results], baseline: str | None) -> list[Pair]:
    """Return the conditions of the later runs, each paired with its equal in the first run, or with the baseline."""
    references = samples.groups_of(runs[0])
    equal = {group.label: group for group in references} if baseline is None and runs[0].axes else {}
    reference = _named(references, baseline)
    return [
        Pair((later, group), (runs[0], equal.get(group.label, reference)))
        for later in runs[1:]
        for group in samples.groups_of(later)
    ]


def _named(groups: Sequence[Group], name: str | None) -> Group:
    if not groups:
        raise WrongInput("the run has no trials")
    if name is None:
        return groups[0]
    known = {group.label: group for group in groups}
    if name not in known:
        raise WrongInput(f"$.baseline: unknown condition '{name}'", hint=did_you_mean(name, known))
    return known[name]


def difference(pair: Pair, metric: Metric, confidence: float) -> Difference:
    """Compare two groups: by trial where both have the same trials with equal random keys, else by Welch's test."""
    values = [metric.compute(results)[group.positions] for results, group in (pair.first, pair.second)]
    shared = _shared_trials(pair.first[1], pair.second[1])
    if shared is None:
        return statistics.welch_difference(*values, confidence=confidence)
    first, second = (each[positions] for each, positions in zip(values, shared, strict=True))
    return statistics.paired_difference(first, second, confidence=confidence)


def _shared_trials(first: Group, second: Group) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the places of the trials with equal index and key; None unless one group has all of the other's."""
    mine = {pair: place for place, pair in enumerate(zip(first.trials, first.keys, strict=True))}
    theirs = {pair: place for place, pair in enumerate(zip(second.trials, second.keys, strict=True))}
    both = [pair for pair in mine if pair in theirs]
    if not both or len(both) < min(len(mine), len(theirs)):
        return None
    return np.array([mine[pair] for pair in both]), np.array([theirs[pair] for pair in both])


def _table(pairs: Sequence[Pair], metrics: Sequence[Metric], options: Options, runs: Sequence[Results]) -> Table:
    several = len(runs) > 1
    rows: list[tuple[Any, ...]] = []
    for metric in samples.chosen(samples.scalar(metrics), options.metric):
        found = [difference(pair, metric, options.confidence) for pair in pairs]
        adjusted = statistics.holm([each.p for each in found])
        rows += [
            (
                metric.name,
                _name(pair.first[1], several),
                _name(pair.second[1], several),
                metric.unit,
                *_numbers(each, p),
            )
            for pair, each, p in zip(pairs, found, adjusted, strict=True)
        ]
    return Table(
        columns=_columns(options),
        rows=tuple(rows),
        caption=f"{', '.join(each.run for each in runs)}: differences of means",
        label=f"tab:{runs[0].experiment}-compare",
        notes=(
            "Difference: condition minus baseline. Trials with equal random keys are compared pair by pair "
            "(t-test, effect d_z), others by Welch's test (effect Hedges' g, pooled SD).",
            "p (Holm) is adjusted for the number of comparisons of the metric.",
        ),
    )


def _name(group: Group, with_run: bool) -> str:
    return f"{group.run}: {group.label}" if with_run else group.label


def _numbers(found: Difference, adjusted: float) -> tuple[Any, ...]:
    n = f"{found.n_first}" if found.kind == "paired" else f"{found.n_first}, {found.n_second}"
    effect = (found.effect_name, found.effect)
    return (found.kind, n, found.mean, found.low, found.high, *effect, found.p, adjusted)


def _columns(options: Options) -> tuple[Column, ...]:
    percent = f"{100 * options.confidence:g} %"
    return (
        Column("metric", "metric"),
        Column("condition", "condition"),
        Column("baseline", "baseline"),
        Column("unit", "unit"),
        Column("test", "test"),
        Column("n", "n"),
        Column("difference", "difference", form="+.3f"),
        Column("ci_low", f"{percent} CI low", form="+.3f"),
        Column("ci_high", f"{percent} CI high", form="+.3f"),
        Column("effect_name", "effect"),
        Column("effect", "size", form="+.2f"),
        Column("p", "p", form=".3g"),
        Column("p_holm", "p (Holm)", form=".3g"),
    )
