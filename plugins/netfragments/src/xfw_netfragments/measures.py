"""Compare outputs with those for the clean images (spec 5.2).

Axes: N image, X all F·P cells of an image in the order feature, row, column.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

__all__ = ["Corrupted", "measure", "overlaps"]

Truths = NDArray[np.bool_]
Indices = NDArray[np.int64]


@frozen(eq=False)
class Corrupted:
    """What was done to the images: the flipped cells (N, k) with their new values, and cells at removed pixels."""

    flipped: Indices
    values: Truths
    removed_NX: Truths


def measure(z_NX: Truths, baseline_NX: Truths, corrupted: Corrupted) -> dict[str, float]:
    """Return the measures of one point: means over the images where they are defined, and how many those are."""
    both_N = _count(z_NX & baseline_NX)
    recall_N = _share(both_N, _count(baseline_NX))
    precision_N = _share(both_N, _count(z_NX))
    hole_NX = corrupted.removed_NX & baseline_NX
    filled_N = _share(_count(z_NX & hole_NX), _count(hole_NX))
    found = {
        **_noise(z_NX, corrupted),
        "accuracy": float((z_NX == baseline_NX).mean()),
        "recall": _mean(recall_N),
        "precision": _mean(precision_N),
        "line_reconstruction": float(np.nan_to_num(filled_N).mean()),
        "recall_images": float(np.isfinite(recall_N).sum()),
        "precision_images": float(np.isfinite(precision_N).sum()),
    }
    return {**found, **overlaps(z_NX)}


def _noise(z_NX: Truths, corrupted: Corrupted) -> dict[str, float]:
    after_Nk = np.take_along_axis(z_NX, corrupted.flipped, 1)
    removed_N = _share(_count(corrupted.values & ~after_Nk), _count(corrupted.values))
    recovered_N = _share(_count(~corrupted.values & after_Nk), _count(~corrupted.values))
    flipped = corrupted.flipped.shape[1] > 0
    return {
        "noise_reduction": float((after_Nk != corrupted.values).mean()) if flipped else 0.0,
        "noise_reduction_silent": float(corrupted.values.mean()) if flipped else 0.0,
        "false_removed": _mean(removed_N),
        "lost_recovered": _mean(recovered_N),
        "lost_images": float(np.isfinite(recovered_N).sum()),
    }


def _count(cells_NX: Truths) -> Indices:
    """Return the number of true cells image by image; numpy adds bytes twice as fast as truth values."""
    return np.asarray(cells_NX.view(np.uint8).sum(1, dtype=np.uint32), np.int64)


def _share(part_N: Indices, whole_N: Indices) -> NDArray[np.float64]:
    """Return a share image by image; NaN where the whole is empty."""
    return np.where(whole_N > 0, part_N / np.maximum(whole_N, 1), np.nan)


def _mean(values_N: NDArray[np.float64]) -> float:
    defined = values_N[np.isfinite(values_N)]
    return float(defined.mean()) if len(defined) else np.nan


def overlaps(z_NX: Truths) -> dict[str, float]:
    """Return the statistics of a set of outputs; the overlap of two is Σ z z' / Σ (z + z'), at most ½."""
    numbers = z_NX.astype(np.float32)  # exact: counts below 2^24
    active_N = numbers.sum(1).astype(np.float64)
    both = (numbers @ numbers.T).astype(np.float64)
    overlap = both / np.maximum(active_N[:, None] + active_N[None, :], 1)
    np.fill_diagonal(overlap, np.nan)
    several = len(z_NX) > 1
    return {
        "active_cells": float(active_N.mean()),
        "inactive_cells": float(z_NX.shape[1] - active_N.mean()),
        "overlap_mean": float(np.nanmean(overlap)) if several else np.nan,
        "overlap_max_mean": float(np.nanmax(overlap, axis=1).mean()) if several else np.nan,
    }
