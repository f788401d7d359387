"""Run S2 on one image on a CPU, at the cost of its active cells alone.

Sums are taken in float64, where sums of float32 weights are exact in any order, and rounded once. Axes: T time step,
F feature, P position (row by row), C channel, I input channel, K place in a cell's neighbourhood, n active input.
A *padded* position counts in an image with a frame as wide as the reach of the connections.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw_netfragments.layer import EPSILON, FEATURES, Dynamics, Layer, Learning, median_rank

__all__ = ["Activity", "Change", "Seen", "Winners", "apply", "change", "look", "settle", "settle_all", "winners"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.intp]
Truths = NDArray[np.bool_]


@attrs.frozen(eq=False)
class Grid:
    """The places of an image and of its padded form."""

    height: int
    width: int
    locality: int

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width with the frame."""
        return self.height + 2 * self.locality, self.width + 2 * self.locality

    @property
    def cells(self) -> int:
        """The number of padded positions."""
        return self.padded[0] * self.padded[1]

    @property
    def ahead(self) -> Indices:
        """Return, from an input's position to the padded positions of the cells that see it at each place."""
        side = 2 * self.locality + 1
        back = np.arange(side)[::-1]
        return (back[:, None] * self.padded[1] + back[None, :]).reshape(-1)

    def origin(self, position_n: Indices) -> Indices:
        """Return the padded position that lies L rows above and L columns left of each position."""
        return position_n // self.width * self.padded[1] + position_n % self.width

    def pad(self, values_FP: NDArray[np.intp]) -> Indices:
        """Return values with a frame of zeros."""
        framed = np.zeros((len(values_FP), *self.padded), values_FP.dtype)
        self._inner(framed)[...] = values_FP.reshape(len(values_FP), self.height, self.width)
        return framed.reshape(len(values_FP), -1)

    def crop(self, padded_FP: Doubles) -> Doubles:
        """Return padded values without the frame, (F, P)."""
        return np.asarray(self._inner(padded_FP.reshape(-1, *self.padded)).reshape(len(padded_FP), -1))

    def _inner(self, framed: NDArray[Any]) -> NDArray[Any]:
        reach = self.locality
        return framed[:, reach : reach + self.height, reach : reach + self.width]


@lru_cache(maxsize=16)
def grid_of(height: int, width: int, locality: int) -> Grid:
    """Return the grid of an image size."""
    return Grid(height, width, locality)


@attrs.frozen(eq=False)
class Seen:
    """The features of one image and what follows from them alone, whatever the weights are.

    ``feature_n``, ``position_n``: those above 0.5, which S2 sees.
    """

    grid: Grid
    features_FP: Floats
    feature_n: Indices
    position_n: Indices

    @cached_property
    def patches(self) -> tuple[Indices, Floats]:
        """The positions that see any feature, and what they see in their neighbourhood, (positions, F·K)."""
        grid, reach = self.grid, self.grid.locality
        seen = (self.features_FP > 0.5).reshape(-1, grid.height, grid.width)
        framed = np.pad(seen, ((0, 0), (reach, reach), (reach, reach)))
        sides = (2 * reach + 1, 2 * reach + 1)
        windows = np.lib.stride_tricks.sliding_window_view(framed, sides, axis=(1, 2))
        y, x = np.nonzero(np.lib.stride_tricks.sliding_window_view(framed.any(0), sides).any((2, 3)))
        found = windows[:, y, x].transpose(1, 0, 2, 3).reshape(len(y), len(seen) * sides[0] ** 2).astype(np.float32)
        return y * grid.width + x, found


@attrs.frozen(eq=False)
class Winners:
    """The cells that may act on one image, and what the features give them: constant over the time steps."""

    grid: Grid
    channel_FP: Indices
    feature_support_FP: Doubles


@attrs.frozen(eq=False)
class Activity:
    """What the winners did: firing, support before attenuation, and normalised support v̂, each (T, F, P)."""

    z_TFP: Truths
    support_TFP: Floats
    strength_TFP: Floats


@attrs.frozen(eq=False)
class Change:
    """The connections that one image changes (flat indices into W) and their new weights."""

    index: Indices
    weight: Floats


def look(features_FHW: Floats, layer: Layer) -> Seen:
    """Return the features of one image as S2 sees them."""
    count, height, width = features_FHW.shape
    grid = grid_of(height, width, layer.locality)
    features_FP = features_FHW.reshape(count, -1)
    feature_n, position_n = np.nonzero(features_FP > 0.5)
    return Seen(grid, features_FP, feature_n, position_n)


