"""Make the images of the evaluation, corrupt them, and extract their features (spec 3, 5.1).

Axes: N image, F feature, H row, W column, P position, X = F·P.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from xfw_netfragments import drawings, rasters
from xfw_netfragments.config import S1, Config
from xfw_netfragments.lines import Keyed, curves, flips
from xfw_netfragments.measures import Corrupted
from xfw_netfragments.points import Corruption, sample_count
from xfw_netfragments.s1 import features

__all__ = ["Scene", "counter", "flipped_features", "scene"]

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]


def counter(repeat: int, image: int) -> int:
    """Return the counter of the draws of one image in one repeat."""
    return repeat * 2**32 + image


@frozen(eq=False)
class Scene:
    """The images of a point, the pixels that an interrupt removed from them, and their features (N, F, H, W)."""

    images: Images
    removed: Images
    features: Floats


def scene(config: Config, keyed: Keyed, interrupt: int) -> Scene:
    """Return the images with a line interrupt; straight lines are the same for all trials, and drawn once."""
    count, size = sample_count(config), config.data.size
    if config.evaluate.images == "straight":
        return _straight(count, size, interrupt, config.s1)
    if config.evaluate.images == "curved":
        clean = curves(config, keyed, count)
    else:
        clean = (drawings.digits() if config.evaluate.images == "digits" else drawings.objects())[:count]
    return _scene(clean, np.zeros_like(clean), config.s1)


@lru_cache(maxsize=16)
def _straight(count: int, size: int, interrupt: int, s1: S1) -> Scene:
    lines = rasters.rotating_lines(count, size)
    clean = rasters.draw_all(lines, size)
    cut = np.stack([rasters.interrupt(image, line, interrupt) for image, line in zip(clean, lines, strict=True)])
    return _scene(cut, clean - cut, s1)


def _scene(images: Images, removed: Images, s1: S1) -> Scene:
    return Scene(images, removed, features(images, s1.filters, s1.activation))


def flipped_features(
    config: Config, keyed: Keyed, shown: Scene, corruption: Corruption, repeat: int
) -> tuple[Floats, Corrupted]:
    """Return the features of a scene after feature noise (N, F, H, W), and what the noise did."""
    found = shown.features
    if config.s1.activation == "bernoulli":
        drawn = [keyed("s1", counter(repeat, place)).random(found[0].shape, np.float32) for place in range(len(found))]
        found = (np.stack(drawn) < found).astype(np.float32)
    flat = found.reshape(len(found), -1)
    count = int(corruption.noise * flat.shape[1])
    order = flips(config, keyed, repeat, len(flat), flat.shape[1])[:, :count].astype(np.int64)
    # A graded feature is flipped as S2 sees it: present or not (spec 3.5).
    values = ~(np.take_along_axis(flat, order, 1) > 0.5)
    changed = flat.copy()
    np.put_along_axis(changed, order, values.astype(np.float32), 1)
    removed = np.repeat(shown.removed[:, None].astype(bool), found.shape[1], 1).reshape(len(found), -1)
    return changed.reshape(found.shape), Corrupted(order, values, removed)
