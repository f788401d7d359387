"""The configuration: an experiment's number, and keys that replace what the table says about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import xfw

from xfw_neuronal_decay.table import BUILT_WIDTH, EXPERIMENTS

__all__ = ["PRESETS", "Config", "configs_of", "problems"]

NUMBERS = tuple(EXPERIMENTS)


def _number(value: int) -> int:
    if value not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {value}; known: {NUMBERS[0]}–{NUMBERS[-1]}")
    return value


def _rotations(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value:
        raise ValueError("give at least one finite angle")
    return value


@attrs.frozen
class Config:
    """What one condition trains. Keys that are none take the value of the experiment ``number``."""

    number: int = xfw.key(1, converter=_number, per_trial=True, help="experiment of the paper, 1 to 16")
    data: str = xfw.key("mnist", choices=("mnist", "digits"), help="data set; digits is embedded and needs no download")
    default_lambda: float = xfw.key(
        1e-5, ge=0.0, per_trial=True, help="decay strength of the experiments 3, 4, 8, 10, 12, 14 and 16"
    )
    rotations: tuple[float, ...] | None = xfw.key(
        None, converter=_rotations, help="angle of each task, anticlockwise; by the table", unit="degrees"
    )
    iterations_per_task: int = xfw.key(500, ge=1, le=10_000_000, help="training steps of each task", unit="iterations")
    batch_size: int = xfw.key(
        512, ge=1, le=1_000_000, help="batch of the first task; task t takes t times as many", unit="images"
    )
    test_size: int = xfw.key(
        2000, ge=0, help="test images of an evaluation, rounded up to whole batches; 0: all", unit="images"
    )
    learning_rate: float | None = xfw.key(None, gt=0.0, per_trial=True, help="learning rate of Adam; by the table")
    decay: bool | None = xfw.key(None, per_trial=True, help="penalise hidden activations; by the table")
    decay_lambda: float | None = xfw.key(None, ge=0.0, per_trial=True, help="decay strength λ; by the table")
    n_neurons: int | None = xfw.key(
        None,
        ge=1,
        le=1_000_000,
        per_trial=True,
        help="declared width of both hidden layers; by the table",
        unit="units",
    )
    n_neurons_used: int | None = xfw.key(
        None,
        ge=1,
        le=1_000_000,
        hidden=True,
        help="width that is built, derived from n_neurons and width_mode",
        unit="units",
    )
    replay: bool | None = xfw.key(None, help="train on the data of all tasks seen so far; by the table")
    width_mode: str = xfw.key(
        "as_published",
        choices=("as_published", "declared"),
        help="as_published builds 2048 units for the experiments 11 to 14, as the original does",
    )
    eval_mode: str = xfw.key(
        "subset", choices=("subset", "full"), help="test a fresh random subset at every evaluation, or all test images"
    )
    penalty_reduction: str = xfw.key(
        "sum", choices=("sum", "mean_batch"), help="sum the penalty over the batch, as the original does, or average it"
    )
    eval_every: int = xfw.key(1, ge=1, help="iterations between two recorded evaluations", unit="iterations")
    log_every: int = xfw.key(25, ge=1, help="iterations between two lines of the log", unit="iterations")
    profile: bool = xfw.key(False, help="time training and evaluation at the end of each task, and count operations")

    def __attrs_post_init__(self) -> None:
        row = EXPERIMENTS[self.number]
        width = self.n_neurons
        if self.n_neurons_used is None:
            published = width is None and self.width_mode == "as_published"
            self._fill("n_neurons_used", BUILT_WIDTH if published else width or row.n_neurons)
        for name in ("rotations", "learning_rate", "decay", "n_neurons", "replay"):
            self._fill(name, getattr(row, name))
        strength = self.default_lambda if row.starred else row.decay_lambda
        self._fill("decay_lambda", strength if self.decay else 0.0)

    def _fill(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    @property
    def tasks(self) -> int:
        """Return the number of tasks."""
        return len(self.rotations or ())

    @property
    def strength(self) -> float:
        """Return λ as the loss has it: zero where decay is off."""
        return float(self.decay_lambda or 0.0) if self.decay else 0.0

    @property
    def width(self) -> int:
        """Return the width that is built."""
        return self.n_neurons_used or BUILT_WIDTH

    @property
    def ignores_width(self) -> bool:
        """Say whether the network is not built with its declared width."""
        return self.n_neurons != self.n_neurons_used

    def batch(self, task: int) -> int:
        """Return the batch size of a task, counted from 1; it grows without replay too."""
        return self.batch_size * task

    def tested(self, task: int, images: int) -> int:
        """Return how many of ``images`` test images an evaluation during a task takes."""
        if self.eval_mode == "full" or self.test_size == 0:
            return images
        return min(-(-self.test_size // self.batch(task)) * self.batch(task), images)


QUICK = {
    "data": "digits",
    "number": "1,4",
    "n_neurons": 128,
    "batch_size": 32,
    "iterations_per_task": 100,
    "default_lambda": 1e-4,
    "eval_mode": "full",
}

PRESETS: Mapping[str, xfw.Preset] = {
    "quick": xfw.Preset(QUICK, help="embedded digits: experiments 1 and 4 with a small network"),
    "paper": xfw.Preset({"data": "mnist"}, help="the paper: rotated MNIST, experiment 1 (-s number=1..14: all)"),
    **{
        f"exp{number:02}": xfw.Preset({"data": "mnist", "number": number}, help=f"experiment {number}: {row.name}")
        for number, row in EXPERIMENTS.items()
    },
}


def configs_of(common: Mapping[str, Any], conditions: list[dict[str, Any]]) -> list[Config]:
    """Return the configuration of every condition of a stored run."""
    from xfw.config.structure import flatten, nested, structure

    return [structure(Config, nested({**flatten(common), **values})) for values in conditions]


def problems(config: Config, given: frozenset[str]) -> list[xfw.Problem]:
    """Return what the bounds of single keys cannot express."""
    found: list[xfw.Problem] = []
    if "n_neurons_used" in given:
        hint = "set the width with -s n_neurons=N, or -s width_mode=declared"
        found.append(xfw.Problem("$.n_neurons_used", "is derived and cannot be set", hint))
    if "decay_lambda" in given and not config.decay and config.decay_lambda:
        found.append(_warning("decay_lambda", f"experiment {config.number} has no decay; -s decay=true adds it"))
    if "decay" in given and config.decay and not config.decay_lambda:
        found.append(_warning("decay", f"λ of experiment {config.number} is 0; give -s decay_lambda=X"))
    if "default_lambda" in given and not EXPERIMENTS[config.number].starred:
        found.append(_warning("default_lambda", f"experiment {config.number} does not use it"))
    return found


def _warning(key: str, message: str) -> xfw.Problem:
    return xfw.Problem(f"$.{key}", message, level="warning")
