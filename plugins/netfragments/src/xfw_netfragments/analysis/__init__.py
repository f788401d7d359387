"""The figures of the paper: robustness, support, and animations of single evaluations."""

from __future__ import annotations

from xfw_netfragments.analysis import epochs, frames, robustness, support, weights

__all__ = ["ANALYZERS"]

ANALYZERS = (epochs.ANALYZER, robustness.ANALYZER, support.ANALYZER, frames.ANALYZER, weights.ANALYZER)
