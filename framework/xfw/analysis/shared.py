"""The analyzers that every experiment has: ``summary`` and ``compare`` (here) and ``curves``; and all by their name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis import curves, statistics
from xfw.analysis.conditions import Group, Values, confidence_key, groups_of, metric_key, only_key, some
from xfw.analysis.output import Output
from xfw.analysis.statistics import Difference
from xfw.analysis.tables import Column, Table, rounding_like
from xfw.config.keys import key
from xfw.errors import WrongInput, did_you_mean
from xfw.experiment import Analyzer, Metric
from xfw.store.results import Results

__all__ = [
    "Compare",
    "Summarise",
    "all_analyzers",
    "compare",
    "compare_runs",
    "difference",
    "find",
    "shared",
    "summarise",
]


@attrs.frozen
class Summarise:
    """What is summarised, and how."""

    metric: tuple[str, ...] | None = metric_key("metrics to summarise")
    only: tuple[str, ...] | None = only_key()
    confidence: float = confidence_key(" of the mean")
    ddof: int = key(1, ge=0, le=1, help="the standard deviation has the divisor n - ddof")


@attrs.frozen
class Compare:
    """What is compared with what."""

    metric: tuple[str, ...] | None = metric_key("metrics to compare")
    only: tuple[str, ...] | None = only_key()
    baseline: str | None = key(None, help="condition that the others are compared with; default: the first")
    confidence: float = confidence_key(" of the difference")


def shared(declared: Sequence[Metric] | None) -> list[Analyzer]:
    """Return the analyzers that every experiment has, over its metrics."""
    values = Values(declared)

    def analyzer(name: str, text: str, options: type, analysis: Callable[..., None]) -> Analyzer:
        def run(results: Results | None, chosen: Any, output: Output) -> None:
            analysis(results, chosen, output, values)

        return Analyzer(name, text, run, options=options, available=functools.partial(unavailable, name, values))

    return [
        analyzer("summary", "n, mean, SD, SEM and interval per condition", Summarise, summarise),
        analyzer("curves", "mean with a band over trials, per condition", curves.Options, curves.analyse),
        analyzer("compare", "differences between conditions", Compare, compare),
    ]


def unavailable(name: str, values: Values, results: Results) -> str:
    """Say why a shared analyzer has nothing to work on; empty where it has."""
    if not values.metrics(results, series=name == "curves"):
        kind = "metric along a stream" if name == "curves" else "metric with one value per trial"
        return f"the experiment has no {kind}"
    return "the run has one condition" if name == "compare" and len(set(results.condition.tolist())) < 2 else ""


def all_analyzers(declared: Sequence[Metric] | None, own: Sequence[Analyzer] | None) -> dict[str, Analyzer]:
    """Return the shared analyzers and the experiment's own by name; its own replace shared ones of equal name."""
    return {analyzer.name: analyzer for analyzer in (*shared(declared), *(own or ()))}


def find(known: Mapping[str, Analyzer], names: Sequence[str], experiment: str) -> list[Analyzer]:
    """Return analyzers by name, ``-`` and ``_`` alike; raises ``WrongInput`` with the nearest name."""
    plain = {name.replace("-", "_"): analyzer for name, analyzer in known.items()}
    for name in names:
        if name.replace("-", "_") not in plain:
            raise WrongInput(f"experiment '{experiment}': unknown analyzer '{name}'", hint=did_you_mean(name, known))
    return [plain[name.replace("-", "_")] for name in names]


# --- summary ---------------------------------------------------------------------------------------------


def summarise(results: Results, options: Summarise, output: Output, values: Values) -> None:
    """Print and write one row for each metric and condition."""
    groups = groups_of(results, options.only)
    named = results.telling_axes
    rows: list[tuple[Any, ...]] = []
    missing: list[str] = []
    for metric in values.chosen(results, options.metric, series=False):
        with output.attempt(f"summary of {metric.name}"):
            values_T = values.of(results, metric)
            for group in groups:
                found = statistics.summarise(
                    values_T[group.positions], confidence=options.confidence, ddof=options.ddof
                )
                condition = [group.values[axis] for axis in named] or [group.label]
                numbers = (found.mean, found.sd, found.sem, found.low, found.high, found.minimum, found.maximum)
                texts = rounding_like(found.sd, *numbers)
                rows.append((metric.name, *condition, metric.unit, found.n, *texts))
                missing += left_out(metric, group, found.missing)
    percent = f"{100 * options.confidence:g} %"
    titles = ("mean", "SD", "SEM", f"{percent} CI low", f"{percent} CI high", "min", "max")
    names = ("mean", f"sd_ddof{options.ddof}", "sem", "ci_low", "ci_high", "min", "max")
    notes = [f"SD with divisor {'n' if options.ddof == 0 else 'n - 1'}; SEM and t interval of the mean rest on n - 1."]
    unfinished = [status for status in results.status if status != "done"]
    if unfinished:
        kinds = ", ".join(sorted(set(unfinished)))
        notes.append(f"{len(unfinished)} of {len(results.status)} trials are not done: {kinds}.")
    table = Table(
        columns=(
            Column("metric", "metric"),
            *([Column(axis, axis) for axis in named] or [Column("condition", "condition")]),
            Column("unit", "unit"),
            Column("n", "n", form="d"),
            *(Column(name, title, form=".2f") for name, title in zip(names, titles, strict=True)),
        ),
        rows=tuple(rows),
        caption=f"{results.run}: summary over trials",
        label=f"tab:{results.experiment}-summary",
        notes=(*notes, *shortened("not finite and left out", missing)),
    )
    output.table("summary", table)


