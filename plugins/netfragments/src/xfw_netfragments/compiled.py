"""Run S2 on one image on a CPU by compiled loops (numba, the extra ``fast``): the numbers of ``sparse``, bit for bit.

Sums are taken in float64, where sums of float32 weights are exact in any order. Axes as in ``sparse``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from xfw_netfragments.layer import EPSILON, FEATURES, Dynamics, Layer, Learning, median_rank
from xfw_netfragments.sparse import Activity, Change, Doubles, Floats, Indices, Seen, Truths, Winners

__all__ = ["change", "settle", "winners"]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of arrays; keep the machine code for the next process where a folder allows it."""
    try:
        return numba.njit(function, cache=True)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder can be written
        return numba.njit(function)  # type: ignore[no-any-return]


def winners(weight: Floats, seen: Seen, layer: Layer) -> Winners:
    """Return the winning alternative of every feature at every position: argmax of 3m − n (spec 2.3)."""
    channel_FP, support_FP = _winners(
        weight, seen.feature_n, seen.position_n, layer.alternatives, seen.grid.height, seen.grid.width
    )
    return Winners(seen.grid, channel_FP, support_FP)


def settle(
    weight: Floats, found: Winners, layer: Layer, dynamics: Dynamics, uniform_TFP: Floats | None = None
) -> Activity:
    """Let the activity settle over the time steps (spec 2.3); Bernoulli cells fire where the draw is below v̂^γ."""
    grid = found.grid
    if dynamics.theta is None:
        cuts, powers = np.zeros(dynamics.timesteps, np.float32), np.array(dynamics.power, np.float32)
        assert uniform_TFP is not None
        draws = np.ascontiguousarray(uniform_TFP)
    else:
        cuts, powers, draws = dynamics.cuts, np.zeros(0, np.float32), np.zeros((0, 0, 0), np.float32)
    limit = np.float32(layer.limit)
    parts = (found.channel_FP, found.feature_support_FP, cuts, powers, draws, limit, grid.height, grid.width)
    return Activity(*_settle(weight, *parts))


def change(weight: Floats, seen: Seen, z_TFP: Truths, found: Winners, _layer: Layer, learning: Learning) -> Change:
    """Return what one image changes (spec 2.4)."""
    grid = found.grid
    index, delta = _deltas(
        weight.shape,
        seen.features_FP,
        z_TFP,
        found.channel_FP,
        median_rank(len(z_TFP)),
        learning.negative_correlation,
        grid.height,
        grid.width,
    )
    if not len(index):
        return Change(index, delta)
    smallest = delta.min() if len(index) == weight.size else np.float32(0)
    scaled = (delta - smallest) / (delta.max() - smallest + np.float32(EPSILON))
    return Change(index, np.clip(weight.reshape(-1)[index] + np.float32(learning.rate) * scaled, 0, 1))


@_compiled
def _winners(
    weight: Floats, feature_n: Indices, position_n: Indices, alternatives: int, height: int, width: int
) -> tuple[Indices, Doubles]:
    channels, side = weight.shape[0], weight.shape[2]
    reach = side // 2
    channel_FP = np.empty((FEATURES, height * width), np.intp)
    best_P = np.empty(height * width, np.int64)
    match_P = np.empty(height * width, np.int64)
    # Features come in rising order: those of one kind stand together.
    starts = np.searchsorted(feature_n, np.arange(FEATURES + 1))
    for channel in range(channels):
        match_P[:] = 0
        for feature in range(FEATURES):
            for dy in range(side):
                for dx in range(side):
                    if weight[channel, feature, dy, dx] > 0:
                        for n in range(starts[feature], starts[feature + 1]):
                            y = position_n[n] // width - dy + reach
                            x = position_n[n] % width - dx + reach
                            if 0 <= y < height and 0 <= x < width:
                                match_P[y * width + x] += 1
        connections = 0
        for value in weight[channel].reshape(-1):
            connections += value > 0
        feature = channel // alternatives
        for place in range(height * width):
            score = 3 * match_P[place] - connections
            if channel % alternatives == 0 or score > best_P[place]:
                best_P[place] = score
                channel_FP[feature, place] = channel
    support_FP = np.zeros((FEATURES, height * width))
    for n in range(len(feature_n)):
        _spread(weight, channel_FP, support_FP, feature_n[n], position_n[n], 1.0, height, width)
    return channel_FP, support_FP


@_compiled
def _spread(
    weight: Floats,
    channel_FP: Indices,
    support_FP: Doubles,
    source: int,
    position: int,
    sign: float,
    height: int,
    width: int,
) -> None:
    side = weight.shape[2]
    row, column = position // width + side // 2, position % width + side // 2
    for feature in range(FEATURES):
        for dy in range(max(0, row - height + 1), min(side, row + 1)):
            for dx in range(max(0, column - width + 1), min(side, column + 1)):
                place = (row - dy) * width + column - dx
                support_FP[feature, place] += sign * weight[channel_FP[feature, place], source, dy, dx]


