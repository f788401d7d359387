"""Show features to a network and return what it makes of them, for several thresholds and schedules at once.

Axes: N image, T time step, F feature, P position, H row, W column.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xfw_netfragments import autoencoder, full, lateral, sparse
from xfw_netfragments.config import Config
from xfw_netfragments.layer import Dynamics
from xfw_netfragments.model import host_kernel

__all__ = ["Output", "present"]

COPIED, CHUNK = 16, 64
"""Images that are settled at once: where neighbourhoods are copied, and where a kernel reads them in place."""

Floats = NDArray[np.float32]
Truths = NDArray[np.bool_]
Tensors = tuple[torch.Tensor, torch.Tensor]


@attrs.frozen(eq=False)
class Output:
    """What the network did with N images, on its device: merged activity and normalised support, (N, T, F, P)."""

    _z: torch.Tensor
    _strength: torch.Tensor

    @property
    def z(self) -> Truths:
        """Return the activity of all time steps."""
        return np.asarray(self._z.cpu().numpy())

    @property
    def strength(self) -> Floats:
        """Return the normalised support of all time steps."""
        return np.asarray(self._strength.cpu().numpy())

    @property
    def last(self) -> Truths:
        """Return the activity of the last time step, (N, F·P)."""
        return np.asarray(self._z[:, -1].flatten(1).cpu().numpy())


def present(
    model: nn.Module,
    config: Config,
    features_NFHW: Floats,
    dynamics: Sequence[Dynamics | None],
    uniform_NTFP: Floats | None = None,
) -> list[Output]:
    """Return what a network makes of features, for each of several dynamics (None: the autoencoder)."""
    if isinstance(model, autoencoder.Autoencoder):
        device = next(model.parameters()).device
        found = autoencoder.output(model, torch.from_numpy(features_NFHW).to(device)).flatten(2)[:, None]
        return [Output(found > autoencoder.LIMIT, found) for _ in dynamics]
    weight: torch.Tensor = model.weight  # type: ignore[assignment]
    known = [each for each in dynamics if each is not None]
    if weight.device.type == "cpu" and config.s2.alternatives > 1 and config.s2.variant == "2024":
        return _on_host(config, weight.detach().numpy(), features_NFHW, known, uniform_NTFP)
    at_once = CHUNK if lateral.has_kernels(weight) else COPIED
    parts = [
        _densely(config, weight, features_NFHW[start : start + at_once], known, _part(uniform_NTFP, start, at_once))
        for start in range(0, len(features_NFHW), at_once)
    ]
    return [_joined([part[place] for part in parts]) for place in range(len(known))]


def _part(uniform_NTFP: Floats | None, start: int, count: int) -> Floats | None:
    return None if uniform_NTFP is None else uniform_NTFP[start : start + count]


def _joined(parts: Sequence[Tensors]) -> Output:
    z, strength = zip(*parts, strict=True)
    return Output(torch.cat(z), torch.cat(strength))


def _on_host(
    config: Config, weight: Floats, features_NFHW: Floats, dynamics: Sequence[Dynamics], uniform_NTFP: Floats | None
) -> list[Output]:
    kernel, layer = host_kernel(config.kernel), config.layer
    found: list[list[Tensors]] = [[] for _ in dynamics]
    for place, image in enumerate(features_NFHW):
        winners = kernel.winners(weight, sparse.look(image, layer), layer)
        uniform = None if uniform_NTFP is None else uniform_NTFP[place]
        for number, each in enumerate(dynamics):
            activity = kernel.settle(weight, winners, layer, each, uniform)
            both = activity.z_TFP, activity.strength_TFP
            found[number].append((torch.from_numpy(both[0])[None], torch.from_numpy(both[1])[None]))
    return [_joined(own) for own in found]


def _densely(
    config: Config,
    weight: torch.Tensor,
    features_NFHW: Floats,
    dynamics: Sequence[Dynamics],
    uniform_NTFP: Floats | None,
) -> list[Tensors]:
    layer = config.layer
    features = torch.from_numpy(features_NFHW).to(weight.device)
    uniform = None if uniform_NTFP is None else torch.from_numpy(uniform_NTFP).to(weight.device).transpose(0, 1)
    draws = None if uniform is None else uniform.__getitem__
    with torch.no_grad():
        winners = lateral.winners(weight, features, layer)
        if config.s2.variant == "2023":
            found = [full.settle_all(weight, features, winners, layer, each, draws, older=True) for each in dynamics]
            active = [full.merge(each.z, layer) for each in found]
            return [_by_image(z, each.strength) for z, each in zip(active, found, strict=True)]
        settled = lateral.settle_many(weight, winners, layer, dynamics, draws)
    return [_by_image(each.z, each.strength) for each in settled]


def _by_image(z_TNFP: torch.Tensor, strength_TNFP: torch.Tensor) -> Tensors:
    return (z_TNFP > 0).transpose(0, 1), strength_TNFP.transpose(0, 1).float()
