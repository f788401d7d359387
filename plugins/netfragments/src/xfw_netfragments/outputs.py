"""Show every trial's network its features, and return what it makes of them under several thresholds and schedules.

Axes: T trial (of a block) or time step (after N), N image, F feature, P position, H row, W column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xfw_netfragments import autoencoder, full, lateral, sparse
from xfw_netfragments.config import Config
from xfw_netfragments.layer import FEATURES, Dynamics
from xfw_netfragments.model import host_kernel, on_host

if TYPE_CHECKING:
    from xfw.engine.block import Block

__all__ = ["Output", "images_at_once", "over_trials", "present"]

MEMORY = 2**31
"""Bytes that are worked on at once, about."""

Floats = NDArray[np.float32]
Truths = NDArray[np.bool_]
Tensors = tuple[torch.Tensor, ...]
Keep = Literal["last", "steps", "strength"]
"""What an output keeps: the activity of the last step, of all steps, or normalised support as well."""


@attrs.frozen(eq=False)
class Output:
    """What the network did with N images: merged activity and, if kept, normalised support, (N, T, F, P)."""

    z: Truths
    strength: Floats | None = None

    @property
    def last(self) -> Truths:
        """Return the activity of the last time step, (N, F·P)."""
        return self.z[:, -1].reshape(len(self.z), -1)


def present(
    block: Block,
    features: Sequence[Floats],
    dynamics: Sequence[Dynamics],
    uniform: Sequence[Floats | None],
    keep: Keep = "steps",
) -> list[list[Output]]:
    """Return what each trial's network makes of its features (N, F, H, W), for each of several dynamics.

    ``uniform`` are its draws for Bernoulli cells (N, T, F, P). The autoencoder has no dynamics: it gives one output.
    """
    config: Config = block.configs[0]
    if config.model == "autoencoder":
        return [[_of_autoencoder(block.module(lane), own)] for lane, own in enumerate(features)]
    weights = block.parameters["weight"].detach()
    if on_host(weights, config):
        each = zip(weights.numpy(), features, uniform, strict=True)
        return [_on_host(config, dynamics, keep, *own) for own in each]
    at_once = images_at_once(config, weights, features[0][0, 0].size, settings=len(dynamics))
    function = partial(_densely, config, dynamics, keep, at_once)
    stacked = over_trials(function, at_once, weights, features, uniform)
    arrays = [[part.cpu().numpy() for part in parts] for parts in stacked]
    return [[Output(*(part[lane] for part in parts)) for parts in arrays] for lane in range(block.size)]


def over_trials(
    function: Callable[..., Any],
    at_once: int,
    weights: torch.Tensor,
    features: Sequence[Floats],
    uniform: Sequence[Floats | None],
) -> Any:
    """Return what a function of a trial's weights, features and draws returns, stacked over the trials.

    As many trials at once as have ``at_once`` images together, and one at least.
    """
    images = torch.from_numpy(np.stack(features)).to(weights.device)
    drawn = [each for each in uniform if each is not None]
    draws = torch.from_numpy(np.stack(drawn)).to(weights.device) if drawn else None
    trials = max(1, at_once // images.shape[1])
    with torch.no_grad():
        return torch.vmap(function, (0, 0, 0 if drawn else None), chunk_size=trials)(weights, images, draws)


def images_at_once(
    config: Config, weights: torch.Tensor, positions: int, *, settings: int = 1, statistics: bool = False
) -> int:
    """Return how many images a device should work on at once, from what each of their positions takes there."""
    layer, timesteps = config.layer, config.s2.timesteps
    around = FEATURES * layer.area
    nbytes = 4 * around + 32 * layer.channels + 2 * 5 * FEATURES * timesteps * settings
    if not lateral.has_kernels(weights):
        nbytes += 8 * around + 20 * FEATURES * around  # neighbourhoods in float64, and the connections of the winners
    if statistics or config.s2.variant == "2023":
        nbytes += 12 * timesteps * layer.channels  # activity and support of all channels, twice while they are stacked
    if statistics:
        nbytes += 24 * timesteps * layer.channels  # supports in float64, and what is chosen of them
    return max(1, MEMORY // (nbytes * positions))


def _of_autoencoder(model: nn.Module, features_NFHW: Floats) -> Output:
    assert isinstance(model, autoencoder.Autoencoder)
    device = next(model.parameters()).device
    found = autoencoder.output(model, torch.from_numpy(features_NFHW).to(device)).flatten(2)[:, None]
    return Output((found > autoencoder.LIMIT).cpu().numpy(), found.cpu().numpy())


def _on_host(
    config: Config,
    dynamics: Sequence[Dynamics],
    keep: Keep,
    weight: Floats,
    features_NFHW: Floats,
    uniform_NTFP: Floats | None,
) -> list[Output]:
    kernel, layer = host_kernel(config.kernel), config.layer
    found: list[list[tuple[Any, ...]]] = [[] for _ in dynamics]
    for place, image in enumerate(features_NFHW):
        winners = kernel.winners(weight, sparse.look(image, layer), layer)
        uniform = None if uniform_NTFP is None else uniform_NTFP[place]
        for number, each in enumerate(dynamics):
            activity = kernel.settle(weight, winners, layer, each, uniform)
            found[number].append(_kept(activity.z_TFP, activity.strength_TFP, keep))
    return [Output(*(np.stack(part) for part in zip(*own, strict=True))) for own in found]


def _kept(z_T: Any, strength_T: Any, keep: Keep) -> tuple[Any, ...]:
    if keep == "strength":
        return z_T, strength_T
    return (z_T[-1:] if keep == "last" else z_T,)


def _densely(
    config: Config,
    dynamics: Sequence[Dynamics],
    keep: Keep,
    at_once: int,
    weight: torch.Tensor,
    features_NFHW: torch.Tensor,
    uniform_NTFP: torch.Tensor | None,
) -> list[Tensors]:
    """Return activity (and normalised support), (N, T, F, P), of one trial for each of several dynamics."""
    parts = []
    for start in range(0, len(features_NFHW), at_once):
        chosen = slice(start, start + at_once)
        uniform = None if uniform_NTFP is None else uniform_NTFP[chosen]
        parts.append(_part(config, dynamics, keep, weight, features_NFHW[chosen], uniform))
    return [tuple(torch.cat(same) for same in zip(*part, strict=True)) for part in zip(*parts, strict=True)]


def _part(
    config: Config,
    dynamics: Sequence[Dynamics],
    keep: Keep,
    weight: torch.Tensor,
    features_NFHW: torch.Tensor,
    uniform_NTFP: torch.Tensor | None,
) -> list[Tensors]:
    layer = config.layer
    draws = None if uniform_NTFP is None else uniform_NTFP.transpose(0, 1).__getitem__
    winners = lateral.winners(weight, features_NFHW, layer)
    found = []
    if config.s2.variant == "2023":
        for each in dynamics:
            whole = full.settle_all(weight, features_NFHW, winners, layer, each, draws, older=True)
            found.append(_kept(full.merge(whole.z, layer) > 0, whole.strength, keep))
    else:
        for settled in lateral.settle_many(weight, winners, layer, dynamics, draws):
            found.append(_kept(settled.z > 0, settled.strength, keep))
    return [tuple(part.transpose(0, 1) for part in parts) for parts in found]
