"""The shared analyzer ``curves``, of the metrics that go over epochs: those over points are drawn by ``robustness``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xfw
from xfw.analysis import curves
from xfw.analysis.conditions import Values
from xfw.analysis.output import Output

from xfw_netfragments.quantities import METRICS

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["ANALYZER"]


def run(results: Results | None, options: curves.Options, output: Output) -> None:
    """Write a figure and its numbers for every metric of the stream ``epoch``."""
    assert results is not None
    curves.analyse(results, options, output, Values([metric for metric in METRICS if metric.series != "evaluation"]))


ANALYZER = xfw.Analyzer("curves", "metrics over the epochs, with bands over trials", run, options=curves.Options)
