"""What a plugin's step is to the engine: two functions, and one form of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from xfw.errors import UserError

__all__ = ["StepCode", "split_output"]


@attrs.frozen
class StepCode:
    """The plugin's single-model functions, resolved once so that a step costs no hook call."""

    train_step: Callable[[Any, tuple[torch.Tensor, ...], Any], Any]
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
