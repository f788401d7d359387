"""Run S2 in dense tensor operations of fixed shapes: for CUDA, for batches, under vmap and in captured graphs.

Sums that decide something are taken in float64 where the device has it, where sums of float32 weights are exact in any
order: so a GPU computes the bits of a CPU, and the kernels that it has for two of these sums give them as well.

Axes: N image, T time step, F feature, P position, H row, W column, A alternative, C channel, I input channel, K place
in a cell's neighbourhood, G = F·K, D = I·K.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import attrs
import torch
from torch.nn import functional

from xfw_netfragments.layer import EPSILON, FEATURES, Dynamics, Layer, Learning, median_rank

__all__ = ["Activity", "Winners", "change", "fire", "median", "normalise", "settle", "settle_many", "winners"]

Draws = Callable[[int], torch.Tensor]
"""Returns the uniform numbers (N, F, P) of a time step."""


@attrs.frozen(eq=False)
class Winners:
    """The cells that may act, and what the features give them: constant over the time steps, each (N, F, P)."""

    channel: torch.Tensor
    support: torch.Tensor
    height: int
    width: int


@attrs.frozen(eq=False)
class Activity:
    """What the winners did: firing (0 or 1), support before attenuation, normalised support v̂, each (T, N, F, P)."""

    z: torch.Tensor
    support: torch.Tensor
    strength: torch.Tensor


def exact(device: torch.device) -> torch.dtype:
    """Return the type of sums that decide something."""
    return torch.float32 if device.type == "mps" else torch.float64


def winners(weight: torch.Tensor, features_NFHW: torch.Tensor, layer: Layer) -> Winners:
    """Return the winning alternative of every feature at every position: argmax of 3m − n (spec 2.3)."""
    count, _, height, width = features_NFHW.shape
    seen_NFHW = features_NFHW > 0.5
    patches_NGP = patches(seen_NFHW.float(), layer)
    flat = weight.reshape(layer.channels, -1)
    depth = FEATURES * layer.area
    matches_NCP = (flat[:, :depth] > 0).to(patches_NGP.dtype) @ patches_NGP
    score = 3 * matches_NCP - (flat > 0).sum(1).to(matches_NCP.dtype)[:, None]
    # Ties go to the smallest alternative; argmax alone does not promise that on every device.
    rank_A = torch.arange(layer.alternatives, device=weight.device, dtype=score.dtype)
    score = score.reshape(count, FEATURES, layer.alternatives, -1) * layer.alternatives - rank_A[:, None]
    first_F = torch.arange(FEATURES, device=weight.device)[:, None] * layer.alternatives
    channel_NFP = score.argmax(2) + first_F
    if has_kernels(weight):
        support_NFP = added_from_features(weight, seen_NFHW, channel_NFP)
        return Winners(channel_NFP, support_NFP, height, width)
    kind = exact(weight.device)
    support_NCP = flat[:, :depth].to(kind) @ patches_NGP.to(kind)
    return Winners(channel_NFP, support_NCP.gather(1, channel_NFP), height, width)


def patches(values_NIHW: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Return what every cell has around it, zeros beyond the border, (N, I·K, P).

    ``unfold`` of ``torch.nn.functional`` takes several times as long on a CPU, and launches a kernel an image on a GPU.
    """
    count, inputs, height, width = values_NIHW.shape
    padded = functional.pad(values_NIHW, (layer.locality,) * 4)
    windows = padded.unfold(2, layer.side, 1).unfold(3, layer.side, 1)
    return windows.permute(0, 1, 4, 5, 2, 3).reshape(count, inputs * layer.area, height * width)


def has_kernels(weight: torch.Tensor) -> bool:
    """Tell whether the device has kernels that add at the active inputs alone (``kernels``)."""
    return weight.device.type == "cuda" and importlib.util.find_spec("triton") is not None


def added_from_features(weight: torch.Tensor, seen_NFHW: torch.Tensor, receiver_NRP: torch.Tensor) -> torch.Tensor:
    """Return by a kernel what the features that are present give channels, (N, R, P)."""
    from xfw_netfragments import kernels

    own_F1 = torch.arange(FEATURES, device=weight.device)[:, None]
    source_NFP = torch.where(seen_NFHW.flatten(2), own_F1, -1)
    return kernels.support(weight, receiver_NRP, source_NFP, seen_NFHW.shape[2])


