"""Run S2 with the support of all channels, losers included: statistics of inactive cells, the 2023 form, feedback.

Axes as in ``lateral``: N image, T time step, F feature, C channel, P position, H row, W column.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch.nn import functional

from xfw_netfragments import lateral
from xfw_netfragments.lateral import Draws, Winners, attenuated, by_channel, exact, fire, normalise
from xfw_netfragments.layer import EPSILON, FEATURES, Dynamics, Layer

__all__ = ["FullActivity", "merge", "settle_all"]

Feedback = Callable[[torch.Tensor], torch.Tensor]
"""Returns what the feedback layer makes of the output (N, C, P) of a time step."""


@attrs.frozen(eq=False)
class FullActivity:
    """What all cells did: firing (0 or 1) and support before attenuation, each (T, N, C, P); v̂ of winners."""

    z: torch.Tensor
    support: torch.Tensor
    strength: torch.Tensor


def settle_all(
    weight: torch.Tensor,
    features_NFHW: torch.Tensor,
    found: Winners,
    layer: Layer,
    dynamics: Dynamics,
    draws: Draws | None = None,
    *,
    older: bool = False,
    feedback: Feedback | None = None,
) -> FullActivity:
    """Let the activity settle over the time steps (spec 2.3); ``older`` is the form of 2023 (spec 2.8)."""
    count, _, height, width = features_NFHW.shape
    seen = features_NFHW > 0.5
    if lateral.has_kernels(weight):
        support_of = _added(weight, seen, found, layer, winners_only=feedback is None)
    else:
        support_of = _convolved(weight, seen, found, layer)
    z_t: list[torch.Tensor] = []
    support_t, strength_t = [], []
    z_NCP = features_NFHW.new_zeros(count, layer.channels, height * width)
    for step in range(dynamics.timesteps):
        support = support_of(z_NCP)
        own = support.gather(1, found.channel)
        strength = _older(weight, support, found, layer, dynamics) if older else None
        if strength is None:
            strength = normalise(own, layer.limit, dynamics.theta is None)
        fired = fire(strength, dynamics, step, None if draws is None else draws(step))
        z_NCP = by_channel(fired, found.channel, layer)
        if feedback is not None:
            z_NCP = feedback(z_NCP)
        z_t.append(z_NCP)
        support_t.append(support)
        strength_t.append(strength)
    return FullActivity(torch.stack(z_t), torch.stack(support_t), torch.stack(strength_t))


Support = Callable[[torch.Tensor], torch.Tensor]
"""Returns what all channels get from the features and from the output (N, C, P) of a time step, (N, C, P)."""


def _added(
    weight: torch.Tensor, seen_NFHW: torch.Tensor, found: Winners, layer: Layer, *, winners_only: bool
) -> Support:
    """Add at the active cells; where a feedback layer may have activated others than winners, all are looked at."""
    own_C1 = torch.arange(layer.channels, device=weight.device)[:, None]
    every_NCP = own_C1.expand(len(seen_NFHW), -1, found.height * found.width)
    from_features = lateral.added_from_features(weight, seen_NFHW, every_NCP)

    def support(z_NCP: torch.Tensor) -> torch.Tensor:
        z_NSP = z_NCP.gather(1, found.channel) if winners_only else z_NCP
        channel_NSP = found.channel if winners_only else own_C1
        from_cells = lateral.added_from_cells(weight, z_NSP, channel_NSP, found, every_NCP)
        return (from_features + from_cells).to(weight.dtype)

    return support


def _convolved(weight: torch.Tensor, seen_NFHW: torch.Tensor, found: Winners, layer: Layer) -> Support:
    kind = exact(weight.device)

    def support(z_NCP: torch.Tensor) -> torch.Tensor:
        grid = z_NCP.reshape(len(seen_NFHW), layer.channels, found.height, found.width)
        inputs = torch.cat([seen_NFHW.to(kind), grid.to(kind)], 1)
        return functional.conv2d(inputs, weight.to(kind), padding=layer.locality).flatten(2).to(weight.dtype)

    return support


def _older(
    weight: torch.Tensor, support_NCP: torch.Tensor, found: Winners, layer: Layer, dynamics: Dynamics
) -> torch.Tensor:
    """Return v̂ of the winners in the form of 2023: shares of the weights' sum, over the best of all alternatives."""
    total_C = weight.flatten(1).sum(1, dtype=exact(weight.device)).to(weight.dtype)
    shares = attenuated(support_NCP, layer.limit) / (total_C + EPSILON)[:, None]
    grouped = shares.reshape(len(shares), FEATURES, -1)
    strength = shares.gather(1, found.channel) / (EPSILON + grouped.amax(2, keepdim=True))
    return strength.clamp(0, 1) if dynamics.theta is None else strength


def merge(values_NCP: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Return the maximum over the alternatives, (…, F, P)."""
    shape = (*values_NCP.shape[:-2], FEATURES, layer.alternatives, values_NCP.shape[-1])
    return values_NCP.reshape(shape).amax(-2)
