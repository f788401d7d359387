"""Show every trial's network its features, and return what it makes of them under several thresholds and schedules.

Axes: T trial (of a block) or time step (after N), N image, F feature, P position, H row, W column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xfw_netfragments import autoencoder, full, lateral, sparse
from xfw_netfragments.config import Config
from xfw_netfragments.layer import Dynamics
from xfw_netfragments.model import host_kernel, on_host

if TYPE_CHECKING:
    from xfw.engine.block import Block

__all__ = ["Output", "over_trials", "present"]

Floats = NDArray[np.float32]
Truths = NDArray[np.bool_]
Tensors = tuple[torch.Tensor, ...]


@attrs.frozen(eq=False)
class Output:
    """What the network did with N images, on its device: merged activity and, if kept, normalised support."""

    _z: torch.Tensor
    _strength: torch.Tensor | None = None

    @property
    def z(self) -> Truths:
        """Return the activity of all time steps, (N, T, F, P)."""
        return np.asarray(self._z.cpu().numpy())

    @property
    def strength(self) -> Floats:
        """Return the normalised support of all time steps, (N, T, F, P)."""
        assert self._strength is not None
        return np.asarray(self._strength.cpu().numpy())

    @property
    def last(self) -> Truths:
        """Return the activity of the last time step, (N, F·P)."""
        return np.asarray(self._z[:, -1].flatten(1).cpu().numpy())


def present(
    block: Block,
    features: Sequence[Floats],
    dynamics: Sequence[Dynamics],
    uniform: Sequence[Floats | None],
    *,
    strength: bool = False,
) -> list[list[Output]]:
    """Return what each trial's network makes of its features (N, F, H, W), for each of several dynamics.

    ``uniform`` are its draws for Bernoulli cells (N, T, F, P); ``strength`` asks for normalised support as well, five
    times the memory. The autoencoder has no dynamics: it gives one output.
    """
    config: Config = block.configs[0]
    if config.model == "autoencoder":
        return [[_of_autoencoder(block.module(lane), own)] for lane, own in enumerate(features)]
    weights = block.parameters["weight"].detach()
    if on_host(weights, config):
        each = zip(weights.numpy(), features, uniform, strict=True)
        found = [_on_host(config, dynamics, *own, strength=strength) for own in each]
        return [[Output(*parts) for parts in own] for own in found]
    stacked = over_trials(partial(_densely, config, dynamics, strength), weights, features, uniform)
    return [[Output(*(part[lane] for part in parts)) for parts in stacked] for lane in range(block.size)]


def over_trials(
    function: Callable[..., Any], weights: torch.Tensor, features: Sequence[Floats], uniform: Sequence[Floats | None]
) -> Any:
    """Return what a function of a trial's weights, features and draws returns, stacked over the trials.

    As many trials at once as the device should hold; one after another where it would copy neighbourhoods.
    """
    images = torch.from_numpy(np.stack(features)).to(weights.device)
    drawn = [each for each in uniform if each is not None]
    draws = torch.from_numpy(np.stack(drawn)).to(weights.device) if drawn else None
    at_once = max(1, _images_at_once(weights, images) // images.shape[1])
    with torch.no_grad():
        return torch.vmap(function, (0, 0, 0 if drawn else None), chunk_size=at_once)(weights, images, draws)


def _images_at_once(weight: torch.Tensor, features: torch.Tensor) -> int:
    """Return how many images fit: a position takes 2.5 KB where a kernel reads neighbourhoods, 31 KB in copies of them.

    Both are for the paper's layer, and make at most 2.5 GB.
    """
    positions = 2**20 if lateral.has_kernels(weight) else 2**14
    return max(1, positions // features[..., 0, :, :].shape[-2:].numel())


def _of_autoencoder(model: nn.Module, features_NFHW: Floats) -> Output:
    assert isinstance(model, autoencoder.Autoencoder)
    device = next(model.parameters()).device
    found = autoencoder.output(model, torch.from_numpy(features_NFHW).to(device)).flatten(2)[:, None]
    return Output(found > autoencoder.LIMIT, found)


def _on_host(
    config: Config,
    dynamics: Sequence[Dynamics],
    weight: Floats,
    features_NFHW: Floats,
    uniform_NTFP: Floats | None,
    *,
    strength: bool,
) -> list[Tensors]:
    kernel, layer = host_kernel(config.kernel), config.layer
    found: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in dynamics]
    for place, image in enumerate(features_NFHW):
        winners = kernel.winners(weight, sparse.look(image, layer), layer)
        uniform = None if uniform_NTFP is None else uniform_NTFP[place]
        for number, each in enumerate(dynamics):
            activity = kernel.settle(weight, winners, layer, each, uniform)
            found[number].append((activity.z_TFP, activity.strength_TFP)[: 1 + strength])
    return [tuple(torch.from_numpy(np.stack(part)) for part in zip(*own, strict=True)) for own in found]


def _densely(
    config: Config,
    dynamics: Sequence[Dynamics],
    strength: bool,
    weight: torch.Tensor,
    features_NFHW: torch.Tensor,
    uniform_NTFP: torch.Tensor | None,
) -> list[Tensors]:
    """Return activity (and normalised support), (N, T, F, P), of one trial for each of several dynamics."""
    at_once = _images_at_once(weight, features_NFHW)
    parts = [
        _part(config, dynamics, strength, weight, features_NFHW[start : start + at_once],
              None if uniform_NTFP is None else uniform_NTFP[start : start + at_once])
        for start in range(0, len(features_NFHW), at_once)
    ]  # fmt: skip
    return [tuple(torch.cat(same) for same in zip(*part, strict=True)) for part in zip(*parts, strict=True)]


def _part(
    config: Config,
    dynamics: Sequence[Dynamics],
    strength: bool,
    weight: torch.Tensor,
    features_NFHW: torch.Tensor,
    uniform_NTFP: torch.Tensor | None,
) -> list[Tensors]:
    layer = config.layer
    draws = None if uniform_NTFP is None else uniform_NTFP.transpose(0, 1).__getitem__
    winners = lateral.winners(weight, features_NFHW, layer)
    if config.s2.variant == "2023":
        found = [full.settle_all(weight, features_NFHW, winners, layer, each, draws, older=True) for each in dynamics]
        both = [(full.merge(each.z, layer) > 0, each.strength) for each in found]
    else:
        settled = lateral.settle_many(weight, winners, layer, dynamics, draws)
        both = [(each.z > 0, each.strength) for each in settled]
    return [tuple(part.transpose(0, 1) for part in each[: 1 + strength]) for each in both]