def added_from_cells(
    weight: torch.Tensor, z_NSP: torch.Tensor, channel_NSP: torch.Tensor, found: Winners, receiver_NRP: torch.Tensor
) -> torch.Tensor:
    """Return by a kernel what the cells of some channels that fired give channels, (N, R, P)."""
    from xfw_netfragments import kernels

    return kernels.support(weight, receiver_NRP, torch.where(z_NSP > 0, FEATURES + channel_NSP, -1), found.height)


Given = Callable[[torch.Tensor], torch.Tensor]
"""Returns what the winners that fired (N, F, P) give each other."""


def lateral_support(weight: torch.Tensor, found: Winners, layer: Layer) -> Given:
    """Return the function that adds up what the winners of a time step give each other."""
    if has_kernels(weight):
        return lambda z_NFP: added_from_cells(weight, z_NFP, found.channel, found, found.channel)
    connections = _connections(weight, found, layer)

    def multiplied(z_NFP: torch.Tensor) -> torch.Tensor:
        around_NGP = patches(z_NFP.reshape(*z_NFP.shape[:2], found.height, found.width), layer)
        given = connections @ around_NGP.transpose(1, 2)[..., None].to(connections.dtype)
        return given[..., 0].transpose(1, 2)

    return multiplied


def _connections(weight: torch.Tensor, found: Winners, layer: Layer) -> torch.Tensor:
    """Return the weights between winners, from the winners of each place in the neighbourhood: (N, P, F, F·K)."""
    count, _, places = found.channel.shape
    around_NGP = patches(found.channel.reshape(count, FEATURES, found.height, found.width), layer)
    place_G = torch.arange(layer.area, device=weight.device).repeat(FEATURES)
    source_NPG = ((FEATURES + around_NGP) * layer.area + place_G[:, None]).transpose(1, 2)
    base_NPF = found.channel.transpose(1, 2) * (layer.inputs * layer.area)
    index = base_NPF[..., None] + source_NPG[:, :, None, :]
    return weight.reshape(-1)[index.reshape(-1)].reshape(count, places, FEATURES, -1).to(exact(weight.device))


def settle(
    weight: torch.Tensor, found: Winners, layer: Layer, dynamics: Dynamics, draws: Draws | None = None
) -> Activity:
    """Let the activity settle over the time steps (spec 2.3)."""
    return settle_many(weight, found, layer, [dynamics], draws)[0]


def settle_many(
    weight: torch.Tensor, found: Winners, layer: Layer, dynamics: Sequence[Dynamics], draws: Draws | None = None
) -> list[Activity]:
    """Let the activity settle once for each of several dynamics; connections that are copied are copied once."""
    several = any(each.timesteps > 1 for each in dynamics)
    given = lateral_support(weight, found, layer) if several else None
    return [_settle(given, found, layer, each, draws, weight.dtype) for each in dynamics]


def _settle(
    given: Given | None,
    found: Winners,
    layer: Layer,
    dynamics: Dynamics,
    draws: Draws | None,
    dtype: torch.dtype,
) -> Activity:
    z_t: list[torch.Tensor] = []
    support_t, strength_t = [], []
    for step in range(dynamics.timesteps):
        support = found.support
        if given is not None and z_t:
            support = support + given(z_t[-1])
        support_t.append(support.to(dtype))
        strength_t.append(normalise(support_t[-1], layer.limit, dynamics.theta is None))
        z_t.append(fire(strength_t[-1], dynamics, step, None if draws is None else draws(step)))
    return Activity(torch.stack(z_t), torch.stack(support_t), torch.stack(strength_t))


def attenuated(support: torch.Tensor, limit: float) -> torch.Tensor:
    """Return g(s): support beyond the limit inhibits (spec 2.3, step 4)."""
    return torch.where(support < limit, support, limit - (support - limit) / 2)