@_compiled
def _settle(
    weight: Floats,
    channel_FP: Indices,
    feature_support_FP: Doubles,
    cuts: Floats,
    powers: Floats,
    draws: Floats,
    limit: Any,
    height: int,
    width: int,
) -> tuple[Truths, Floats, Floats]:
    steps, places = len(cuts), height * width
    z_TFP = np.zeros((steps, FEATURES, places), np.bool_)
    support_TFP = np.zeros((steps, FEATURES, places), np.float32)
    strength_TFP = np.zeros((steps, FEATURES, places), np.float32)
    recurrent = np.zeros((FEATURES, places))
    for step in range(steps):
        if step:
            for feature in range(FEATURES):
                for place in range(places):
                    now = z_TFP[step - 1, feature, place]
                    if now != (step > 1 and z_TFP[step - 2, feature, place]):
                        source, sign = FEATURES + channel_FP[feature, place], 1.0 if now else -1.0
                        _spread(weight, channel_FP, recurrent, source, place, sign, height, width)
        for feature in range(FEATURES):
            for place in range(places):
                support_TFP[step, feature, place] = feature_support_FP[feature, place] + recurrent[feature, place]
            _strength(support_TFP[step, feature], strength_TFP[step, feature], limit, len(powers) > 0)
            for place in range(places):
                strength = strength_TFP[step, feature, place]
                if len(powers) == 0:
                    z_TFP[step, feature, place] = strength >= cuts[step]
                elif strength > 0:
                    z_TFP[step, feature, place] = draws[step, feature, place] < strength ** powers[step]
    return z_TFP, support_TFP, strength_TFP


@_compiled
def _strength(support_P: Floats, strength_P: Floats, limit: Any, clipped: bool) -> None:
    largest = np.float32(0)
    for place in range(len(support_P)):
        support = support_P[place]
        strength_P[place] = support if support < limit else limit - (support - limit) / np.float32(2)
        largest = max(largest, strength_P[place])
    scale = np.float32(EPSILON) + largest
    for place in range(len(support_P)):
        strength_P[place] /= scale
        if clipped:
            strength_P[place] = min(max(strength_P[place], np.float32(0)), np.float32(1))


@_compiled
def _deltas(
    shape: tuple[int, int, int, int],
    features_FP: Floats,
    z_TFP: Truths,
    channel_FP: Indices,
    rank: int,
    negative: bool,
    height: int,
    width: int,
) -> tuple[Indices, Floats]:
    """Return the connections whose ends were active together (in rising order), and Δ⁺ of each."""
    channels, inputs, side, _ = shape
    places, depth = height * width, inputs * side * side
    active_FP = z_TFP.sum(0) >= rank
    source_n, position_n, value_n = _inputs(features_FP, active_FP, channel_FP)
    posts_C = np.zeros(channels)
    for feature in range(FEATURES):
        for place in range(places):
            if active_FP[feature, place]:
                posts_C[channel_FP[feature, place]] += 1
    presented = _presented(source_n, position_n, value_n, inputs, side, height, width) if negative else np.zeros(depth)
    index = np.empty(int((posts_C > 0).sum()) * depth, np.intp)
    delta = np.empty(len(index), np.float32)
    count = 0
    both = np.zeros(depth)
    for channel in range(channels):
        if posts_C[channel] == 0:
            continue
        both[:] = 0
        feature = _feature_of(channel, channel_FP, active_FP)
        for place in range(places):
            if active_FP[feature, place] and channel_FP[feature, place] == channel:
                _pair(both, place, source_n, position_n, value_n, negative, side, width)
        for k in range(depth):
            if both[k] > 0:
                counted = both[k] - (posts_C[channel] + presented[k] if negative else 0.0)
                index[count] = channel * depth + k
                delta[count] = max(np.float32(counted / places), np.float32(0))
                count += 1
    return index[:count].copy(), delta[:count].copy()


@_compiled
def _feature_of(channel: int, channel_FP: Indices, active_FP: Truths) -> int:
    for feature in range(FEATURES):
        for place in range(active_FP.shape[1]):
            if active_FP[feature, place] and channel_FP[feature, place] == channel:
                return feature
    return 0


@_compiled
def _inputs(features_FP: Floats, active_FP: Truths, channel_FP: Indices) -> tuple[Indices, Indices, Doubles]:
    """Return channel, position and value (at most 1) of every active input."""
    total = int((features_FP != 0).sum() + active_FP.sum())
    source_n, position_n, value_n = np.empty(total, np.intp), np.empty(total, np.intp), np.empty(total)
    count = 0
    for recurrent in range(2):
        for feature in range(FEATURES):
            for place in range(active_FP.shape[1]):
                value = 1.0 * active_FP[feature, place] if recurrent else float(features_FP[feature, place])
                if value != 0:
                    source_n[count] = FEATURES + channel_FP[feature, place] if recurrent else feature
                    position_n[count] = place
                    value_n[count] = min(value, 1.0)
                    count += 1
    return source_n, position_n, value_n


@_compiled
def _pair(
    both: Doubles,
    cell: int,
    source_n: Indices,
    position_n: Indices,
    value_n: Doubles,
    negative: bool,
    side: int,
    width: int,
) -> None:
    """Count the inputs around one active cell: 2 min(X, 1) + [X > 0], or min(X, 1) where disagreement is free."""
    reach = side // 2
    row, column = cell // width - reach, cell % width - reach
    for n in range(len(source_n)):
        dy, dx = position_n[n] // width - row, position_n[n] % width - column
        if 0 <= dy < side and 0 <= dx < side:
            counted = 2.0 * value_n[n] + 1.0 if negative else value_n[n]
            both[(source_n[n] * side + dy) * side + dx] += counted


@_compiled
def _presented(
    source_n: Indices, position_n: Indices, value_n: Doubles, inputs: int, side: int, height: int, width: int
) -> Doubles:
    """Return how often each input was active at each place of a cell's neighbourhood; less at the border."""
    reach = side // 2
    found = np.zeros((inputs, side, side))
    for n in range(len(source_n)):
        y, x = position_n[n] // width + reach, position_n[n] % width + reach
        for dy in range(max(0, y - height + 1), min(side, y + 1)):
            for dx in range(max(0, x - width + 1), min(side, x + 1)):
                found[source_n[n], dy, dx] += value_n[n]
    return found.reshape(-1)
