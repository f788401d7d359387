"""The tables, files and figures of the paper, as analyzers."""

from __future__ import annotations

from collections.abc import Sequence

import xfw

from xfw_psa.analysis import (
    accuracy_table,
    architecture_table,
    convergence,
    dataset,
    design_space,
    growth,
    heatmaps,
    regimes,
    reproduction,
    result_files,
)
from xfw_psa.quantities import METRICS

__all__ = ["ANALYZERS"]

ANALYZERS: tuple[xfw.Analyzer, ...] = (
    architecture_table.ANALYZER,
    accuracy_table.ANALYZER,
    dataset.ANALYZER,
    result_files.ANALYZER,
    growth.ANALYZER,
    regimes.ANALYZER,
    reproduction.ANALYZER,
    design_space.ANALYZER,
    heatmaps.ANALYZER,
    convergence.ANALYZER,
)
"""All analyzers of psa, in the order of the documentation."""


@xfw.hookimpl
def define_metrics() -> Sequence[xfw.Metric]:
    return METRICS


@xfw.hookimpl
def analyze() -> Sequence[xfw.Analyzer]:
    return ANALYZERS
