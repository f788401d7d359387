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
from xfw_netfragments.lines import Keyed, keyed
from xfw_netfragments.measures import Corrupted, measure
from xfw_netfragments.outputs import Keep, Output, present
from xfw_netfragments.points import Corruption, Slot, corruptions, settings, slots
from xfw_netfragments.training import keep_weights

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
    config: Config = block.configs[0]
    if cell == 0:
        keep_weights(block)
        # With the draws of the points a Bernoulli network would agree with itself by more than its rule makes it.
        wanted = [Slot(number, 0) for number in range(len(settings(config)))]
        shown = _show(block, CLEAN, wanted, "steps", "baseline-")
        baseline.store(block, [[(each.scene, each.output) for each in own] for own in shown])
        return
    corruption = corruptions(config)[cell - 1]
    first = (cell - 1) * len(slots(config))
    shown = _show(block, corruption, slots(config), "strength" if config.evaluate.store_activity else "last")
    clean = block.values["baseline"].cpu().numpy()
    for place, slot in enumerate(slots(config)):
        point = [own[place] for own in shown]
        rows = [measure(each.output.last, clean[lane, slot.setting], each.corrupted) for lane, each in enumerate(point)]
        _record(block, first + place, corruption, slot, rows)
        if config.evaluate.store_activity:
            _store(block, first + place, point)


def _show(
    block: Block, corruption: Corruption, wanted: Sequence[Slot], keep: Keep, prefix: str = ""
) -> list[list[Shown]]:
    """Return what every trial's network makes of a corruption, slot by slot; ``prefix`` names draws of their own."""
    config: Config = block.configs[0]
    draws = [_prefixed(keyed(block, lane), prefix) for lane in range(block.size)]
    scenes = [scene(config, keyed(block, lane), corruption.interrupt) for lane in range(block.size)]
    found: list[dict[Slot, Shown]] = [{} for _ in scenes]
    for repeat in sorted({slot.repeat for slot in wanted}):
        chosen = [slot for slot in wanted if slot.repeat == repeat]
        flipped = [flipped_features(config, *own, corruption, repeat) for own in zip(draws, scenes, strict=True)]
        features = [each for each, _ in flipped]
        dynamics = [settings(config)[slot.setting].dynamics for slot in chosen] if config.model == "s2" else []
        uniform = [_uniform(config, *own, dynamics, repeat) for own in zip(draws, features, strict=True)]
        outputs = present(block, features, dynamics, uniform, keep)
        for lane, own in enumerate(outputs):
            made = [Shown(scenes[lane], *flipped[lane], each) for each in own]
            found[lane] |= dict(zip(chosen, made, strict=True))
    return [[own[slot] for slot in wanted] for own in found]


def _prefixed(draws: Keyed, prefix: str) -> Keyed:
    return lambda purpose, counter: draws(f"{prefix}{purpose}", counter)


def _uniform(
    config: Config, draws: Keyed, features_NFHW: Floats, dynamics: Sequence[Dynamics], repeat: int
) -> Floats | None:
    """Return the draws of Bernoulli cells: functions of repeat, image, time step and cell, equal for all points."""
    if not any(each.theta is None for each in dynamics):
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
    strength = [each.output.strength for each in shown if each.output.strength is not None]
    block.array(f"activity/{point}/strength", np.stack(strength).reshape(len(shown), *shape))
    block.array(f"activity/{point}/features", np.stack([each.features > 0.5 for each in shown]))
    block.array(f"activity/{point}/images", np.stack([each.scene.images.astype(bool) for each in shown]))
