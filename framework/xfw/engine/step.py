"""What a plugin's step is to the engine: two functions, and one form of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from xfw.engine.batches import Resident
from xfw.errors import UserError
from xfw.experiment import Pass

__all__ = ["StepCode", "split_output", "step_code"]


@attrs.frozen
class StepCode:
    """The plugin's single-model functions, resolved once so that a step costs no hook call."""

    train_step: Callable[[Any, tuple[torch.Tensor, ...], Any, Pass, bool], Any]
    evaluate_step: Callable[[Any, tuple[torch.Tensor, ...]], Mapping[str, torch.Tensor]]


def split_output(output: Any) -> dict[str, torch.Tensor]:
    """Return what ``train_step`` returned as metrics by name, its loss (if any) under ``loss``."""
    if isinstance(output, torch.Tensor):
        return {"loss": output}
    if isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], Mapping):
        return {"loss": output[0], **output[1]}
    if isinstance(output, Mapping):
        return dict(output)
    raise UserError(
        f"train_step returned a {type(output).__name__}",
        hint="expected the loss, (loss, metrics) or, for an update without gradients, a mapping of metrics",
    )


def step_code(hooks: Any, data: Mapping[str, Resident]) -> StepCode:
    """Return the plugin's own functions: called through pluggy they would cost microseconds every step."""
    return StepCode(_train_step(hooks, data), _evaluate_step(hooks))


def _train_step(hooks: Any, data: Mapping[str, Resident]) -> Callable[..., Any]:
    function, names = _implementation(hooks.train_step)

    def step(model: Any, batch: tuple[torch.Tensor, ...], rng: Any, pass_: Pass, due: bool) -> Any:
        every = {"model": model, "batch": batch, "rng": rng, "pass_": pass_, "data": data, "due": due}
        return function(**{name: every[name] for name in names})

    return step


def _evaluate_step(hooks: Any) -> Callable[..., Any]:
    if not hooks.evaluate_step.get_hookimpls():

        def missing(_model: Any, _batch: Any) -> Mapping[str, torch.Tensor]:
            raise UserError("block.evaluate was called, but the experiment has no evaluate_step")

        return missing
    function, _ = _implementation(hooks.evaluate_step)
    return lambda model, batch: function(model=model, batch=batch)


def _implementation(caller: Any) -> tuple[Callable[..., Any], frozenset[str]]:
    implementation = caller.get_hookimpls()[-1]
    return implementation.function, frozenset(implementation.argnames)
