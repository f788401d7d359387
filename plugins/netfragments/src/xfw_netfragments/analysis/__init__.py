"""The figures of the paper: robustness, support, and animations of single evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import xfw

from xfw_netfragments.analysis import epochs, frames, robustness, support, weights
from xfw_netfragments.quantities import METRICS

__all__ = ["ANALYZERS"]

ANALYZERS = (epochs.ANALYZER, robustness.ANALYZER, support.ANALYZER, frames.ANALYZER, weights.ANALYZER)


@xfw.hookimpl
def define_metrics() -> Sequence[xfw.Metric]:
    return METRICS


@xfw.hookimpl
def analyze() -> Sequence[xfw.Analyzer]:
    return ANALYZERS
