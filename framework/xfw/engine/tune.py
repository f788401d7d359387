"""Time the strategies that a device offers on a block's real models and data, and name the fastest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import torch

from xfw.engine.assembly import assemble, make_trainer
from xfw.engine.trainer import Trainer

if TYPE_CHECKING:
    from xfw.experiment import Experiment
    from xfw.manifest import BlockPlan, Manifest

__all__ = ["tune"]

STEPS = 5
REPEATS = 3


def tune(manifest: Manifest, plan: BlockPlan, experiment: Experiment) -> dict[str, float]:
    """Return seconds per step and trial of every candidate strategy, the fastest first.

    Every candidate trains models of its own, so nothing of the run is touched. On a CPU one process is timed, as
    the blocks of a run are dealt over the cores alike for all strategies.
    """
    candidates = ("stack", "streams", "serial") if manifest.execution.device.startswith("cuda") else ("stack", "pool")
    threads = torch.get_num_threads()
    torch.set_num_threads(manifest.execution.threads)
    try:
        found = {name: _seconds(manifest, attrs.evolve(plan, strategy=name), experiment) for name in candidates}
    finally:
        torch.set_num_threads(threads)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _seconds(manifest: Manifest, plan: BlockPlan, experiment: Experiment) -> float:
    parts = assemble(manifest, plan, experiment)
    trainer = make_trainer(parts, plan.strategy, _silent)
    count = min(STEPS, trainer.begin(parts.epochs[0], 0))

    def steps() -> None:
        trainer.begin(parts.epochs[0], 0)
        for step in range(count):
            trainer.step(step)
        _wait(trainer)

    steps()
    return min(_timed(steps) for _ in range(REPEATS)) / count / len(parts.lanes)


def _timed(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _silent(text: str) -> None:
    """Drop the log lines of throw-away trainers."""


def _wait(trainer: Trainer) -> None:
    if trainer.device.type == "cuda":
        torch.cuda.synchronize(trainer.device)
