"""Noisy digits: how much noise on its input a small network can learn through.

Claim (made up for this example): the more noise a network of 32 hidden units sees while it learns, the
worse it reads clean images afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import xfw

if TYPE_CHECKING:
    import torch
    from xfw.data.sources import Sources
    from xfw.engine.block import Block
    from xfw.engine.rng import Rng
    from xfw.store.results import Results

api = 2

TRAIN, TEST = 1_400, 397


@attrs.frozen
class Config:
    """What one condition trains."""

    epochs: int = xfw.key(30, ge=1, help="passes over the training images", unit="epochs")
    lr: float = xfw.key(3e-3, gt=0, per_trial=True, help="learning rate of AdamW")
    noise: float = xfw.key(0.5, ge=0, per_trial=True, help="deviation of the noise; pixels lie between 0 and 1")
    width: int = xfw.key(32, ge=1, help="size of the hidden layer", unit="units")


@xfw.hookimpl
def define_config() -> type:
    return Config


@xfw.hookimpl
def define_presets() -> Mapping[str, xfw.Preset]:
    return {
        "quick": xfw.Preset({}, help="one level of noise"),
        "levels": xfw.Preset({"noise": "0..2..0.5"}, help="five levels of noise", trials=5),
    }


@xfw.hookimpl
def declare_records() -> xfw.Records:
    variables = (
        xfw.Variable("loss", "float32", "mean training loss", "nat"),
        xfw.Variable("correct", "int64", "correct clean test images", "images"),
    )
    return xfw.Records((xfw.Stream("epoch", "epoch", variables, first=1),), default="epoch/correct")


@xfw.hookimpl
def load_data(sources: Sources) -> Mapping[str, xfw.Dataset]:
    digits = sources.load("digits")  # 1,797 real 8×8 images of values 0 to 16, always in the same order
    images, labels = digits.train_images, digits.train_labels
    return {
        "train": xfw.Dataset((images[:TRAIN], labels[:TRAIN]), prepare=scaled),
        "test": xfw.Dataset((images[TRAIN:], labels[TRAIN:]), prepare=scaled),
    }


def scaled(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn stored bytes into flat images between 0 and 1."""
    return images.flatten(1).float() / 16, labels


@xfw.hookimpl
def build_model(config: Config) -> torch.nn.Module:
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(64, config.width), nn.ReLU(), nn.Linear(config.width, 10))
    model.register_buffer("noise", torch.tensor(config.noise))  # a number that may differ between trials
    return model


@xfw.hookimpl
def build_optimizer(config: Config) -> xfw.AdamW:
    return xfw.AdamW(lr=config.lr)


@xfw.hookimpl
def plan_passes(config: Config) -> Sequence[xfw.Pass]:
    return [xfw.Pass(batch_size=100)] * config.epochs


@xfw.hookimpl
def train_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...], rng: Rng) -> torch.Tensor:
    from torch.nn import functional

    images, labels = batch
    noisy = images + model.noise * rng.normal("noise", images.shape)
    return functional.cross_entropy(model(noisy), labels)


@xfw.hookimpl
def evaluate_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    images, labels = batch
    return {"correct": (model(images).argmax(-1) == labels).sum()}


@xfw.hookimpl
def on_epoch_end(block: Block, metrics: Mapping[str, torch.Tensor]) -> None:
    block.record("epoch", loss=metrics["loss"], correct=block.evaluate("test")["correct"])


@xfw.hookimpl
def define_metrics() -> Sequence[xfw.Metric]:
    return [
        xfw.Metric("accuracy", "accuracy on clean test images", "%", last_accuracy),
        xfw.Metric("accuracy_curve", "accuracy on clean test images", "%", accuracy, series="epoch"),
    ]


def accuracy(results: Results) -> Any:
    import numpy as np

    correct = results.values("epoch", "correct")
    return np.where(correct < 0, np.nan, 100.0 * correct / TEST)  # -1: the trial has no such row


def last_accuracy(results: Results) -> Any:
    return accuracy(results)[:, -1]
