"""An experiment with a network of every kind that the engine treats differently, for tests of strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import nn
from torch.nn import functional

import xfw
from xfw.experiment import Experiment
from xfw.testing.blocks import Trained, train_block
from xfw.testing.plugins import make_experiment

__all__ = ["LOWERINGS", "Config", "experiment", "load_data", "network", "python_branch", "run", "train_step"]


@attrs.frozen(kw_only=True)
class Config:
    lr: float = xfw.key(0.05, gt=0, per_trial=True, help="learning rate")
    rate: float = xfw.key(0.0, ge=0, lt=1, per_trial=True, help="dropout rate")
    model: str = xfw.key("mlp", help="which network")


class Residual(nn.Module):
    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.inner, self.outer, self.drop = nn.Linear(width, width), nn.Linear(width, width), nn.Dropout(rate)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return functional.relu(h + self.outer(self.drop(functional.relu(self.inner(h)))))


class TwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(12, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = functional.relu(self.hidden(x))
        return self.head(h), h


class Scaled(nn.Module):
    """A network with a buffer that differs between trials and is read by the step."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 3)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(x)
        return logits


def network(config: Config) -> nn.Module:
    rate = config.rate
    image = nn.Unflatten(1, (1, 3, 4))
    return {
        "mlp": lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Dropout(rate), nn.Linear(8, 3)),
        "residual": lambda: nn.Sequential(nn.Linear(12, 5), Residual(5, rate), Residual(5, rate), nn.Linear(5, 3)),
        "nobias": lambda: nn.Sequential(nn.Linear(12, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)),
        "linear": lambda: nn.Linear(12, 3),
        "two": TwoOutputs,
        "scaled": lambda: Scaled(config.lr),
        "layernorm": lambda: nn.Sequential(nn.Linear(12, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3)),
        "conv": lambda: nn.Sequential(
            image,
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48, 3),
        ),
    }[config.model]()  # type: ignore[no-untyped-call]


def load_data(config: Config) -> Mapping[str, xfw.Dataset]:  # noqa: ARG001
    x = torch.randn(70, 12, generator=torch.Generator().manual_seed(3))
    y = (x[:, 0] > 0).long() + (x[:, 1] * x[:, 2] > 0).long()
    return {"train": xfw.Dataset((x, y))}


def train_step(model: Any, batch: tuple[torch.Tensor, ...], rng: Any) -> Any:
    x, y = batch
    output = model(x + 0.1 * rng.normal("noise", x.shape).to(x.dtype))
    if isinstance(output, tuple):
        logits, hidden = output
        return functional.cross_entropy(logits, y) + 0.01 * hidden.square().sum(), {"size": hidden.mean()}
    return functional.cross_entropy(output, y)


def scaled_step(model: Any, batch: tuple[torch.Tensor, ...]) -> Any:
    x, y = batch
    return model.scale * functional.cross_entropy(model(x), y)


def evaluate_step(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    x, y = batch
    output = model(x)
    logits = output[0] if isinstance(output, tuple) else output
    return {"correct": (logits.argmax(-1) == y).sum(-1)}


def on_epoch_end(block: Any, metrics: Mapping[str, torch.Tensor]) -> None:
    block.record("epoch", loss=metrics["loss"], correct=block.evaluate("train")["correct"])


def records(config: Config) -> xfw.Records:  # noqa: ARG001
    variables = (xfw.Variable("loss", "float64", "loss"), xfw.Variable("correct", "int64", "correct"))
    return xfw.Records((xfw.Stream("epoch", "epoch", variables),))


def experiment(**changes: Any) -> Experiment:
    hooks: dict[str, Any] = {
        "load_data": load_data,
        "build_model": network,
        "build_optimizer": lambda config: xfw.AdamW(lr=config.lr),
        "plan_passes": lambda: [xfw.Pass(batch_size=16)] * 3,
        "train_step": train_step,
        "evaluate_step": evaluate_step,
        "on_epoch_end": on_epoch_end,
        "declare_records": records,
    }
    return make_experiment(Config, "shapes", **(hooks | changes))


def run(model: str, strategy: str, *, overrides: Sequence[str] = (), **how: Any) -> Trained:
    step = {"train_step": scaled_step} if model == "scaled" else {}
    return train_block(experiment(**step), [f"model={model}", *overrides], strategy=strategy, **how)


LOWERINGS = {
    "mlp": "twin",
    "residual": "twin",
    "nobias": "twin",
    "linear": "twin",
    "two": "twin",
    "scaled": "twin",
    "layernorm": "vmap",
    "conv": "modules",
}


def python_branch(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, y = batch
    loss = functional.cross_entropy(model(x), y)
    return loss * 2 if loss > 1 else loss
