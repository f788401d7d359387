"""Choose how a block's trials are run: a fixed rule on model and device, and the way down where a strategy refuses.

The rule never looks at the number of trials or at a clock, so equal commands with equal seeds give equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from xfw.engine.batches import has_kernels
from xfw.engine.lanes import LaneStepper
from xfw.engine.narrow import NarrowTwin, layers_of
from xfw.engine.network import Network
from xfw.engine.stacked import NarrowStepper, StackedStepper, TwinStepper
from xfw.engine.step import StepCode
from xfw.engine.twin import NotTwinned, refusal
from xfw.errors import UserError, did_you_mean

__all__ = ["STRATEGIES", "TUNE", "Stepper", "choose", "make_stepper"]

STRATEGIES = ("serial", "pool", "stack", "streams")

TUNE = "tune"
"""Asks for the fastest strategy by the clock; until that is known, the rule's choice stands in the plan."""

NARROW = 128
"""Widest hidden map for which stacking pays on a CPU; wider products already fill a core (docs/performance.md)."""

HEAVY = (
    nn.modules.conv._ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag,
)  # fmt: skip
"""Layers whose kernels fill a GPU one by one, or lose by stacking.

A model without them is bound by launches as a rule; large arrays within its step are the exception (docs/plugins.md).
"""

Stepper = StackedStepper | LaneStepper


def choose(model: nn.Module, device: str, requested: str = "auto") -> str:
    """Return the strategy for one trial's model on a device (``cpu``, ``cuda``, ``cuda:1``, ``mps``)."""
    if requested not in ("auto", TUNE):
        if requested not in STRATEGIES:
            hint = did_you_mean(requested, (*STRATEGIES, TUNE))
            raise UserError(f"--strategy: unknown strategy '{requested}'", hint=hint, exit_code=2)
        return requested
    linear_only = not refusal(_keyed(model))
    if device.startswith("cuda"):
        return "streams" if any(isinstance(module, HEAVY) for module in model.modules()) else "stack"
    if device == "mps":
        return "stack" if linear_only else "serial"
    widths = [module.out_features for module in model.modules() if isinstance(module, nn.Linear)]
    return "stack" if linear_only and max(widths, default=0) <= NARROW else "pool"


def make_stepper(
    strategy: str,
    network: Network,
    code: StepCode,
    words_T2: torch.Tensor,
    rehearse: Callable[[Stepper], float],
    log: Callable[[str], None],
) -> Stepper:
    """Return the first way of running ``strategy`` that works on this model, with one log line per refusal.

    ``rehearse`` takes one step's gradients with a stepper and returns their relative difference from those of
    the ordinary single-model step; exceptions of the plugin's own code pass through from the last way.
    """
    if strategy == "stack":
        for name, make in _stacked(network, code, words_T2):
            try:
                stepper = make()
                difference = rehearse(stepper)
                if difference <= _tolerance(network.dtype):
                    return stepper
                log(f"{name}: gradients differ from the single model's by {difference:.1e}; not used")
            except (NotTwinned, RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
                log(f"{name}: refused ({_last_line(error)})")
    return LaneStepper(network, code, words_T2, streams=strategy in ("stack", "streams"))


def _stacked(
    network: Network, code: StepCode, words_T2: torch.Tensor
) -> Iterator[tuple[str, Callable[[], StackedStepper]]]:
    if not network.shared and not refusal(network.template):
        layers = layers_of(network.template) if has_kernels(network.device) else None
        if layers is not None and NarrowTwin.fits(network, layers):
            yield "narrow kernels", lambda: NarrowStepper(network, code, words_T2, layers)
        yield "stacked twin", lambda: TwinStepper(network, code, words_T2)
    if network.device.type == "cpu" and any(isinstance(m, nn.modules.conv._ConvNd) for m in network.template.modules()):
        # Grouped convolutions take twice the time of single ones on a CPU, and their bits depend on the width.
        return
    yield "vmap", lambda: StackedStepper(network, code, words_T2)


def _tolerance(dtype: torch.dtype) -> float:
    """Relative norm by which one step's gradients may differ between kernels: rounding, not an error of layout."""
    return 1e-9 if dtype == torch.float64 else 1e-3


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _keyed(model: nn.Module) -> nn.Module:
    """Return the model with dropout layers left out of account: they have a keyed twin."""
    copy = nn.Module()
    for name, module in model.named_modules():
        if not isinstance(module, nn.Dropout) and not list(module.children()):
            copy.add_module(name.replace(".", "/") or "root", module)
    return copy
