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
from numpy.typing import NDArray

from xfw_netfragments import baseline, schedules
from xfw_netfragments.config import Config
from xfw_netfragments.imagery import Scene, counter, flipped_features, scene
from xfw_netfragments.layer import FEATURES, Dynamics
from xfw_netfragments.lines import Keyed
from xfw_netfragments.measures import Corrupted, measure
from xfw_netfragments.outputs import Output, present
from xfw_netfragments.points import Corruption, Slot, corruptions, settings, slots
from xfw_netfragments.training import keep_weights, keyed

if TYPE_CHECKING:
    from xfw.engine.block import Block

__all__ = ["compute"]

CLEAN = Corruption(0.0, 0)
Floats = NDArray[np.float32]


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
