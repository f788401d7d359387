"""Draw lines, curves and noise: by the framework's keys, or from the generators of the published results (spec 3).

Both modes give functions of position: nothing is stored, and a resumed run finds its place by drawing again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw_netfragments.config import Config
from xfw_netfragments.layer import FEATURES
from xfw_netfragments.rasters import MARGIN, Line, curve, training_lines

if TYPE_CHECKING:
    from xfw.engine.block import Block

__all__ = [
    "Keyed",
    "Shown",
    "curves",
    "drawn_lines",
    "flips",
    "keyed",
    "training_order",
    "validation_features",
    "validation_order",
]

Indices = NDArray[np.int64]
Floats = NDArray[np.float32]
Keyed = Callable[[str, int], np.random.Generator]
"""Returns the keyed generator of (purpose, counter) of one trial."""

FOUR: tuple[Line, ...] = (((2, 16), (30, 16)), ((16, 2), (16, 30)), ((2, 2), (30, 30)), ((2, 30), (30, 2)))
"""The lines of the four-line set (spec 3.4), shown in turn."""


def drawn_lines(lines: str, size: int) -> list[Line]:
    """Return the lines that training may show (all, or four); orders are indices into them."""
    return list(FOUR) if lines == "four" else training_lines(size)


@lru_cache(maxsize=64)
def published_stream(seed: int, count: int, size: int) -> Indices:
    """Return the first lines of the original's generator: one ``random()`` and one ``randint`` each (spec 3.1)."""
    generator = random.Random(seed)
    family = size - 2 * MARGIN + 1
    drawn = np.empty(count, np.int64)
    for place in range(count):
        top = generator.random() >= 0.5
        drawn[place] = generator.randint(MARGIN, size - MARGIN) - MARGIN + top * family
    drawn.setflags(write=False)
    return drawn


def training_order(config: Config, trial: int, generator: np.random.Generator, number: int, count: int) -> Indices:
    """Return the lines of one epoch (counted from 0) of one trial."""
    if config.data.lines == "four":
        return np.arange(count) % len(FOUR)
    if config.random == "published":
        return _published(config, trial, _passed(config, number), count)
    return _keyed(generator, count, config.data.size)


def validation_order(config: Config, trial: int, keyed: Keyed, epoch: int) -> Indices:
    """Return the lines of the validation pass after an epoch (counted from 1; 0: before the first)."""
    count = config.data.validation
    if config.data.lines == "four":
        return np.arange(count) % len(FOUR)
    if config.random == "published":
        first = 0 if epoch == 0 else _passed(config, epoch - 1) + config.data.train
        return _published(config, trial, first, count)
    return _keyed(keyed("validation", epoch), count, config.data.size)


def _passed(config: Config, epochs: int) -> int:
    """Return how many lines the original's stream gave before the training lines of an epoch."""
    initial = config.data.validation if config.train.initial_validation else 0
    return initial + epochs * (config.data.train + config.data.validation)


def _published(config: Config, trial: int, first: int, count: int) -> Indices:
    # All epochs at once, so that the stream is drawn once and not anew for every epoch.
    length = max(first + count, _passed(config, config.train.epochs))
    return published_stream(config.published_seed + trial, length, config.data.size)[first : first + count]


def _keyed(generator: np.random.Generator, count: int, size: int) -> Indices:
    family = size - 2 * MARGIN + 1
    uniform = generator.random((count, 2))
    index = (uniform[:, 1] * family).astype(np.int64) + np.where(uniform[:, 0] < 0.5, 0, family)
    return np.asarray(index, np.int64)


def curves(config: Config, keyed: Keyed, count: int) -> NDArray[np.uint8]:
    """Return the curved lines of the evaluation (spec 3.2)."""
    size = config.data.size
    if config.random == "published":
        return _published_curves(config.evaluate.noise_seed, count, size)
    found = []
    for place in range(count):
        generator = keyed("curved", place)
        heights = generator.integers(MARGIN, size - MARGIN, 4)
        found.append(curve(heights.tolist(), bool(generator.random() < 0.5), size))
    return np.stack(found)


def _published_curves(seed: int, count: int, size: int) -> NDArray[np.uint8]:
    heights, turns = np.random.RandomState(seed), random.Random(seed)
    drawn = [(heights.randint(MARGIN, size - MARGIN, size=4).tolist(), turns.random() < 0.5) for _ in range(count)]
    return np.stack([curve(each, turned, size) for each, turned in drawn])


def flips(config: Config, keyed: Keyed, repeat: int, count: int, entries: int) -> Indices:
    """Return, for each image, the order in which noise flips its features, (N, F·P) (spec 3.5)."""
    if config.random == "published":
        return _published_flips(config.evaluate.noise_seed, count, entries)
    return np.stack([keyed("noise", repeat * 2**32 + image).permutation(entries) for image in range(count)])


@lru_cache(maxsize=4)
def _published_flips(seed: int, count: int, entries: int) -> Indices:
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn = np.stack([torch.randperm(entries, generator=generator).numpy() for _ in range(count)])
    drawn.setflags(write=False)
    return drawn


def keyed(block: Block, lane: int) -> Keyed:
    """Return the keyed host draws of one trial."""
    return lambda purpose, counter: block.generator(lane, purpose, counter)


@attrs.frozen(eq=False)
class Shown:
    """The validation images of an epoch: features (N, F, H, W), and the draws of Bernoulli cells (N, T, F, P)."""

    lines: NDArray[np.int64]
    features: Floats
    uniform: Floats | None


def validation_features(block: Block, lane: int, epoch: int) -> Shown:
    """Return what a validation pass shows to one trial."""
    config: Config = block.configs[lane]
    draws: Callable[..., Any] = keyed(block, lane)
    order = validation_order(config, block.members[lane].trial, draws, epoch)
    found = block.data["lines"].tensors[0].cpu().numpy()[order]
    if config.s1.activation == "bernoulli":
        found = (draws("validation-s1", epoch).random(found.shape, np.float32) < found).astype(np.float32)
    uniform = None
    if config.dynamics.theta is None:
        shape = (len(found), config.s2.timesteps, FEATURES, found[0, 0].size)
        uniform = draws("validation-cells", epoch).random(shape, np.float32)
    return Shown(order, found, uniform)
