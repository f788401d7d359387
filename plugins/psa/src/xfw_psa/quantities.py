"""The quantities that are derived from what a run stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from xfw import Metric

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["METRICS"]


def _percent(counted: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return percentages with NaN where a count or a number of images is missing (negative)."""
    whole = np.asarray(images, dtype=np.float64)
    whole = whole.reshape(whole.shape + (1,) * (np.ndim(counted) - 1))
    share = 100.0 * np.asarray(counted, dtype=np.float64) / np.where(whole > 0, whole, np.nan)
    return np.where(np.asarray(counted) >= 0, share, np.nan)


def _validation_images(results: Results) -> np.ndarray:
    return np.asarray([_sizes(name).validation for name in _data_names(results)])


def _sizes(name: str) -> Any:
    from xfw_psa.data import SIZES

    return SIZES[name]


def _data_names(results: Results) -> list[str]:
    swept = results.parameters.get("data")
    count = len(results.trial)
    return [str(each) for each in swept] if swept is not None else [str(results.config["data"])] * count


def _accuracy_series(variable: str) -> Any:
    def compute(results: Results) -> np.ndarray:
        counted = np.array(results.values("epoch", variable), dtype=np.int64)
        rows = np.arange(counted.shape[1])[None, :]
        counted = np.where(rows < np.asarray(results.count("epoch"))[:, None], counted, -1)
        return _percent(counted, _validation_images(results))

    return compute


def _peak(results: Results) -> np.ndarray:
    lkg = np.asarray(results.values("epoch", "lkg_correct"))
    last = np.asarray(results.count("epoch")) - 1
    best = np.where(last >= 0, lkg[np.arange(len(lkg)), np.maximum(last, 0)], -1)
    return _percent(best, _validation_images(results))


def _test_accuracy(results: Results) -> np.ndarray:
    images = np.asarray([_sizes(name).test for name in _data_names(results)])
    return _percent(np.asarray(results.array("test_correct")), images)


def _bounty_loop(results: Results) -> np.ndarray:
    loops = np.asarray(results.array("bounty_loop"), dtype=np.float64)
    return np.where(loops >= 1, loops, np.nan)


METRICS = (
    Metric("val_peak", "peak validation accuracy", "%", _peak),
    Metric("test_accuracy", "test accuracy of the best network", "%", _test_accuracy),
    Metric("bounty_loop", "loop of the last improvement", "1", _bounty_loop),
    Metric("val_accuracy", "validation accuracy", "%", _accuracy_series("val_correct"), series="epoch"),
    Metric("lkg_accuracy", "best validation accuracy so far", "%", _accuracy_series("lkg_correct"), series="epoch"),
)
