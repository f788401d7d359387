"""The training of one network, and the evaluation of its block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import xfw

from xfw_netfragments import evaluation, lines, records, training
from xfw_netfragments.autoencoder import Autoencoder, reconstruction
from xfw_netfragments.config import Config
from xfw_netfragments.feedback import WithFeedback
from xfw_netfragments.model import Fragments
from xfw_netfragments.steps import step

if TYPE_CHECKING:
    from xfw.engine.batches import Resident
    from xfw.engine.rng import Rng

load_data = xfw.hookimpl(training.line_set)
sample_order = xfw.hookimpl(lines.training_order)


@xfw.hookimpl
def build_model(config: Config) -> torch.nn.Module:
    if config.model == "autoencoder":
        return Autoencoder()
    return WithFeedback(config) if config.s3.enabled else Fragments(config)


@xfw.hookimpl
def build_optimizer(config: Config) -> xfw.Adam | None:
    # Appendix: Adam with a decay of 1e-8 added to the gradient; S2 learns by its own rule.
    return xfw.Adam(lr=1e-4, weight_decay=1e-8) if config.model == "autoencoder" else None


@xfw.hookimpl
def plan_passes(config: Config) -> Sequence[xfw.Pass]:
    one = xfw.Pass(config.train.batch_size, dataset="lines", order="given", examples=config.data.train)
    return [one] * config.train.epochs


@xfw.hookimpl
def train_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...], rng: Rng, data: Mapping[str, Resident]) -> Any:
    if isinstance(model, Autoencoder):
        return reconstruction(model, batch, data["lines"])
    assert isinstance(model, Fragments)
    return step(model, batch, rng)


on_start = xfw.hookimpl(training.start)
on_epoch_end = xfw.hookimpl(training.finish_epoch)
on_end = xfw.hookimpl(training.finish)
run_cell = xfw.hookimpl(evaluation.compute)
describe_record = xfw.hookimpl(records.epoch_line)