def winners(weight: Floats, seen: Seen, layer: Layer) -> Winners:
    """Return the winning alternative of every feature at every position: argmax of 3m − n (spec 2.3)."""
    grid = seen.grid
    flat = weight.reshape(layer.channels, -1)
    connections_C = (flat > 0).sum(1)
    rows, patches = seen.patches
    matches = patches @ (flat[:, : FEATURES * layer.area] > 0).astype(np.float32).T
    score = (3 * matches - connections_C.astype(np.float32)).reshape(-1, FEATURES, layer.alternatives)
    silent_F = (-connections_C).reshape(FEATURES, layer.alternatives).argmax(1)
    alternative = np.repeat(silent_F[:, None], grid.height * grid.width, axis=1)
    alternative[:, rows] = score.argmax(2).T
    channel_FP = alternative + np.arange(FEATURES)[:, None] * layer.alternatives
    base_FP = grid.pad(channel_FP * (layer.inputs * layer.area))
    support = _spread(weight, base_FP, seen.feature_n, seen.position_n, None, layer, grid)
    return Winners(grid, channel_FP, grid.crop(support))


def _spread(
    weight: Floats,
    base_FP: Indices,
    input_n: Indices,
    position_n: Indices,
    sign_n: Doubles | None,
    layer: Layer,
    grid: Grid,
) -> Doubles:
    """Return the support that active inputs give to the winners around them, on padded positions."""
    target_nK = grid.origin(position_n)[:, None] + grid.ahead
    place_nK = (input_n * layer.area)[:, None] + np.arange(layer.area)
    given: NDArray[Any] = weight.reshape(-1).take(base_FP.take(target_nK, axis=1) + place_nK)
    if sign_n is not None:
        given = given * sign_n[:, None]
    into = target_nK + (np.arange(FEATURES) * grid.cells)[:, None, None]
    summed = np.bincount(into.reshape(-1), given.reshape(-1), FEATURES * grid.cells)
    return np.asarray(summed, np.float64).reshape(FEATURES, -1)


