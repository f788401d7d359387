"""The training of one network, and the ratchet that the block's networks go through together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import xfw
from torch.nn import functional

from xfw_psa import data, model, ratchet, records
from xfw_psa.config import Config

load_data = xfw.hookimpl(data.load)
build_model = xfw.hookimpl(model.build)


@xfw.hookimpl
def build_optimizer(config: Config) -> xfw.AdamW:
    return xfw.AdamW(lr=config.lr, weight_decay=config.decay)


@xfw.hookimpl
def plan_passes(config: Config) -> Sequence[xfw.Pass]:
    return [xfw.Pass(batch_size=config.batch_size)] * config.meta_loops


@xfw.hookimpl
def train_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    images, labels = batch
    return functional.cross_entropy(model(images), labels)


@xfw.hookimpl
def evaluate_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    images, labels = batch
    logits = model(images)
    broken = ~torch.isfinite(logits).all(-1)
    return {"correct": (logits.argmax(-1) == labels).sum(-1), "broken": broken.sum(-1)}


on_start = xfw.hookimpl(ratchet.start)
on_epoch_start = xfw.hookimpl(ratchet.damage)
on_epoch_end = xfw.hookimpl(ratchet.select)
on_end = xfw.hookimpl(ratchet.finish)
describe_record = xfw.hookimpl(records.loop_line)