def left_out(metric: Metric, group: Group, missing: int) -> list[str]:
    """Return what is missing of a metric in one condition, in words."""
    return [f"{missing} of {len(group.positions)} values of {metric.name} ({group.label})"] if missing else []


def shortened(what: str, items: Sequence[str]) -> tuple[str, ...]:
    """Return a note about some items; of many the first ones and their number."""
    return (f"{what[0].upper()}{what[1:]}: {some(list(dict.fromkeys(items)), 6)}.",) if items else ()


# --- compare ---------------------------------------------------------------------------------------------

Side = tuple[Results, Group]


def compare(results: Results, options: Compare, output: Output, values: Values) -> None:
    """Print and write the comparison of every condition with the baseline."""
    groups = groups_of(results, options.only)
    reference = baseline(groups if options.baseline is None else groups_of(results), options.baseline)
    pairs = [((results, group), (results, reference)) for group in groups if group.condition != reference.condition]
    if not pairs:
        raise WrongInput("$.only: leaves nothing to compare with the baseline")
    output.table("compare", comparison(pairs, options, output, values, [results]))


def compare_runs(runs: Sequence[Results], options: Compare, output: Output, values: Values) -> None:
    """Print and write the comparison of each run with the first one, condition by condition.

    A condition is paired with its equal in the first run, or with the baseline.
    """
    references = groups_of(runs[0], options.only)
    equal = {group.identity: group for group in references} if options.baseline is None and runs[0].axes else {}
    reference = baseline(references, options.baseline)
    pairs = [
        ((later, group), (runs[0], equal.get(group.identity, reference)))
        for later in runs[1:]
        for group in groups_of(later, options.only if later.axes else None)
    ]
    output.table("compare", comparison(pairs, options, output, values, runs))


def baseline(groups: Sequence[Group], name: str | None) -> Group:
    """Return the condition that others are compared with."""
    if not groups:
        raise WrongInput("the run has no trials")
    known = {group.label: group for group in groups}
    if name is not None and name not in known:
        raise WrongInput(f"$.baseline: unknown condition '{name}'", hint=did_you_mean(name, known))
    return groups[0] if name is None else known[name]


def difference(first: Side, second: Side, metric: Metric, confidence: float, values: Values) -> Difference:
    """Compare two groups: by trial where both have the same trials with equal random keys, else by Welch's test."""
    one, other = (values.of(results, metric)[group.positions] for results, group in (first, second))
    common = shared_trials(first[1], second[1])
    if common is None:
        return statistics.welch_difference(one, other, confidence=confidence)
    return statistics.paired_difference(one[common[0]], other[common[1]], confidence=confidence)


def shared_trials(first: Group, second: Group) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the places of the trials with equal index and key; None unless one group has all of the other's."""
    mine = {trial: place for place, trial in enumerate(zip(first.trials, first.keys, strict=True))}
    theirs = {trial: place for place, trial in enumerate(zip(second.trials, second.keys, strict=True))}
    both = [trial for trial in mine if trial in theirs]
    if not both or len(both) < min(len(mine), len(theirs)):
        return None
    return np.array([mine[trial] for trial in both]), np.array([theirs[trial] for trial in both])


def comparison(
    pairs: Sequence[tuple[Side, Side]], options: Compare, output: Output, values: Values, runs: Sequence[Results]
) -> Table:
    """Return one row for each metric and pair, with p adjusted for the number of pairs."""
    several = len(runs) > 1
    rows: list[tuple[Any, ...]] = []
    missing: list[str] = []
    constant: list[str] = []
    for metric in values.chosen(runs[0], options.metric, series=False):
        with output.attempt(f"comparison of {metric.name}"):
            found = [difference(first, second, metric, options.confidence, values) for first, second in pairs]
            adjusted = statistics.holm([test.p for test in found])
            for ((_, group), (_, other)), test, p in zip(pairs, found, adjusted, strict=True):
                names = [f"{side.run}: {side.label}" if several else side.label for side in (group, other)]
                rows.append((metric.name, *names, metric.unit, *cells(test, p)))
                what = f"{metric.name} ({names[0]})"
                missing += [f"{test.missing} in {what}"] if test.missing else []
                constant += [what] if test.constant else []
    percent = f"{100 * options.confidence:g} %"
    return Table(
        columns=(
            *(Column(name, name) for name in ("metric", "condition", "baseline", "unit", "test", "n")),
            Column("difference", "difference", form="+.3f"),
            Column("ci_low", f"{percent} CI low", form="+.3f"),
            Column("ci_high", f"{percent} CI high", form="+.3f"),
            Column("effect_name", "effect"),
            Column("effect", "size", form="+.2f"),
            Column("p", "p", form=".3g"),
            Column("p_holm", "p (Holm)", form=".3g"),
        ),
        rows=tuple(rows),
        caption=f"{', '.join(results.run for results in runs)}: differences of means",
        label=f"tab:{runs[0].experiment}-compare",
        notes=(
            "Difference: condition minus baseline. Trials with equal random keys are compared pair by pair "
            "(t-test, effect d_z), others by Welch's test (effect Hedges' g, pooled SD).",
            "p (Holm) is adjusted for the number of comparisons of the metric.",
            *shortened("without a test, since the values do not spread (rounding apart)", constant),
            *shortened("values or pairs that are not finite and left out", missing),
        ),
    )


def cells(test: Difference, adjusted: float) -> tuple[Any, ...]:
    """Return the cells of one comparison."""
    n = f"{test.n_first}" if test.kind == "paired" else f"{test.n_first}, {test.n_second}"
    numbers = rounding_like(test.high - test.mean, test.mean, test.low, test.high)
    return (test.kind, n, *numbers, test.effect_name, test.effect, test.p, adjusted)
