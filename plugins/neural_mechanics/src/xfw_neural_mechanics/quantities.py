"""The reported quantities: how far each law is from the measurement, how far what is conserved drifts.

Errors are maxima over records and channels. Quadratic quantities: |prediction - Q| / S, with the magnitude S of the
moment (for scale Q itself). Translation: |prediction - q| over the largest |q_j| at step 0.
Axes: T trial, N record, C channel.
"""

from __future__ import annotations

import functools

import numpy as np
import xfw
from numpy.typing import NDArray

from xfw_neural_mechanics.config import KINDS, LAWS

__all__ = ["METRICS", "Array", "law_error", "layer_error", "layers"]

Array = NDArray[np.float64]


def layers(results: xfw.Results, kind: str) -> list[str]:
    """Return the layers that have groups of a kind, in the file's order."""
    names = [name.split("/") for name in results.variables("record") if name.startswith(f"{kind}/")]
    return [name[1] for name in names if name[2:] == ["q"]]


def _largest(parts: list[Array], trials: int) -> Array:
    """Return the largest number of every trial, NaN where it has none."""
    table = np.concatenate([part.reshape(trials, -1) for part in parts], axis=1)
    has = np.isfinite(table).any(axis=1)
    largest: Array = np.where(has, np.nanmax(np.where(has[:, None], table, 0.0), axis=1), np.nan)
    return largest


def _magnitude(results: xfw.Results, kind: str, layer: str) -> Array:
    measured: Array = results.values("record", f"{kind}/{layer}/q")
    if kind == "translation":
        return np.broadcast_to(np.abs(measured[:, :1]).max(axis=2, keepdims=True), measured.shape)
    return measured if kind == "scale" else results.values("record", f"{kind}/{layer}/mag")


def law_error(results: xfw.Results, kind: str, law: str) -> Array:
    """Return the error of a law over all groups of a kind, one number for each trial; NaN without such groups."""
    known = set(results.variables("record"))
    parts = [
        np.abs(results.values("record", f"{kind}/{layer}/law/{law}") - results.values("record", f"{kind}/{layer}/q"))
        / _magnitude(results, kind, layer)
        for layer in layers(results, kind)
        if f"{kind}/{layer}/law/{law}" in known
    ]
    if not parts:
        raise xfw.UserError(f"the run has no prediction of law '{law}' for {kind} groups")
    return _largest(parts, len(results.trial))


def layer_error(results: xfw.Results, kind: str, law: str) -> Array | None:
    """Return the error of a law at every record, ``[T, N]``: over a layer's sum, the largest over layers."""
    known = set(results.variables("record"))
    parts = []
    for layer in layers(results, kind):
        if f"{kind}/{layer}/law/{law}" in known:
            difference = results.values("record", f"{kind}/{layer}/law/{law}") - results.values(
                "record", f"{kind}/{layer}/q"
            )
            parts.append(np.abs(difference.sum(2)) / _magnitude(results, kind, layer).sum(2))
    if not parts:
        return None
    table = np.stack(parts)
    largest: Array = np.where(
        np.isfinite(table).any(0), np.nanmax(np.where(np.isfinite(table), table, 0), axis=0), np.nan
    )
    return largest


def drift(results: xfw.Results, kind: str) -> Array:
    """Return how far the quantity of a kind has moved at the end, in the first layer that has it.

    Relative to its magnitude at step 0; for translation as it is.
    """
    if not layers(results, kind):
        raise xfw.UserError(f"the run has no {kind} groups")
    layer = layers(results, kind)[0]
    measured: Array = results.values("record", f"{kind}/{layer}/q")
    last = results.count("record") - 1
    end = measured[np.arange(len(last)), last]
    scale = 1.0 if kind == "translation" else _magnitude(results, kind, layer)[:, 0]
    return _largest([np.abs(end - measured[:, 0]) / scale], len(last))


def residual(results: xfw.Results, kind: str) -> Array:
    """Return the largest root mean square of a normalised symmetry residual over records and channels."""
    parts = [results.values("record", f"{kind}/{layer}/sym_rms") for layer in layers(results, kind)]
    if not parts:
        raise xfw.UserError(f"the run has no {kind} groups")
    return _largest(parts, len(results.trial))


def accuracy(results: xfw.Results) -> Array:
    """Return the share of test images whose class was the first guess at the end, in percent."""
    values: Array = results.values("performance", "accuracy1")
    last: Array = values[np.arange(len(values)), results.count("performance") - 1]
    return last


METRICS = (
    xfw.Metric("accuracy", "test accuracy at the end", "%", accuracy),
    *(
        xfw.Metric(
            f"{kind}_{law}", f"error of law {law} for {kind}", "1", functools.partial(law_error, kind=kind, law=law)
        )
        for kind in KINDS
        for law in LAWS
    ),
    *(xfw.Metric(f"{kind}_drift", f"drift of {kind}", "1", functools.partial(drift, kind=kind)) for kind in KINDS),
    *(
        xfw.Metric(f"{kind}_residual", f"symmetry residual of {kind}", "1", functools.partial(residual, kind=kind))
        for kind in KINDS
    ),
)
