"""What analyses of a run offer: its metrics, and the figures of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import xfw

from xfw_neural_mechanics.quantities import METRICS

__all__ = ["analyze", "define_metrics"]


@xfw.hookimpl
def define_metrics() -> Sequence[xfw.Metric]:
    return METRICS


@xfw.hookimpl
def analyze() -> Sequence[xfw.Analyzer]:
    from xfw_neural_mechanics.figures import ANALYZERS

    return ANALYZERS
