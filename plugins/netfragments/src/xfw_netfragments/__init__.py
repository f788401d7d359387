"""Net fragments: lateral connections, learned without labels, that remove noise and fill gaps.

Claim (P. J. Sager, J. M. Deriu, B. F. Grewe, T. Stadelmann, C. von der Malsburg, *The Cooperative Network
Architecture*, 2024-2025): a pattern is represented by a net, a set of active cells that support each other through
lateral connections. Nets are put together from overlapping pieces, the net fragments, that a Hebbian rule learns from
statistics alone. Activity that fits no fragment dies out within a few steps, and missing parts of a figure come back.

Two facts to keep in mind. Of the 60 straight test images 37 are training images, so the straight set measures
robustness, not generalisation. And a network that is always silent removes every false feature: read
``noise_reduction`` beside ``noise_reduction_silent``.

Reading order: ``config``, ``s1``, ``layer``, ``lateral`` (the rule), ``sparse`` (the same on a CPU), ``steps``,
``training``, ``evaluation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xfw

from xfw_netfragments.config import Config
from xfw_netfragments.presets import PRESETS

if TYPE_CHECKING:
    import numpy as np
    import torch
    from xfw.engine.batches import Resident
    from xfw.engine.block import Block
    from xfw.engine.rng import Rng
    from xfw.store.results import TrialSource

api = 1


@xfw.hookimpl
def configuration() -> type:
    return Config


@xfw.hookimpl
def presets() -> Mapping[str, xfw.Preset]:
    return PRESETS


@xfw.hookimpl
def check_configuration(config: Config, given: frozenset[str]) -> Sequence[xfw.Problem]:
    from xfw_netfragments.problems import problems

    return problems(config, given)


@xfw.hookimpl
def records(config: Config) -> xfw.Records:
    from xfw_netfragments.quantities import declare

    return declare(config)


@xfw.hookimpl
def stages(config: Config) -> Sequence[xfw.Stage]:
    from xfw_netfragments.points import cells

    return [
        xfw.Stage("train", "learn lateral connections from lines", given=config.weights is not None),
        xfw.Stage("evaluate", "compare outputs for corrupted images with those for clean ones", cells(config)),
    ]


@xfw.hookimpl
def load_data(config: Config) -> Mapping[str, xfw.Dataset]:
    from xfw_netfragments.training import line_set

    return line_set(config)


@xfw.hookimpl
def build_model(config: Config) -> torch.nn.Module:
    from xfw_netfragments.autoencoder import Autoencoder
    from xfw_netfragments.feedback import WithFeedback
    from xfw_netfragments.model import Fragments

    if config.model == "autoencoder":
        return Autoencoder()
    return WithFeedback(config) if config.s3.enabled else Fragments(config)


@xfw.hookimpl
def optimizer(config: Config) -> xfw.Adam | None:
    # Appendix: Adam with a decay of 1e-8 added to the gradient; S2 learns by its own rule.
    return xfw.Adam(lr=1e-4, weight_decay=1e-8) if config.model == "autoencoder" else None


@xfw.hookimpl
def epochs(config: Config) -> Sequence[xfw.Epoch]:
    one = xfw.Epoch(config.train.batch_size, dataset="lines", order="given", examples=config.data.train)
    return [one] * config.train.epochs


@xfw.hookimpl
def draw_order(config: Config, trial: int, generator: np.random.Generator, number: int, count: int) -> np.ndarray:
    from xfw_netfragments.lines import training_order

    return training_order(config, trial, generator, number, count)


@xfw.hookimpl
def train_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...], rng: Rng, data: Mapping[str, Resident]) -> Any:
    from xfw_netfragments.autoencoder import Autoencoder, reconstruction
    from xfw_netfragments.model import Fragments
    from xfw_netfragments.steps import step

    if isinstance(model, Autoencoder):
        return reconstruction(model, batch, data["lines"])
    assert isinstance(model, Fragments)
    return step(model, batch, rng)


@xfw.hookimpl
def on_start(block: Block, source: Sequence[TrialSource] | None) -> None:
    from xfw_netfragments import training

    training.start(block, source)


@xfw.hookimpl
def on_epoch_end(block: Block, metrics: Mapping[str, torch.Tensor]) -> None:
    from xfw_netfragments import training

    training.finish_epoch(block, metrics)


@xfw.hookimpl
def on_end(block: Block) -> None:
    from xfw_netfragments import training

    training.finish(block)


@xfw.hookimpl
def run_cell(block: Block, cell: int) -> None:
    from xfw_netfragments import evaluation

    evaluation.compute(block, cell)


@xfw.hookimpl
def describe_record(config: Config, trial: int, row: Mapping[str, Any]) -> str:
    from xfw_netfragments.quantities import epoch_line

    return epoch_line(config, trial, row)


@xfw.hookimpl
def metrics() -> Sequence[xfw.Metric]:
    from xfw_netfragments.quantities import METRICS

    return METRICS


@xfw.hookimpl
def analyze() -> Sequence[xfw.Analyzer]:
    from xfw_netfragments.analysis import ANALYZERS

    return ANALYZERS
