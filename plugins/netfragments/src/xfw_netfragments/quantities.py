"""The quantities that are derived from what a run stored (spec 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from xfw import Metric

from xfw_netfragments.records import MEASURES

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["METRICS"]


def _last(variable: str) -> Callable[[Results], np.ndarray]:
    def compute(results: Results) -> np.ndarray:
        values = np.asarray(results.values("epoch", variable), np.float64)
        last = results.count("epoch") - 1
        return np.asarray(np.where(last >= 0, values[np.arange(len(values)), np.maximum(last, 0)], np.nan))

    return compute


def _series(stream: str, variable: str) -> Callable[[Results], np.ndarray]:
    def compute(results: Results) -> np.ndarray:
        values = np.asarray(results.values(stream, variable), np.float64)
        rows = np.arange(values.shape[1])[None, :]
        return np.asarray(np.where(rows < results.count(stream)[:, None], values, np.nan))

    return compute


def _lowest_error(results: Results) -> np.ndarray:
    found = _series("epoch", "validation_mse")(results)
    return np.asarray(np.fmin.reduce(found, axis=1))


METRICS = (
    Metric("weights_nonzero", "weights that are not 0", "1", _last("weights_nonzero")),
    Metric("weights_one", "weights that are 1", "1", _last("weights_one")),
    Metric("weight_sum", "sum of all weights", "1", _last("weight_sum")),
    Metric("support", "mean support of active cells in the last epoch", "1", _last("support_active_mean")),
    Metric("lowest_validation_mse", "lowest error of the autoencoder", "1", _lowest_error),
    Metric("support_active", "mean support of active cells", "1", _series("epoch", "support_active_mean"), "epoch"),
    Metric("validation_mse", "validation error of the autoencoder", "1", _series("epoch", "validation_mse"), "epoch"),
    *(Metric(name, text, "1", _series("evaluation", name), series="evaluation") for name, text in MEASURES.items()),
)
