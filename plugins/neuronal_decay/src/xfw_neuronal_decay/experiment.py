"""The training of one network, and what a block logs and stores beside its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import xfw

from xfw_neuronal_decay import data, diary, model, profiling
from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.data import Phase
from xfw_neuronal_decay.model import Network, evaluated, loss_terms

if TYPE_CHECKING:
    from xfw.engine.block import Block

load_data = xfw.hookimpl(data.load)
build_model = xfw.hookimpl(model.build)
plan_passes = xfw.hookimpl(data.epochs)
on_start = xfw.hookimpl(diary.begin)
on_end = xfw.hookimpl(diary.finish)


@xfw.hookimpl
def build_optimizer(config: Config) -> xfw.Adam:
    return xfw.Adam(lr=config.learning_rate or 0.0)


@xfw.hookimpl
def train_step(model: Network, batch: tuple[torch.Tensor, ...], pass_: xfw.Pass) -> Any:
    loss_ce, penalty = loss_terms(model, batch, Phase.of(pass_.label))
    return loss_ce + penalty, {"loss_ce": loss_ce, "penalty": penalty}


@xfw.hookimpl
def observe_step(
    model: Network, rng: xfw.Rng, pass_: xfw.Pass, data: Mapping[str, xfw.Resident]
) -> Mapping[str, torch.Tensor]:
    return evaluated(model, Phase.of(pass_.label), rng, data["test"])


@xfw.hookimpl
def on_epoch_start(block: Block) -> None:
    diary.begin_task(block)
    if block.configs[0].profile:
        profiling.begin(block)


@xfw.hookimpl
def on_epoch_end(block: Block) -> None:
    diary.log_task(block)
    if block.configs[0].profile:
        profiling.measure(block)
