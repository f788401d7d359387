"""Compare outputs for corrupted images with those for the clean ones (spec 5): the cells of the stage ``evaluate``.

The first cell computes the baselines, each further one a corruption: so the winners of an image, which depend on its
features and the weights alone, are found once for all thresholds and schedules. Axes: N image, T time step, F feature,
P position, H row, W column, X = F·P.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xfw_netfragments import autoencoder, baseline, full, lateral, schedules, sparse
from xfw_netfragments.config import Config
from xfw_netfragments.imagery import Scene, counter, flipped_features, scene
from xfw_netfragments.layer import FEATURES, Dynamics
from xfw_netfragments.lines import Keyed
from xfw_netfragments.measures import Corrupted, measure
from xfw_netfragments.model import host_kernel
from xfw_netfragments.points import Corruption, Slot, corruptions, settings, slots
from xfw_netfragments.training import keep_weights, keyed

if TYPE_CHECKING:
    from xfw.engine.block import Block

__all__ = ["Output", "compute", "present"]

CHUNK = 16
"""Images that a GPU settles at once."""

CLEAN = Corruption(0.0, 0)
Floats = NDArray[np.float32]
Truths = NDArray[np.bool_]


@attrs.frozen(eq=False)
class Output:
    """What the network did with N images: merged activity and normalised support, each (N, T, F, P)."""

    z: Truths
    strength: Floats

    @property
    def last(self) -> Truths:
        """Return the activity of the last time step."""
        return self.z[:, -1].reshape(len(self.z), -1)


@attrs.frozen(eq=False)
class Shown:
    """A corrupted scene as the network saw it in one slot."""

    scene: Scene
    features: Floats
    corrupted: Corrupted
    output: Output


def compute(block: Block, cell: int) -> None:
    """Compute one cell for all trials: the baselines, or the points of one corruption."""
    if cell == 0:
        keep_weights(block)
        baseline.store(block, [_clean(block, lane) for lane in range(block.size)])
        return
    config: Config = block.configs[0]
    corruption = corruptions(config)[cell - 1]
    first = (cell - 1) * len(slots(config))
    shown = [_show(block, lane, corruption, slots(config), keyed(block, lane)) for lane in range(block.size)]
    for place, slot in enumerate(slots(config)):
        clean = block.values["baseline"][:, slot.setting].cpu().numpy()
        rows = [measure(own[place].output.last, clean[lane], own[place].corrupted) for lane, own in enumerate(shown)]
        _record(block, first + place, corruption, slot, rows)
        if config.evaluate.store_activity:
            _store(block, first + place, [own[place] for own in shown])


def _clean(block: Block, lane: int) -> list[tuple[Scene, Output]]:
    """Return what one trial's network makes of the clean images, setting by setting."""
    draws = keyed(block, lane)

    def own(purpose: str, counter: int) -> np.random.Generator:
        # With the draws of the points a Bernoulli network would agree with itself by more than its rule makes it.
        return draws(f"baseline-{purpose}", counter)

    wanted = [Slot(number, 0) for number in range(len(settings(block.configs[lane])))]
    return [(shown.scene, shown.output) for shown in _show(block, lane, CLEAN, wanted, own)]


def _show(block: Block, lane: int, corruption: Corruption, wanted: Sequence[Slot], draws: Keyed) -> list[Shown]:
    """Return what one trial's network makes of a corruption, slot by slot."""
    config: Config = block.configs[lane]
    made = scene(config, keyed(block, lane), corruption.interrupt)
    found: dict[Slot, Shown] = {}
    for repeat in sorted({slot.repeat for slot in wanted}):
        chosen = [slot for slot in wanted if slot.repeat == repeat]
        features, corrupted = flipped_features(config, draws, made, corruption, repeat)
        dynamics = [settings(config)[slot.setting].dynamics if config.model == "s2" else None for slot in chosen]
        uniform = _uniform(config, draws, features, dynamics, repeat)
        outputs = present(block.module(lane), config, features, dynamics, uniform)
        found |= {slot: Shown(made, features, corrupted, each) for slot, each in zip(chosen, outputs, strict=True)}
    return [found[slot] for slot in wanted]


def _uniform(
    config: Config, draws: Keyed, features_NFHW: Floats, dynamics: Sequence[Dynamics | None], repeat: int
) -> Floats | None:
    """Return the draws of Bernoulli cells: functions of repeat, image, time step and cell, equal for all points."""
    if not any(each is not None and each.theta is None for each in dynamics):
        return None
    shape = (config.s2.timesteps, FEATURES, features_NFHW[0, 0].size)
    return np.stack(
        [draws("cells", counter(repeat, place)).random(shape, np.float32) for place in range(len(features_NFHW))]
    )