def normalise(support_NFP: torch.Tensor, limit: float, clipped: bool) -> torch.Tensor:
    """Return v̂: attenuated support over its maximum within the image and feature (spec 2.3, steps 4 to 6)."""
    support = attenuated(support_NFP, limit)
    # Losing alternatives count as 0, so with more than one of them the maximum is not negative.
    strength = support / (EPSILON + support.amax(-1, keepdim=True).clamp_min(0))
    return strength.clamp(0, 1) if clipped else strength


def fire(strength: torch.Tensor, dynamics: Dynamics, step: int, uniform: torch.Tensor | None) -> torch.Tensor:
    """Return which winners fire in a time step (spec 2.3, step 7), as 0 and 1."""
    if dynamics.theta is not None:
        return (strength >= float(dynamics.cuts[step])).to(strength.dtype)
    assert uniform is not None
    return (uniform < strength.clamp(0, 1) ** dynamics.power[step]).to(strength.dtype)


def median(z_TNFP: torch.Tensor) -> torch.Tensor:
    """Return the lower median over the time steps (spec 2.4)."""
    return (z_TNFP.sum(0) >= median_rank(len(z_TNFP))).to(z_TNFP.dtype)


def by_channel(values_NFP: torch.Tensor, channel_NFP: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Return the winners' values in their channels, 0 for the losers, (N, C, P)."""
    spread = values_NFP.repeat_interleave(layer.alternatives, 1)
    own_C1 = torch.arange(layer.channels, device=values_NFP.device)[:, None]
    return torch.where(channel_NFP.repeat_interleave(layer.alternatives, 1) == own_C1, spread, 0.0)


def change(
    weight: torch.Tensor, features_NFHW: torch.Tensor, active_NCP: torch.Tensor, layer: Layer, learning: Learning
) -> torch.Tensor:
    """Return the weights after learning from a batch of images; ``active`` is the median (spec 2.4).

    P·Δ = Σ ȳ(2 min(X, 1) + [X > 0]) − Σ ȳ − Σ min(X, 1), or Σ ȳ min(X, 1) where disagreement is free.
    """
    count, _, height, width = features_NFHW.shape
    active = active_NCP.reshape(count, layer.channels, height, width)
    inputs_NIHW = torch.cat([features_NFHW, active], 1)
    capped = inputs_NIHW.clamp_max(1)
    counted = 2 * capped + (inputs_NIHW > 0).to(capped.dtype) if learning.negative_correlation else capped
    both_CD = coincidences(active, counted, layer)
    if learning.negative_correlation:
        both_CD = both_CD - active_NCP.sum((0, 2))[:, None] - presented(capped, layer).reshape(1, -1)
    delta = (both_CD / (count * height * width)).clamp_min(0)
    smallest = delta.min()
    scaled = (delta - smallest) / (delta.max() - smallest + EPSILON)
    changed = (weight + (learning.rate * scaled).reshape(weight.shape)).clamp(0, 1)
    return unit_norm(changed) if layer.alternatives == 1 else changed


def coincidences(active_NCHW: torch.Tensor, counted_NIHW: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Return how often each cell was active together with each of its inputs, (C, D)."""
    if has_kernels(active_NCHW):
        from xfw_netfragments import kernels

        return kernels.coincidences(active_NCHW, counted_NIHW, layer.side).flatten(1)
    return torch.einsum("ncp,ndp->cd", active_NCHW.flatten(2), patches(counted_NIHW, layer))


def presented(capped_NIHW: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Return how often each input was active at each place of a cell's neighbourhood, (I, K); less at the border."""
    height, width = capped_NIHW.shape[2:]
    ones = torch.ones(1, 1, height, width, dtype=capped_NIHW.dtype, device=capped_NIHW.device)
    inside = patches(ones, layer)
    # The cells that see position q at place k are those that the mirrored place of q sees.
    return torch.einsum("nip,kp->ik", capped_NIHW.flatten(2), inside[0].flip(0))


def unit_norm(weight: torch.Tensor) -> torch.Tensor:
    """Return the weights of one-cell features divided by a fifth of their norm, cell by cell (spec 2.5)."""
    norm_C = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return torch.as_tensor(weight / (EPSILON + 0.2 * norm_C)[:, None, None, None])
