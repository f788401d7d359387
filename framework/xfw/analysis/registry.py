"""The analyzers by name: the shared ones, the experiment's own, and which of them a run has data for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xfw.analysis import compare, curves, samples, summary
from xfw.analysis.output import Output
from xfw.errors import WrongInput, did_you_mean
from xfw.experiment import Analyzer, Metric
from xfw.store.results import Results

__all__ = ["all_analyzers", "find", "metrics_of", "shared"]

Analysis = Callable[[Results, Any, Output, Sequence[Metric]], None]


def metrics_of(declared: Sequence[Metric] | None, results: Results) -> list[Metric]:
    """Return the experiment's metrics, or general ones where it declares none."""
    return list(declared) if declared else samples.generic_metrics(results)


def shared(declared: Sequence[Metric] | None) -> list[Analyzer]:
    """Return the analyzers that every experiment has, over its metrics."""
    return [
        _analyzer("summary", "n, mean, SD, SEM and interval per condition", summary.Options, summary.analyse, declared),
        _analyzer("curves", "mean with a band over trials, per condition", curves.Options, curves.analyse, declared),
        _analyzer("compare", "differences between conditions", compare.Options, compare.analyse, declared),
    ]


def _analyzer(name: str, text: str, options: type, analysis: Analysis, declared: Sequence[Metric] | None) -> Analyzer:
    def run(results: Results | None, chosen: Any, output: Output) -> None:
        assert results is not None
        analysis(results, chosen, output, metrics_of(declared, results))

    available = functools.partial(_available, name, declared)
    return Analyzer(name, text, run, options=options, available=available)


def _available(name: str, declared: Sequence[Metric] | None, results: Results) -> str:
    metrics = metrics_of(declared, results)
    if name == "curves":
        return "" if samples.series(metrics) else "the experiment has no metric along a stream"
    if not samples.scalar(metrics):
        return "the experiment has no metric with one value per trial"
    return compare.available(results) if name == "compare" else ""


def all_analyzers(declared: Sequence[Metric] | None, own: Sequence[Analyzer] | None) -> dict[str, Analyzer]:
    """Return the shared analyzers and the experiment's own by name; its own replace shared ones of equal name."""
    return {each.name: each for each in (*shared(declared), *(own or ()))}


def find(known: Mapping[str, Analyzer], names: Sequence[str], experiment: str) -> list[Analyzer]:
    """Return analyzers by name, ``-`` and ``_`` alike; raises ``WrongInput`` with the nearest name."""
    plain = {name.replace("-", "_"): each for name, each in known.items()}
    for name in names:
        if name.replace("-", "_") not in plain:
            raise WrongInput(f"experiment '{experiment}': unknown analyzer '{name}'", hint=did_you_mean(name, known))
    return [plain[name.replace("-", "_")] for name in names]
