"""The experiment's own tables, figures and files."""

from __future__ import annotations

from collections.abc import Sequence

import xfw
from xfw import Analyzer

from xfw_neuronal_decay.analysis import exported, plots, report
from xfw_neuronal_decay.quantities import METRICS

__all__ = ["ANALYZERS"]

ANALYZERS = (
    Analyzer(
        "metrics",
        "the published metrics of the stability gap, and more, per experiment",
        report.run,
        options=report.Options,
        available=report.available,
    ),
    Analyzer("plots", "the ten figures of the paper", plots.run, options=plots.Options, available=report.available),
    Analyzer(
        "published_json",
        "one result file for each trial, in the layout of the published ones",
        exported.run,
        options=exported.Options,
        needs_run=False,
        available=report.available,
    ),
)


@xfw.hookimpl
def define_metrics() -> Sequence[xfw.Metric]:
    return METRICS


@xfw.hookimpl
def analyze() -> Sequence[xfw.Analyzer]:
    return ANALYZERS
