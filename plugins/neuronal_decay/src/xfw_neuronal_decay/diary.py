"""The lines of a block's log (spec 7.2), and what a trial stores once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.data import train_set
from xfw_neuronal_decay.table import BUILT_WIDTH

if TYPE_CHECKING:
    from xfw.engine.block import Block

__all__ = ["begin", "begin_task", "finish", "log_task"]


def begin(block: Block) -> None:
    """Log the sets, the device and the parameters; warn where a network is not as wide as it is declared."""
    first: Config = block.configs[0]
    test = len(block.data["test"]) // first.tasks
    sizes = ", ".join(f"{len(block.data[train_set(task)])}" for task in range(1, first.tasks + 1))
    block.log(f"training images by task: {sizes}; test images of each task: {test}; device {block.device}")
    for config in dict.fromkeys(block.configs):
        block.log(f"experiment {config.number}: {_parameters(config)}")
    if any(config.ignores_width for config in block.configs):
        block.warn(
            f"experiments 11 to 14 are built with {BUILT_WIDTH} units, not with their declared width, as the published "
            "ones were; -s width_mode=declared builds the declared width"
        )


def _parameters(config: Config) -> str:
    parts = {
        "replay": config.replay,
        "decay": config.decay,
        "lambda": config.strength,
        "lr": config.learning_rate,
        "width": f"{config.width} (declared {config.n_neurons})",
        "rotations": list(config.rotations or ()),
        "iterations": config.iterations_per_task,
        "batch": config.batch_size,
        "test_size": config.test_size,
        "eval": config.eval_mode,
        "penalty": config.penalty_reduction,
    }
    return " ".join(f"{name}={value}" for name, value in parts.items())


def begin_task(block: Block) -> None:
    """Log that a task begins."""
    config: Config = block.configs[0]
    task = block.epoch + 1
    angle = (config.rotations or ())[block.epoch]
    block.log(
        f"task {task} of {config.tasks}: {angle:g} degrees, {len(block.data[train_set(task)])} images, "
        f"batch {config.batch(task)}, {config.iterations_per_task} iterations"
    )


def log_task(block: Block) -> None:
    """Log every 25th iteration of a task (or as configured), trial by trial."""
    steps = {name: block.steps[name].cpu().numpy() for name in ("loss", "correct", "tested")}
    lines = []
    for place in range(block.configs[0].iterations_per_task):
        for lane in range(len(dict.fromkeys(block.members))):
            if not place % block.configs[lane].log_every:
                row = {name: values[place, lane] for name, values in steps.items()}
                lines.append(iteration_line(block.configs[lane], block.members[lane].trial, place, row))
    block.log("\n".join(lines))


def iteration_line(config: Config, trial: int, place: int, row: Mapping[str, Any]) -> str:
    """Return the log's line for one iteration of a task."""
    correct, tested = int(row["correct"][0]), int(row["tested"][0])
    accuracy = f"{100.0 * correct / tested:.2f} %" if tested > 0 else "not tested"
    return (
        f"experiment {config.number} trial {trial} iteration {place}: loss {float(row['loss']):.6f}, task 1 {accuracy}"
    )


def finish(block: Block) -> None:
    """Store what a trial has once."""
    config: Config = block.configs[0]
    ends = config.iterations_per_task * np.arange(1, config.tasks + 1)
    block.array("switch_indices", np.tile(ends, (block.size, 1)))
    block.array("n_neurons_declared", [each.n_neurons for each in block.configs])
    block.array("n_neurons_used", [each.width for each in block.configs])
