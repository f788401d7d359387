"""Gather the statistics of support over forward steps (spec 4.3): sums over steps, divided at the end.

One *sum* is a list in the order of ``SUMS``: over the steps with active cells their mean, deviation, minimum and
maximum, the number of these steps, the number of those with two cells or more, and so on. Axes: T time step, C channel,
F feature, P position, X all cells of one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xfw_netfragments.layer import EPSILON

if TYPE_CHECKING:
    import torch

__all__ = ["INACTIVE", "QUANTITIES", "SUMS", "averages", "host_inactive", "host_sums", "sums"]

KINDS = ("mean", "std", "min", "max", "steps", "pairs")
ACTIVE = tuple(f"active_{kind}" for kind in KINDS)
INACTIVE = tuple(f"inactive_{kind}" for kind in KINDS)
SUMS = (*ACTIVE, "norm", "norm_steps")
QUANTITIES = tuple(f"support_{group}_{kind}" for group in ("active", "inactive") for kind in KINDS[:4])

Floats = NDArray[np.float32]
Truths = NDArray[np.bool_]


def _host_kinds(support_TX: Floats, chosen_TX: Truths) -> list[float]:
    """Return the six sums of one group of cells over the steps that have any."""
    counts_T = chosen_TX.sum(1)
    counts = counts_T[counts_T > 0]
    if not len(counts):
        return [0.0] * len(KINDS)
    values = support_TX[chosen_TX].astype(np.float64)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    means = np.add.reduceat(values, starts) / counts
    squares = np.add.reduceat((values - np.repeat(means, counts)) ** 2, starts)
    several = counts > 1
    deviations = np.sqrt(squares[several] / (counts[several] - 1))
    lowest, highest = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    parts = (means, deviations, lowest, highest)
    return [*(float(part.sum()) for part in parts), float(len(counts)), float(several.sum())]


def host_sums(z_TFP: Truths, support_TFP: Floats, strength_TFP: Floats) -> list[float]:
    """Return the sums of one image, from its winners."""
    steps = len(z_TFP)
    positive = strength_TFP > 0
    ratio = np.zeros_like(support_TFP)
    np.divide(support_TFP, np.float32(EPSILON) + strength_TFP, out=ratio, where=positive)
    counts_T = positive.reshape(steps, -1).sum(1)
    some = counts_T > 0
    ratios = ratio.reshape(steps, -1).sum(1, dtype=np.float64)[some] / counts_T[some]
    active = _host_kinds(support_TFP.reshape(steps, -1), z_TFP.reshape(steps, -1))
    return [*active, float(ratios.sum()), float(some.sum())]


def host_inactive(z_TFP: Truths, channel_FP: NDArray[np.intp], support_TCP: Floats) -> list[float]:
    """Return the sums over all cells that did not fire, losers included."""
    silent = np.ones(support_TCP.shape, bool)
    step, feature, place = np.nonzero(z_TFP)
    silent[step, channel_FP[feature, place], place] = False
    return _host_kinds(support_TCP.reshape(len(silent), -1), silent.reshape(len(silent), -1))


def _kinds(support_TX: torch.Tensor, chosen_TX: torch.Tensor) -> list[torch.Tensor]:
    """Return the six sums in tensor operations without a branch, as 0-d tensors."""
    import torch

    support = support_TX.double()
    counts = chosen_TX.sum(1)
    some, several = counts > 0, counts > 1
    means = torch.where(chosen_TX, support, 0.0).sum(1) / counts.clamp_min(1)
    squares = torch.where(chosen_TX, (support - means[:, None]) ** 2, 0.0).sum(1)
    deviations = torch.where(several, (squares / (counts - 1).clamp_min(1)).sqrt(), 0.0)
    lowest = torch.where(some, torch.where(chosen_TX, support, torch.inf).amin(1), 0.0)
    highest = torch.where(some, torch.where(chosen_TX, support, -torch.inf).amax(1), 0.0)
    return [*(part.sum() for part in (means, deviations, lowest, highest)), some.sum(), several.sum()]


def sums(z: torch.Tensor, support: torch.Tensor, strength: torch.Tensor) -> list[torch.Tensor]:
    """Return the sums over steps and images; the arguments share the shape (T, N, …)."""
    import torch

    z, support, strength = (part.flatten(0, 1).flatten(1) for part in (z, support, strength))
    positive = strength > 0
    counts = positive.sum(1)
    ratios = torch.where(positive, support / (EPSILON + strength), 0.0).sum(1, dtype=torch.float64)
    return [*_kinds(support, z > 0), (ratios / counts.clamp_min(1)).sum(), (counts > 0).sum()]


def inactive(z_TNCP: torch.Tensor, support_TNCP: torch.Tensor) -> list[torch.Tensor]:
    """Return the sums over all cells that did not fire."""
    return _kinds(support_TNCP.flatten(0, 1).flatten(1), z_TNCP.flatten(0, 1).flatten(1) == 0)


def averages(total: Mapping[str, Sequence[float] | NDArray[np.float64]]) -> dict[str, float]:
    """Return the recorded quantities from the sums of ``active`` and ``inactive`` cells; NaN where there were none."""
    found: dict[str, Any] = {}
    for group, values in total.items():
        steps, pairs = values[4], values[5]
        for place, kind in enumerate(KINDS[:4]):
            count = pairs if kind == "std" else steps
            found[f"support_{group}_{kind}"] = values[place] / count if count else np.nan
    active = total["active"]
    found["norm_factor"] = active[6] / active[7] if active[7] else np.nan
    return found
