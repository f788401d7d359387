"""The data, one network and its training, and the quantities that are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xfw
from torch import nn
from torch.nn import functional

from xfw_noisy_digits import Config

TRAIN, TEST = 1_400, 397


@xfw.hookimpl
def load_data(sources: xfw.Sources) -> Mapping[str, xfw.Dataset]:
    digits = sources.load("digits")  # 1,797 real 8×8 images of values 0 to 16, always in the same order
    images, labels = digits.train_images, digits.train_labels
    return {
        "train": xfw.Dataset((images[:TRAIN], labels[:TRAIN]), prepare=scaled),
        "test": xfw.Dataset((images[TRAIN:], labels[TRAIN:]), prepare=scaled),
    }


def scaled(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn stored bytes into flat images between 0 and 1."""
    return images.flatten(1).float() / 16, labels


class Reader(nn.Sequential):
    """A network with one hidden layer."""

    noise: torch.Tensor

    def __init__(self, width: int, noise: float) -> None:
        super().__init__(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        self.register_buffer("noise", torch.tensor(noise))  # a number that may differ between trials


@xfw.hookimpl
def build_model(config: Config) -> Reader:
    return Reader(config.width, config.noise)


@xfw.hookimpl
def build_optimizer(config: Config) -> xfw.AdamW:
    return xfw.AdamW(lr=config.lr)


@xfw.hookimpl
def plan_passes(config: Config) -> Sequence[xfw.Pass]:
    return [xfw.Pass(batch_size=100)] * config.epochs


@xfw.hookimpl
def train_step(model: Reader, batch: tuple[torch.Tensor, ...], rng: xfw.Rng) -> torch.Tensor:
    images, labels = batch
    noisy = images + model.noise * rng.normal("noise", images.shape)
    return functional.cross_entropy(model(noisy), labels)


@xfw.hookimpl
def evaluate_step(model: Reader, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    images, labels = batch
    return {"correct": (model(images).argmax(-1) == labels).sum()}


@xfw.hookimpl
def on_epoch_end(block: xfw.Block, metrics: Mapping[str, torch.Tensor]) -> None:
    block.record("epoch", loss=metrics["loss"], correct=block.evaluate("test")["correct"])


@xfw.hookimpl
def define_metrics() -> Sequence[xfw.Metric]:
    return [
        xfw.Metric("accuracy", "accuracy on clean test images", "%", last_accuracy),
        xfw.Metric("accuracy_curve", "accuracy on clean test images", "%", accuracy, series="epoch"),
    ]


def accuracy(results: xfw.Results) -> np.ndarray:
    """Return the accuracy of every trial and epoch."""
    correct = results.values("epoch", "correct")
    return np.where(correct < 0, np.nan, 100.0 * correct / TEST)  # -1: the trial has no such row


def last_accuracy(results: xfw.Results) -> np.ndarray:
    """Return the accuracy of every trial at its end."""
    last: np.ndarray = accuracy(results)[:, -1]
    return last
