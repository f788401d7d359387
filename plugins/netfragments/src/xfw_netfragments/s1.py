"""Extract oriented features with four fixed 5 × 5 kernels (spec 2.1).

Axes: N image, F feature (vertical, rising, horizontal, falling), H row, W column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xfw_netfragments.layer import FEATURES

__all__ = ["DIVISOR", "KERNELS", "features", "responses"]

SIDE = 5

_SMALL = """
0 -1 0 -1 0 | 0 0 -1 -1 0  | 0 0 0 0 0      | 0 -1 -1 0 0
0 -1 2 -1 0 | 0 -1 0 2 -1  | -1 -1 -1 -1 -1 | -1 2 0 -1 0
0 -1 2 -1 0 | -1 0 2 0 -1  | 0 2 2 2 0      | -1 0 2 0 -1
0 -1 2 -1 0 | -1 2 0 -1 0  | -1 -1 -1 -1 -1 | 0 -1 0 2 -1
0 -1 0 -1 0 | 0 -1 -1 0 0  | 0 0 0 0 0      | 0 0 -1 -1 0
"""
_LARGE = """
-1 -1 0 -1 -1 | -1 0 -1 -1 0 | -1 0 -1 0 -1   | 0 -1 -1 0 -1
0 -1 2 -1 0   | 0 -1 -1 2 -1 | -1 -1 -1 -1 -1 | -1 2 -1 -1 0
-1 -1 4 -1 -1 | -1 -1 4 -1 -1 | 0 2 4 2 0     | -1 -1 4 -1 -1
0 -1 2 -1 0   | -1 2 -1 -1 0 | -1 -1 -1 -1 -1 | 0 -1 -1 2 -1
-1 -1 0 -1 -1 | 0 -1 -1 0 -1 | -1 0 -1 0 -1   | -1 0 -1 -1 0
"""


def _kernels(text: str) -> NDArray[np.int64]:
    rows = [[part.split() for part in line.split("|")] for line in text.strip().splitlines()]
    return np.array(rows, np.int64).transpose(1, 0, 2)


KERNELS = {"small": _kernels(_SMALL), "large": _kernels(_LARGE)}
"""The kernels times their divisor, so that every sum is an exact integer."""

DIVISOR = {"small": 6, "large": 2}


def responses(images_NHW: NDArray[np.uint8], filters: str) -> NDArray[np.int64]:
    """Return the cross-correlation times the divisor, (N, F, H, W), zero outside the image.

    Whether a response is positive must be decided exactly: many sums are zero in theory, and floating-point
    weights of ±1/6 can return 1e-8 instead.
    """
    count, height, width = images_NHW.shape
    padded = np.pad(images_NHW.astype(np.int64), ((0, 0), (SIDE // 2,) * 2, (SIDE // 2,) * 2))
    found = np.zeros((count, FEATURES, height, width), np.int64)
    for i in range(SIDE):
        for j in range(SIDE):
            window = padded[:, None, i : i + height, j : j + width]
            found += KERNELS[filters][None, :, i, j, None, None] * window
    return found


def features(images_NHW: NDArray[np.uint8], filters: str, activation: str) -> NDArray[np.float32]:
    """Return the features of images, (N, F, H, W); for ``bernoulli`` their probabilities.

    ``threshold``: 1 where the response is positive; ``clip``: the positive response, without upper bound.
    """
    response = responses(images_NHW, filters)
    if activation == "threshold":
        return (response > 0).astype(np.float32)
    clipped = np.maximum(response, 0).astype(np.float32) / np.float32(DIVISOR[filters])
    return np.minimum(clipped, np.float32(1)) if activation == "bernoulli" else clipped
