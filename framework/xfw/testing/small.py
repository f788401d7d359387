"""A complete experiment that trains in a second, for tests of whatever runs experiments.

It uses what can go wrong on resume: keyed dropout, a shuffled order with a short last batch, an optimizer
with state, a snapshot, per-trial values, and arrays. Keys make it slow, fail, diverge or die on purpose.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

import xfw
from xfw.testing.plugins import write_distribution

if TYPE_CHECKING:
    import torch

    from xfw.data.sources import Sources
    from xfw.engine.block import Block

__all__ = [
    "api",
    "build_model",
    "build_optimizer",
    "declare_records",
    "define_config",
    "define_presets",
    "evaluate_step",
    "install",
    "load_data",
    "on_end",
    "on_epoch_end",
    "on_epoch_start",
    "on_start",
    "plan_passes",
    "train_step",
]

api = 2

EXAMPLES, FEATURES = 200, 6


@attrs.frozen(kw_only=True)
class Config:
    """Configuration of the small experiment."""

    epochs: int = xfw.key(4, ge=1, help="epochs of training")
    lr: float = xfw.key(0.01, gt=0, per_trial=True, help="learning rate")
    width: int = xfw.key(5, ge=1, help="hidden units")
    pause: float = xfw.key(0.0, ge=0, help="time to wait in every epoch", unit="s")
    hold: str | None = xfw.key(None, help="file; while it exists, no epoch after the first begins")
    fail_in: int | None = xfw.key(None, help="epoch in which the plugin raises")
    die_in: int | None = xfw.key(None, help="epoch in which the process kills itself")
    deaths: str | None = xfw.key(None, help="file that counts deaths; the process dies once where it is given")


@xfw.hookimpl
def define_config() -> type:
    return Config


@xfw.hookimpl
def define_presets() -> Mapping[str, xfw.Preset]:
    return {"quick": xfw.Preset({}, help="a second")}


@xfw.hookimpl
def declare_records(config: Config) -> xfw.Records:  # noqa: ARG001
    variables = (
        xfw.Variable("loss", "float32", "mean training loss"),
        xfw.Variable("correct", "int64", "correct predictions"),
        xfw.Variable("better", "bool", "the best network so far"),
        xfw.Variable("wall_time", "float64", "time of the epoch", "s"),
    )
    arrays = (xfw.Array("best", "int64", "best number of correct predictions"),)
    return xfw.Records((xfw.Stream("epoch", "epoch", variables, first=1),), arrays, "epoch/correct")


@xfw.hookimpl
def load_data(config: Config, sources: Sources) -> Mapping[str, xfw.Dataset]:  # noqa: ARG001
    import torch

    grid = torch.arange(EXAMPLES * FEATURES, dtype=torch.float32).reshape(EXAMPLES, FEATURES)
    x = torch.sin(grid * 0.37)
    return {"train": xfw.Dataset((x, (x[:, 0] * x[:, 1] > x[:, 2] * 0.3).long()))}


@xfw.hookimpl
def build_model(config: Config) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(FEATURES, config.width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(config.width, 2))


@xfw.hookimpl
def build_optimizer(config: Config) -> xfw.AdamW:
    return xfw.AdamW(lr=config.lr)


@xfw.hookimpl
def plan_passes(config: Config) -> Sequence[xfw.Pass]:
    return [xfw.Pass(batch_size=16)] * config.epochs


@xfw.hookimpl
def train_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    from torch.nn import functional

    x, y = batch
    return functional.cross_entropy(model(x), y)


@xfw.hookimpl
def evaluate_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    x, y = batch
    return {"correct": (model(x).argmax(-1) == y).sum(-1)}


@xfw.hookimpl
def on_start(block: Block, source: Any) -> None:  # noqa: ARG001
    import torch

    block.values["best"] = torch.full((block.size,), -1, dtype=torch.int64, device=block.device)
    block.snapshot("best")


@xfw.hookimpl
def on_epoch_start(block: Block) -> None:
    config: Config = block.configs[0]
    time.sleep(config.pause)
    while config.hold and block.epoch and Path(config.hold).exists():
        time.sleep(0.01)
    if config.fail_in == block.epoch + 1:
        raise ValueError("this epoch was asked to fail")
    if config.die_in == block.epoch + 1 and may_die(config.deaths):
        os.kill(os.getpid(), signal.SIGKILL)


def may_die(deaths: str | None) -> bool:
    """Say whether the process shall die, and remember it in a file if one is given."""
    if deaths is None:
        return True
    path = Path(deaths)
    died = path.exists()
    path.touch()
    return not died


@xfw.hookimpl
def on_epoch_end(block: Block, metrics: Mapping[str, torch.Tensor]) -> None:
    import torch

    correct = block.evaluate("train")["correct"].to(torch.int64)
    better = correct > block.values["best"]
    block.snapshot("best", where=better)
    block.values["best"] = torch.where(better, correct, block.values["best"])
    now = [time.time()] * block.size
    block.record("epoch", loss=metrics["loss"], correct=correct, better=better, wall_time=now)


@xfw.hookimpl
def on_end(block: Block) -> None:
    block.array("best", block.values["best"])


def install(folder: Path, name: str = "small", version: str = "1.0") -> Path:
    """Install the experiment as a package of its own into a folder for the search path of modules."""
    return write_distribution(folder, name, "from xfw.testing.small import *  # noqa: F403\n", version=version)
