"""What a plugin's step is to the engine: its functions, resolved once, and one form of their results.

Axes: B example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from torch import nn

from xfw.engine.batches import Resident
from xfw.engine.manual import Manual
from xfw.engine.rng import Rng
from xfw.errors import UserError
from xfw.experiment import Dataset, Pass

__all__ = ["OBSERVED", "Metrics", "Step", "StepCode", "Tensors", "observed", "results_of", "step_code", "steps_itself"]

Tensors = tuple[torch.Tensor, ...]
Metrics = dict[str, torch.Tensor]

OBSERVED = "observed/"
"""Begins the names of what ``observe_step`` returned: such metrics are missing in steps in which it is not asked."""


@attrs.frozen(eq=False)
class Step:
    """The step under way: its pass and data set, whether it is ``due``, and the counters of its draws."""

    epoch: Pass
    dataset: Dataset
    due: bool
    number: torch.Tensor
    position: torch.Tensor


@attrs.frozen
class StepCode:
    """The plugin's single-model functions, resolved once so that a step costs no hook call."""

    train_step: Callable[[Any, Tensors, Any, Pass], Any]
    observe_step: Callable[[Any, Any, Pass], Metrics] | None
    evaluate_step: Callable[[Any, Tensors], Mapping[str, torch.Tensor]]
    functions: tuple[Callable[..., Any], ...] = ()


def steps_itself(hooks: Any) -> bool:
    """Say whether ``train_step`` steps its optimizers itself: it names them among its arguments."""
    own = hooks.train_step.get_hookimpls()[-1:]
    return any({"optimizer", "optimizers"}.intersection(found.argnames) for found in own)


def step_code(hooks: Any, data: Mapping[str, Resident], manual: Manual | None = None, autocast: str = "") -> StepCode:
    """Return the plugin's own functions: called through pluggy they would cost microseconds every step.

    ``autocast`` names the kind of device where products run in bfloat16; an update that the step takes itself does too.
    """
    function, names = _implementation(hooks.train_step)
    evaluations = hooks.evaluate_step.get_hookimpls()

    def train_step(model: Any, batch: Tensors, rng: Any, pass_: Pass) -> Any:
        every = {"model": model, "batch": batch, "rng": rng, "pass_": pass_, "data": data}
        if manual is None:
            return function(**{name: every[name] for name in names})
        own = manual.of(model)
        output = function(**{name: (every | {"optimizer": own, "optimizers": own})[name] for name in names})
        return {name: torch.as_tensor(value).detach() for name, value in results_of(output).items()}

    observations = hooks.observe_step.get_hookimpls()[-1:]

    def observe_step(model: Any, rng: Any, pass_: Pass) -> Metrics:
        every = {"model": model, "rng": rng, "pass_": pass_, "data": data}
        found = observations[0].function(**{name: every[name] for name in observations[0].argnames})
        return {f"{OBSERVED}{name}": value for name, value in found.items()}

    def evaluate_step(model: Any, batch: Tensors) -> Mapping[str, torch.Tensor]:
        if not evaluations:
            raise UserError("block.evaluate was called, but the experiment has no evaluate_step")
        sums: Mapping[str, torch.Tensor] = evaluations[-1].function(model=model, batch=batch)
        return sums

    functions = (function, *(found.function for found in (*observations, *evaluations[-1:])))
    return StepCode(
        _shortened(train_step, autocast),
        _shortened(observe_step, autocast) if observations else None,
        _shortened(evaluate_step, autocast),
        functions,
    )


def observed(code: StepCode, step: Step, model: Any, module: nn.Module, rng: Rng) -> Metrics:
    """Return what is measured beside a step: ``module`` is the one whose state of training ``model`` shares."""
    if code.observe_step is None or not step.due:
        return {}
    module.eval()
    with torch.no_grad():
        found = code.observe_step(model, rng, step.epoch)
    module.train()
    return found


def _shortened(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    if not device:
        return function

    def shortened(*arguments: Any) -> Any:
        with torch.autocast(device, torch.bfloat16):
            return function(*arguments)

    return shortened


def _implementation(caller: Any) -> tuple[Callable[..., Any], frozenset[str]]:
    implementation = caller.get_hookimpls()[-1]
    return implementation.function, frozenset(implementation.argnames)


def results_of(output: Any) -> Metrics:
    """Return what ``train_step`` returned as metrics by name, its loss (if any) under ``loss``."""
    if isinstance(output, torch.Tensor):
        return {"loss": output}
    if isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], Mapping):
        if "loss" in output[1]:
            hint = "give the metric another name: 'loss' is what the first of the two is recorded as"
            raise UserError("train_step returned (loss, metrics) with a metric 'loss'", hint=hint)
        return {"loss": output[0], **output[1]}
    if isinstance(output, Mapping):
        return dict(output)
    raise UserError(
        f"train_step returned a {type(output).__name__}",
        hint="expected the loss, (loss, metrics) or, for an update without gradients, a mapping of metrics",
    )