def settle(
    weight: Floats, found: Winners, layer: Layer, dynamics: Dynamics, uniform_TFP: Floats | None = None
) -> Activity:
    """Let the activity settle over the time steps (spec 2.3); Bernoulli cells fire where the draw is below v̂^γ."""
    grid, shape = found.grid, (dynamics.timesteps, *found.channel_FP.shape)
    result = Activity(np.zeros(shape, bool), np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    base_FP = grid.pad(found.channel_FP * (layer.inputs * layer.area))
    recurrent = np.zeros((FEATURES, grid.cells))
    before = np.zeros(found.channel_FP.shape, bool)
    for step in range(dynamics.timesteps):
        now = result.z_TFP[step - 1] if step else before
        switched_n = np.nonzero(now != before)
        if step and not len(switched_n[0]):
            result.support_TFP[step], result.strength_TFP[step] = (
                result.support_TFP[step - 1],
                result.strength_TFP[step - 1],
            )
        else:
            if len(switched_n[0]):
                sign_n = np.where(now[switched_n], 1.0, -1.0)
                inputs_n = FEATURES + found.channel_FP[switched_n]
                recurrent += _spread(weight, base_FP, inputs_n, switched_n[1], sign_n, layer, grid)
            result.support_TFP[step] = found.feature_support_FP + grid.crop(recurrent)
            result.strength_TFP[step] = normalise(result.support_TFP[step], layer.limit, dynamics.theta is None)
        result.z_TFP[step] = fire(result.strength_TFP[step], dynamics, step, uniform_TFP)
        before = now
    return result


def normalise(support_FP: Floats, limit: float, clipped: bool) -> Floats:
    """Return v̂: attenuated support over its maximum within the feature (spec 2.3, steps 4 to 6)."""
    bound = np.float32(limit)
    attenuated = np.where(support_FP < bound, support_FP, bound - (support_FP - bound) / np.float32(2))
    # Losing alternatives count as 0, so with more than one of them the maximum is not negative.
    largest_F1 = np.maximum(attenuated.max(1, keepdims=True), np.float32(0))
    strength = attenuated / (np.float32(EPSILON) + largest_F1)
    return np.asarray(np.clip(strength, 0, 1) if clipped else strength, np.float32)


def fire(strength_FP: Floats, dynamics: Dynamics, step: int, uniform_TFP: Floats | None) -> Truths:
    """Return which winners fire in a time step (spec 2.3, step 7)."""
    if dynamics.theta is not None:
        return np.asarray(strength_FP >= dynamics.cuts[step])
    assert uniform_TFP is not None
    return np.asarray(uniform_TFP[step] < strength_FP ** np.float32(dynamics.power[step]))


def change(weight: Floats, seen: Seen, z_TFP: Truths, found: Winners, layer: Layer, learning: Learning) -> Change:
    """Return what one image changes (spec 2.4)."""
    grid, area, features_FP = found.grid, layer.area, seen.features_FP
    active_FP = z_TFP.sum(0) >= median_rank(len(z_TFP))
    cell_F, cell_P = np.nonzero(active_FP)
    row_n = found.channel_FP[cell_F, cell_P]
    feature, place = np.nonzero(features_FP)
    value = features_FP[feature, place].astype(np.float64)
    channel_i = np.concatenate([feature, FEATURES + row_n])
    position_i = np.concatenate([place, cell_P])
    value_i = np.concatenate([np.minimum(value, 1.0), np.ones(len(row_n))])
    index, both = _coincidences(row_n, cell_P, channel_i, position_i, value_i, learning, layer, grid)
    if not len(index):
        return Change(index, np.zeros(0, np.float32))
    if learning.negative_correlation:
        posts_C = np.bincount(row_n, minlength=layer.channels)
        pres_IK = _presented(channel_i, position_i, value_i, layer, grid)
        both = both - posts_C[index // (layer.inputs * area)] - pres_IK.reshape(-1)[index % (layer.inputs * area)]
    delta = np.maximum((both / (grid.height * grid.width)).astype(np.float32), np.float32(0))
    # Connections that are not listed have no coincidence, so their change is 0.
    smallest = delta.min() if len(index) == weight.size else np.float32(0)
    scaled = (delta - smallest) / (delta.max() - smallest + np.float32(EPSILON))
    return Change(index, np.clip(weight.reshape(-1)[index] + np.float32(learning.rate) * scaled, 0, 1))


def _coincidences(
    row_n: Indices,
    cell_n: Indices,
    channel_i: Indices,
    position_i: Indices,
    value_i: Doubles,
    learning: Learning,
    layer: Layer,
    grid: Grid,
) -> tuple[Indices, Doubles]:
    """Return the connections whose ends were active together, and how much that counts for each."""
    reach, side = layer.locality, layer.side
    dy = position_i[None, :] // grid.width - cell_n[:, None] // grid.width + reach
    dx = position_i[None, :] % grid.width - cell_n[:, None] % grid.width + reach
    near = (dy >= 0) & (dy < side) & (dx >= 0) & (dx < side)
    cell, source = np.nonzero(near)
    depth = layer.inputs * layer.area
    pair = row_n[cell] * depth + channel_i[source] * layer.area + dy[near] * side + dx[near]
    index, inverse = np.unique(pair, return_inverse=True)
    # 2 min(X, 1) + [X > 0] where disagreement counts, else min(X, 1) alone.
    counted_i = 2.0 * value_i + 1.0 if learning.negative_correlation else value_i
    return index, np.asarray(np.bincount(inverse, counted_i[source], len(index)), np.float64)


def _presented(channel_i: Indices, position_i: Indices, value_i: Doubles, layer: Layer, grid: Grid) -> Doubles:
    """Return how often each input was active at each place of a cell's neighbourhood, (I, K); less at the border."""
    back = np.arange(layer.side)[::-1] - layer.locality
    y_iK = (position_i // grid.width)[:, None] + back
    x_iK = (position_i % grid.width)[:, None] + back
    inside_y = (y_iK >= 0) & (y_iK < grid.height)
    inside_x = (x_iK >= 0) & (x_iK < grid.width)
    seen = (inside_y[:, :, None] & inside_x[:, None, :]).reshape(len(position_i), -1)
    by_channel = np.zeros((layer.inputs, len(position_i)), np.float32)
    by_channel[channel_i, np.arange(len(position_i))] = value_i
    return np.asarray(by_channel @ seen.astype(np.float32), np.float64)


def settle_all(weight: Floats, seen: Seen, found: Winners, activity: Activity, layer: Layer) -> Floats:
    """Return the support of all channels, losers included, at every time step, (T, C, P)."""
    grid = found.grid
    # The weights that leave an input, by the cell's place relative to it.
    leaving = weight[:, :, ::-1, ::-1]
    total = np.zeros((layer.channels, *grid.padded))
    _add_all(total, leaving, seen.feature_n, seen.position_n, np.ones(len(seen.feature_n)), grid)
    before = np.zeros(found.channel_FP.shape, bool)
    supports = []
    for step in range(len(activity.z_TFP)):
        now = activity.z_TFP[step - 1] if step else before
        switched = np.nonzero(now != before)
        sources = FEATURES + found.channel_FP[switched]
        _add_all(total, leaving, sources, switched[1], np.where(now[switched], 1.0, -1.0), grid)
        before = now
        supports.append(grid.crop(total.reshape(layer.channels, -1)).astype(np.float32))
    return np.stack(supports)


def _add_all(
    total: Doubles, leaving: Floats, input_n: Indices, position_n: Indices, sign_n: Doubles, grid: Grid
) -> None:
    side = 2 * grid.locality + 1
    for source, position, sign in zip(input_n.tolist(), position_n.tolist(), sign_n.tolist(), strict=True):
        y, x = divmod(position, grid.width)
        total[:, y : y + side, x : x + side] += sign * leaving[:, source]


def apply(weight: Floats, changed: Change) -> bool:
    """Write new weights in place; return whether any of them differs from the old one."""
    flat = weight.reshape(-1)
    differs = bool((flat[changed.index] != changed.weight).any())
    flat[changed.index] = changed.weight
    return differs
