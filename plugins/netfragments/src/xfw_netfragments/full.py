"""Run S2 with the support of all channels, losers included: statistics of inactive cells, the 2023 form, feedback.

Axes as in ``lateral``: N image, T time step, F feature, C channel, P position, H row, W column.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch
from torch.nn import functional

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
    seen = (features_NFHW > 0.5).to(weight.dtype)
    z_t: list[torch.Tensor] = []
    support_t, strength_t = [], []
    z_NCP = seen.new_zeros(count, layer.channels, height * width)
    for step in range(dynamics.timesteps):
        inputs = torch.cat([seen, z_NCP.reshape(count, -1, height, width)], 1)
        support = _support(weight, inputs, layer)
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


def _support(weight: torch.Tensor, inputs_NIHW: torch.Tensor, layer: Layer) -> torch.Tensor:
    kind = exact(weight.device)
    found = functional.conv2d(inputs_NIHW.to(kind), weight.to(kind), padding=layer.locality)
    return found.flatten(2).to(weight.dtype)


def _older(
    weight: torch.Tensor, support_NCP: torch.Tensor, found: Winners, layer: Layer, dynamics: Dynamics
) -> torch.Tensor:
    """Return v̂ of the winners in the form of 2023: shares of the weights' sum, over the best of all alternatives."""
    shares = attenuated(support_NCP, layer.limit) / (weight.flatten(1).sum(1) + EPSILON)[:, None]
    grouped = shares.reshape(len(shares), FEATURES, -1)
    strength = shares.gather(1, found.channel) / (EPSILON + grouped.amax(2, keepdim=True))
    return strength.clamp(0, 1) if dynamics.theta is None else strength


def merge(values_NCP: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Return the maximum over the alternatives, (…, F, P)."""
    shape = (*values_NCP.shape[:-2], FEATURES, layer.alternatives, values_NCP.shape[-1])
    return values_NCP.reshape(shape).amax(-2)
