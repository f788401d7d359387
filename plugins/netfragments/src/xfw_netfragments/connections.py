"""Keep weights as the list of their connections: in a run, and in the published file's layout.

Axes: C channel, I input channel, K side of the neighbourhood.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xfw
from numpy.typing import NDArray

from xfw_netfragments.layer import FEATURES, Layer

__all__ = ["dense", "digest", "file_content", "fitting", "implied", "read_file", "sparse"]

Weights = NDArray[np.float32]
NAMES = ("co", "ci", "dy", "dx", "value", "shape")


def sparse(weight: Weights) -> tuple[NDArray[np.int64], Weights]:
    """Return place (c, i, dy, dx) and value of every weight that is not 0."""
    index = np.argwhere(weight)
    return index, weight[tuple(index.T)]


def dense(index: NDArray[np.int64], value: Weights, shape: tuple[int, ...]) -> Weights:
    """Return weights from their connections."""
    weight = np.zeros(shape, np.float32)
    weight[tuple(np.asarray(index, np.int64).reshape(-1, 4).T)] = value
    return weight


def digest(weight: Weights) -> NDArray[np.int64]:
    """Return the SHA-256 of weights as four words."""
    data = hashlib.sha256(np.ascontiguousarray(weight, np.float32).tobytes()).digest()
    return np.frombuffer(data, "<i8").astype(np.int64)


def read_file(path: Path) -> Weights:
    """Return the weights of an npz file in the layout of the published ones; raise WrongInput where it is none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in NAMES if name not in file]:
                raise xfw.WrongInput(f"weights: {path} has no array '{missing[0]}', expected {', '.join(NAMES)}")
            index = np.stack([file[name].astype(np.int64) for name in NAMES[:4]], 1)
            return dense(index, file["value"].astype(np.float32), tuple(int(side) for side in file["shape"]))
    except (OSError, ValueError, IndexError) as error:
        raise xfw.WrongInput(f"weights: cannot read {path}: {error}", hint="expected a file of numpy.savez") from error


def file_content(weight: Weights) -> bytes:
    """Return weights as the content of a file in the layout of the published ones."""
    index, value = sparse(weight)
    places: dict[str, Any] = {name: index[:, axis].astype(np.int16) for axis, name in enumerate(NAMES[:4])}
    file = io.BytesIO()
    np.savez_compressed(file, **places, value=value, shape=np.array(weight.shape, np.int64))
    return file.getvalue()


def fitting(weight: Weights, layer: Layer, origin: str) -> Weights:
    """Return weights of the right shape; raise WrongInput naming both shapes and the settings they imply."""
    if weight.shape == layer.shape:
        return weight
    raise xfw.WrongInput(
        f"weights: {origin} has shape {weight.shape} ({implied(weight.shape)}), "
        f"the configuration {layer.shape} ({implied(layer.shape)})",
        hint="set s2.alternatives and s2.locality to those of the weights",
    )


def implied(shape: tuple[int, ...]) -> str:
    """Return the settings that a shape stands for, in words."""
    if len(shape) != 4 or shape[1] - shape[0] != FEATURES or shape[0] % FEATURES or shape[2] % 2 == 0:
        return "no weights of S2"
    return f"A = {shape[0] // FEATURES}, L = {(shape[2] - 1) // 2}, F = {FEATURES}"


def of_trial(arrays: Mapping[str, Any], shape: tuple[int, ...]) -> Weights | None:
    """Return the weights that a run stored for a trial, if it did, as large as ``shape`` at least."""
    if "w_index" not in arrays:
        return None
    index = np.asarray(arrays["w_index"], np.int64).reshape(-1, 4)
    return dense(index, np.asarray(arrays["w_value"], np.float32), shape)
