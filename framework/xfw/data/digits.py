"""Scikit-learn's bundled digits: 1,797 real hand-written images of 8×8 pixels with values from 0 to 16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xfw.data.images import ImageData, NamedSet

if TYPE_CHECKING:
    import torch

__all__ = ["DIGITS", "load", "resize"]

LEVELS = 16
SIDE = 8
LARGE = 28


def load(*, size: int = SIDE, scale: str = "repeat") -> ImageData:
    """Return all digits as training images, and an empty test set.

    ``size=8`` keeps the values 0 to 16. ``size=28`` gives bytes: the values become round(255 v / 16), and
    ``scale`` says how the image grows: every pixel repeated 3×3 within a frame of 2 zeros, or bilinear.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    values_NHW = bunch.images.astype(np.float64)
    labels_N = _tensor(bunch.target.astype(np.int64))
    if size == SIDE:
        images, white = values_NHW.astype(np.uint8), LEVELS
    elif size == LARGE:
        images, white = resize(values_NHW, scale), 255
    else:
        raise ValueError(f"digits: found size={size}, expected {SIDE} or {LARGE}")
    images_NHW = _tensor(images)
    return ImageData(images_NHW, labels_N, images_NHW[:0], labels_N[:0], white=white)


def resize(values_NHW: np.ndarray, scale: str) -> np.ndarray:
    """Return 8×8 images of values 0 to 16 as 28×28 bytes."""
    if scale == "repeat":
        bytes_NHW = np.rint(255.0 * values_NHW / LEVELS).astype(np.uint8)
        grown = bytes_NHW.repeat(3, axis=1).repeat(3, axis=2)
        return np.pad(grown, ((0, 0), (2, 2), (2, 2)))
    if scale == "bilinear":
        weights = bilinear_weights(values_NHW.shape[1], LARGE)
        grown = np.einsum("oi,nij,pj->nop", weights, values_NHW, weights)
        return np.asarray(np.rint(255.0 * grown / LEVELS), dtype=np.uint8)
    raise ValueError(f"digits: found scale={scale!r}, expected 'repeat' or 'bilinear'")


def bilinear_weights(inputs: int, outputs: int) -> np.ndarray:
    """Return the (outputs, inputs) matrix of linear interpolation between pixel centres, constant beyond the edge."""
    centre_O = (np.arange(outputs) + 0.5) * inputs / outputs - 0.5
    centre_O = np.clip(centre_O, 0, inputs - 1)
    distance_OI = np.abs(centre_O[:, None] - np.arange(inputs)[None, :])
    weights: np.ndarray = np.clip(1.0 - distance_OI, 0.0, None)
    return weights


def _tensor(array: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


DIGITS = NamedSet(
    name="digits",
    summary="1,797 hand-written digits of 8×8 pixels, bundled with scikit-learn",
    origin="E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, test part",
    licence="CC BY 4.0 (data), BSD-3-Clause (scikit-learn)",
    train=1797,
    test=0,
    shape=(SIDE, SIDE),
    classes=10,
    load=load,
    options={"size": "8 (values 0 to 16) or 28 (bytes)", "scale": "repeat or bilinear, for size=28"},
)