# --- the network on given features ---------------------------------------------------------------------------


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
        found = autoencoder.output(model, torch.from_numpy(features_NFHW).to(device)).flatten(2)[:, None].cpu().numpy()
        return [Output(found > autoencoder.LIMIT, found) for _ in dynamics]
    weight: torch.Tensor = model.weight  # type: ignore[assignment]
    known = [each for each in dynamics if each is not None]
    if weight.device.type == "cpu" and config.s2.alternatives > 1 and config.s2.variant == "2024":
        return _on_host(config, weight.detach().numpy(), features_NFHW, known, uniform_NTFP)
    parts = [
        _densely(config, weight, features_NFHW[start : start + CHUNK], known, _part(uniform_NTFP, start))
        for start in range(0, len(features_NFHW), CHUNK)
    ]
    return [_joined([part[place] for part in parts]) for place in range(len(known))]


def _part(uniform_NTFP: Floats | None, start: int) -> Floats | None:
    return None if uniform_NTFP is None else uniform_NTFP[start : start + CHUNK]


def _joined(parts: Sequence[Output]) -> Output:
    return Output(np.concatenate([part.z for part in parts]), np.concatenate([part.strength for part in parts]))


def _on_host(
    config: Config, weight: Floats, features_NFHW: Floats, dynamics: Sequence[Dynamics], uniform_NTFP: Floats | None
) -> list[Output]:
    kernel, layer = host_kernel(config.kernel), config.layer
    found: list[list[sparse.Activity]] = [[] for _ in dynamics]
    for place, image in enumerate(features_NFHW):
        winners = kernel.winners(weight, sparse.look(image, layer), layer)
        uniform = None if uniform_NTFP is None else uniform_NTFP[place]
        for number, each in enumerate(dynamics):
            found[number].append(kernel.settle(weight, winners, layer, each, uniform))
    return [Output(np.stack([a.z_TFP for a in own]), np.stack([a.strength_TFP for a in own])) for own in found]


def _densely(
    config: Config,
    weight: torch.Tensor,
    features_NFHW: Floats,
    dynamics: Sequence[Dynamics],
    uniform_NTFP: Floats | None,
) -> list[Output]:
    layer = config.layer
    features = torch.from_numpy(features_NFHW).to(weight.device)
    uniform = None if uniform_NTFP is None else torch.from_numpy(uniform_NTFP).to(weight.device).transpose(0, 1)
    draws = None if uniform is None else uniform.__getitem__
    with torch.no_grad():
        winners = lateral.winners(weight, features, layer)
        if config.s2.variant == "2023":
            found = [full.settle_all(weight, features, winners, layer, each, draws, older=True) for each in dynamics]
            active = [full.merge(each.z, layer) for each in found]
            return [_output(z, each.strength) for z, each in zip(active, found, strict=True)]
        settled = lateral.settle_many(weight, winners, layer, dynamics, draws)
    return [_output(each.z, each.strength) for each in settled]


def _output(z_TNFP: torch.Tensor, strength_TNFP: torch.Tensor) -> Output:
    return Output((z_TNFP > 0).transpose(0, 1).cpu().numpy(), strength_TNFP.transpose(0, 1).float().cpu().numpy())


# --- records -------------------------------------------------------------------------------------------------


def _record(block: Block, point: int, corruption: Corruption, slot: Slot, rows: Sequence[dict[str, float]]) -> None:
    config: Config = block.configs[0]
    setting = settings(config)[slot.setting]
    theta = schedules.theta_of(setting.theta) if setting.theta else None
    line = schedules.linear(setting.dynamics.power) if setting.power else None
    start, growth = line if line is not None else (np.nan, np.nan)
    if setting.power and line is None:
        start = setting.dynamics.power[0]
    fixed: dict[str, Any] = {
        "point": point,
        "theta": np.nan if theta is None else theta,
        "bernoulli": setting.theta == schedules.BERNOULLI,
        "gamma_start": start,
        "gamma_step": growth,
        "setting": slot.setting,
        "noise": corruption.noise,
        "line_interrupt": corruption.interrupt,
        "samples": len(block.values["baseline"][0, 0]),
        "repeat": slot.repeat,
    }
    texts = {"activation": [setting.theta] * block.size, "image_set": [config.evaluate.images] * block.size}
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    block.record("evaluation", **{name: np.full(block.size, value) for name, value in fixed.items()}, **texts, **values)


def _store(block: Block, point: int, shown: Sequence[Shown]) -> None:
    """Store what the analyzer ``frames`` shows of a point."""
    side = shown[0].features.shape[2:]
    shape = (*shown[0].output.z.shape[:3], *side)
    block.array(f"activity/{point}/z", np.stack([each.output.z.reshape(shape) for each in shown]))
    block.array(f"activity/{point}/strength", np.stack([each.output.strength.reshape(shape) for each in shown]))
    block.array(f"activity/{point}/features", np.stack([each.features > 0.5 for each in shown]))
    block.array(f"activity/{point}/images", np.stack([each.scene.images.astype(bool) for each in shown]))
