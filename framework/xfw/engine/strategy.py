"""Choose how a block's trials are run: a fixed rule on model and device, and the clock where it is asked for.

The rule never looks at the number of trials or at a clock, so equal commands with equal seeds give equal bits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
import torch
from torch import nn

from xfw.engine.twin import refusal
from xfw.engine.work import HEAVY
from xfw.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from xfw.experiment import Experiment
    from xfw.manifest import BlockPlan, Manifest

__all__ = ["STRATEGIES", "TUNE", "choose", "tune"]

STRATEGIES = ("serial", "pool", "stack", "streams")

TUNE = "tune"
"""Asks for the fastest strategy by the clock; until that is known, the rule's choice stands in the plan."""

NARROW = 128
"""Widest hidden map for which stacking pays on a CPU; wider products already fill a core (docs/performance.md)."""

STEPS, REPEATS = 5, 3
"""Steps that are timed together by ``tune``, and how often."""


def choose(model: nn.Module, device: str, requested: str = "auto", *, alone: bool = False) -> str:
    """Return the strategy for one trial's model on a device (``cpu``, ``cuda``, ``cuda:1``, ``mps``).

    ``alone`` says that its step runs for one model at a time only: it steps optimizers itself.
    """
    if requested not in ("auto", TUNE):
        if requested not in STRATEGIES:
            hint = did_you_mean(requested, (*STRATEGIES, TUNE))
            raise UserError(f"--strategy: unknown strategy '{requested}'", hint=hint, exit_code=2)
        return requested
    if alone:
        return {"cuda": "streams", "cpu": "pool"}.get(device.partition(":")[0], "serial")
    linear_only = not refusal(model)
    if device.startswith("cuda"):
        return "streams" if any(isinstance(module, HEAVY) for module in model.modules()) else "stack"
    if device == "mps":
        return "stack" if linear_only else "serial"
    widths = [module.out_features for module in model.modules() if isinstance(module, nn.Linear)]
    return "stack" if linear_only and max(widths, default=0) <= NARROW else "pool"


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
    from xfw.engine.assembly import assemble, make_trainer

    parts = assemble(manifest, plan, experiment)
    trainer = make_trainer(parts, plan.strategy, lambda _text: None)
    count = min(STEPS, trainer.begin(parts.epochs[0], 0))
    best = float("inf")
    for repeat in range(1 + REPEATS):  # the first one warms up
        started = time.perf_counter()
        trainer.begin(parts.epochs[0], 0)
        for step in range(count):
            trainer.step(step)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        if repeat:
            best = min(best, time.perf_counter() - started)
    return best / count / len(parts.lanes)
