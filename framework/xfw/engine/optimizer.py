"""Step the trials of a block, each trial's row of the arena as one parameter.

Elementwise optimizers of ``torch.optim`` act on a row exactly as on the tensors that it is made of, and trials with
different learning rates or decays are different parameter groups. So a trial's bits do not depend on its
neighbours' hyper-parameters, and the moments of all trials lie in ``[T, P]`` arenas of their own. On CUDA one
kernel of the same formula takes the place of Adam and AdamW. Axes: T trial, P entry of a trial's row.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from xfw.errors import UserError
from xfw.experiment import SGD, Adam, AdamW, Optimizer

if TYPE_CHECKING:
    from xfw.engine.adam_kernel import AdamKernel

__all__ = ["ArenaOptimizer"]


class ArenaOptimizer:
    """The optimizer of all trials of a block; ``state`` holds its arenas and counters by name."""

    def __init__(
        self,
        specs: Sequence[Optimizer],
        parameters_TP: torch.Tensor,
        gradients_TP: torch.Tensor,
        trained_width: int | None = None,
    ) -> None:
        """Entries of a row from ``trained_width`` on are frozen: neither gradients nor decay change them."""
        kinds = {type(spec) for spec in specs}
        if len(kinds) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise UserError(f"the trials of one block have different optimizers: {names}")
        lanes, width = len(specs), trained_width if trained_width is not None else parameters_TP.shape[1]
        device = parameters_TP.device
        rows = [nn.Parameter(row, requires_grad=False) for row in parameters_TP[:, :width]]
        for row, gradient in zip(rows, gradients_TP[:, :width], strict=True):
            row.grad = gradient
        groups: dict[Optimizer, list[nn.Parameter]] = {}
        for spec, row in zip(specs, rows, strict=True):
            groups.setdefault(spec, []).append(row)
        self.state: dict[str, torch.Tensor] = {}
        self._arenas = (parameters_TP, gradients_TP)
        fused = device.type in ("cpu", "cuda") and parameters_TP.dtype in (torch.float32, torch.float64)
        self._optimizer = _make(groups, fused=fused, capturable=device.type == "cuda")
        for name in _moments(specs[0]):
            self.state[name] = torch.zeros_like(parameters_TP[:, :width], memory_format=torch.contiguous_format)
        if not isinstance(specs[0], SGD):
            self.state["step"] = torch.zeros(lanes, dtype=torch.float32, device=device)
        for lane, row in enumerate(rows):
            own = {name: tensor[lane] for name, tensor in self.state.items()}
            self._optimizer.state[row] = own
        self._kernel = _kernel(specs, device)

    def step(self) -> None:
        """Update all rows from the gradient arena."""
        if self._kernel is None:
            self._optimizer.step()
        else:
            self._kernel.step(*self._arenas, self.state)

    def reset(self, where_T: torch.Tensor | None = None) -> None:
        """Forget moments and step counters, of the marked trials only where a mask is given."""
        for tensor in self.state.values():
            if where_T is None:
                tensor.zero_()
            else:
                tensor.masked_fill_(where_T.view(-1, *(1,) * (tensor.dim() - 1)), 0)


def _kernel(specs: Sequence[Optimizer], device: torch.device) -> AdamKernel | None:
    """Return the CUDA kernel for these optimizers, or None where there is none (or no Triton)."""
    if device.type != "cuda" or isinstance(specs[0], SGD) or importlib.util.find_spec("triton") is None:
        return None
    from xfw.engine.adam_kernel import AdamKernel

    return AdamKernel([spec for spec in specs if not isinstance(spec, SGD)], device)


def _moments(spec: Optimizer) -> tuple[str, ...]:
    if isinstance(spec, SGD):
        return ("momentum_buffer",) if spec.momentum else ()
    return ("exp_avg", "exp_avg_sq")


def _make(groups: dict[Optimizer, list[nn.Parameter]], *, fused: bool, capturable: bool) -> torch.optim.Optimizer:
    options: list[dict[str, object]] = []
    for spec, rows in groups.items():
        common = {"params": rows, "lr": spec.lr, "weight_decay": spec.weight_decay}
        if isinstance(spec, SGD):
            common |= {"momentum": spec.momentum, "dampening": spec.dampening, "nesterov": spec.nesterov}
        else:
            common |= {"betas": spec.betas, "eps": spec.eps}
        options.append(common)
    first = next(iter(groups))
    if isinstance(first, SGD):
        if any(spec.momentum and spec.dampening for spec in groups if isinstance(spec, SGD)):
            # torch leaves the very first gradient undamped; a buffer of zeros, which a reset makes, cannot say so.
            raise UserError("optimizer: SGD with momentum takes no dampening", hint="leave it out: dampening=0")
        return torch.optim.SGD(options, fused=fused)
    kind = torch.optim.AdamW if isinstance(first, AdamW) else torch.optim.Adam
    if not isinstance(first, (Adam, AdamW)):
        raise UserError(f"optimizer hook returned a {type(first).__name__}, expected xfw.AdamW, xfw.Adam or xfw.SGD")
    return kind(options, fused=fused, capturable=capturable)
