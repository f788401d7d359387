"""Show one image (or a batch, with one cell a feature) to S2 and learn from it (spec 2.3, 2.4).

On a CPU the cost of a step is that of its active cells, and a step that is known already is not computed again;
elsewhere the step is a fixed sequence of dense operations. Axes: N image, F feature, P position, H row, W column.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import attrs
import numpy as np
import torch

from xfw_netfragments import full, lateral, sparse, supports
from xfw_netfragments.config import S1
from xfw_netfragments.feedback import WithFeedback
from xfw_netfragments.layer import FEATURES, Dynamics, Layer
from xfw_netfragments.lines import drawn_lines
from xfw_netfragments.model import Fragments, host_kernel, host_weight
from xfw_netfragments.rasters import draw
from xfw_netfragments.s1 import features

if TYPE_CHECKING:
    from xfw.engine.rng import Rng

__all__ = ["Recall", "step"]

Batch = tuple[torch.Tensor, ...]
Metrics = dict[str, torch.Tensor]


@attrs.frozen(eq=False)
class Outcome:
    """What one image did to one set of weights: the statistics of its supports, and what it changes."""

    version: int
    sums: list[float]
    change: sparse.Change


class Recall:
    """Remember what every line did to the present weights (spec 9.2).

    With thresholds nothing is drawn: shown again before the weights have changed, a line does the same again. Whether
    they have changed is seen by comparing them, so it does not matter who changed them.
    """

    enabled = True

    def __init__(self, weight: np.ndarray, certain: bool) -> None:
        self._weight, self._version, self._certain = weight.copy(), 0, certain
        self._outcomes: dict[int, Outcome] = {}

    def outcome(self, line: int, weight: np.ndarray) -> Outcome | None:
        """Return what the line did to these weights, if it is known."""
        if not (self._certain and self.enabled):
            return None
        if not np.array_equal(self._weight, weight):
            self._weight[...] = weight
            self._version += 1
        known = self._outcomes.get(line)
        return known if known is not None and known.version == self._version else None

    def keep(self, line: int, sums: list[float], change: sparse.Change) -> Outcome:
        """Remember what the line did."""
        self._outcomes[line] = Outcome(self._version, sums, change)
        return self._outcomes[line]


@lru_cache(maxsize=128)
def _line(s1: S1, lines: str, size: int, layer: Layer, number: int) -> sparse.Seen:
    """Return the features of a line as S2 sees them: equal for all trials, and the same in every presentation."""
    line = drawn_lines(lines, size)[number]
    return sparse.look(features(draw(line, size)[None], s1.filters, s1.activation)[0], layer)


def step(model: Fragments, batch: Batch, rng: Rng) -> Metrics:
    """Take one training step in place; return the sums of support and whether the weights changed."""
    features_NFHW, line_N = batch
    if model.config.s1.activation == "bernoulli":
        features_NFHW = rng.bernoulli("s1", features_NFHW, features_NFHW.shape).to(features_NFHW.dtype)
    if model.host and not model.config.store.full_statistics:
        return _host_step(model, features_NFHW[0], int(line_N[0]), rng)
    with torch.no_grad():
        return _dense_step(model, features_NFHW, rng)


# --- a CPU's step --------------------------------------------------------------------------------------------


def _host_step(model: Fragments, features_FHW: torch.Tensor, line: int, rng: Rng) -> Metrics:
    config, weight = model.config, host_weight(model)
    dynamics = config.dynamics
    if model.recall is None:
        certain = dynamics.theta is not None and config.s1.activation != "bernoulli"
        model.recall = Recall(weight, certain)
    recall: Recall = model.recall
    found = recall.outcome(line, weight)
    if found is None:
        if config.s1.activation == "bernoulli":
            seen = sparse.look(features_FHW.numpy(), config.layer)
        else:
            seen = _line(config.s1, config.data.lines, config.data.size, config.layer, line)
        draws = (
            None if dynamics.theta is not None else _draws(rng, dynamics, 1, seen.features_FP.shape[1])[:, 0].numpy()
        )
        found = recall.keep(line, *_show(host_kernel(config.kernel), model, seen, draws))
    changed = sparse.apply(weight, found.change)
    values = torch.tensor([*found.sums, float(changed)], dtype=torch.float64)
    return dict(zip((*supports.SUMS, "changed"), values.unbind(), strict=True))


def _show(
    kernel: ModuleType, model: Fragments, seen: sparse.Seen, draws: np.ndarray | None
) -> tuple[list[float], sparse.Change]:
    config, weight = model.config, host_weight(model)
    winners = kernel.winners(weight, seen, config.layer)
    activity = kernel.settle(weight, winners, config.layer, config.dynamics, draws)
    change = kernel.change(weight, seen, activity.z_TFP, winners, config.layer, config.learning)
    return supports.host_sums(activity.z_TFP, activity.support_TFP, activity.strength_TFP), change


def _draws(rng: Rng, dynamics: Dynamics, count: int, places: int) -> torch.Tensor:
    """Return the uniform numbers of Bernoulli cells, (T, N, F, P): one for the winner of each feature and place."""
    return rng.uniform("cells", (dynamics.timesteps, count, FEATURES, places))


# --- a step of fixed shapes ----------------------------------------------------------------------------------


def _dense_step(model: Fragments, features_NFHW: torch.Tensor, rng: Rng) -> Metrics:
    config, layer, dynamics = model.config, model.config.layer, model.config.dynamics
    count, places = len(features_NFHW), features_NFHW[0, 0].numel()
    uniform = None if dynamics.theta is not None else _draws(rng, dynamics, count, places)
    winners = lateral.winners(model.weight, features_NFHW, layer)
    draws = None if uniform is None else uniform.__getitem__
    names, values = list(supports.SUMS), []
    if config.general or config.store.full_statistics:
        feedback = model.feedback(rng) if isinstance(model, WithFeedback) else None
        older = config.s2.variant == "2023"
        everything = full.settle_all(
            model.weight, features_NFHW, winners, layer, dynamics, draws, older=older, feedback=feedback
        )
        own = winners.channel.expand(dynamics.timesteps, -1, -1, -1)
        z, support = everything.z.gather(2, own), everything.support.gather(2, own)
        values = supports.sums(z, support, everything.strength)
        active_NCP = lateral.median(everything.z)
        names += supports.INACTIVE
        values += supports.inactive(everything.z, everything.support)
    else:
        activity = lateral.settle(model.weight, winners, layer, dynamics, draws)
        values = supports.sums(activity.z, activity.support, activity.strength)
        active_NCP = lateral.by_channel(lateral.median(activity.z), winners.channel, layer)
    changed = lateral.change(model.weight, features_NFHW, active_NCP, layer, config.learning)
    differs = (changed != model.weight).any()
    model.weight.copy_(changed)
    if isinstance(model, WithFeedback):
        model.learn(active_NCP, rng)
    return {**{n: v.double() / count for n, v in zip(names, values, strict=True)}, "changed": differs.double()}
