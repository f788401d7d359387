"""Update all trials' rows by Adam or AdamW in one Triton kernel, each row with its own hyper-parameters.

``torch.optim`` steps rows with equal hyper-parameters together, at 70 % of an H100's memory bandwidth; this kernel
reads and writes every entry once at about 95 %, whatever mixture of learning rates and decays a block has.
Axes: T trial, P entry of a trial's row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from xfw.experiment import Adam, AdamW

__all__ = ["AdamKernel"]

BLOCK, WARPS = 2048, 8
"""Entries and warps of one program: the fastest of eight settings on an H100 (docs/performance.md)."""


@triton.jit  # type: ignore[untyped-decorator]
def _adam(  # type: ignore[no-untyped-def]
    parameter, gradient, first, second, step, lr, decay, beta1, beta2, eps, width, stride,
    decoupled: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Kingma & Ba 2015, algorithm 1; decoupled decay: Loshchilov & Hutter 2019, algorithm 2."""
    row = tl.program_id(1)
    column = tl.program_id(0) * block + tl.arange(0, block)
    inside = column < width
    place = row.to(tl.int64) * width + column
    source = row.to(tl.int64) * stride + column
    p = tl.load(parameter + source, mask=inside)
    g = tl.load(gradient + source, mask=inside)
    m = tl.load(first + place, mask=inside)
    v = tl.load(second + place, mask=inside)
    rate, shrink, b1, b2, tiny = (
        tl.load(lr + row), tl.load(decay + row), tl.load(beta1 + row), tl.load(beta2 + row), tl.load(eps + row),
    )  # fmt: skip
    count = tl.load(step + row).to(tl.float64) + 1.0
    # 1 - beta^count, in float64: in float32 it loses three digits at the first steps.
    bias1 = (1.0 - tl.exp(count * tl.log(b1))).to(p.dtype)
    bias2 = (1.0 - tl.exp(count * tl.log(b2))).to(p.dtype)
    if decoupled:
        p = p - (rate * shrink).to(p.dtype) * p
    else:
        g = g + shrink.to(p.dtype) * p
    m = m + (1.0 - b1).to(p.dtype) * (g - m)
    v = b2.to(p.dtype) * v + (1.0 - b2).to(p.dtype) * g * g
    p = p - rate.to(p.dtype) / bias1 * m / (tl.sqrt(v) / tl.sqrt(bias2) + tiny.to(p.dtype))
    tl.store(parameter + source, p, mask=inside)
    tl.store(first + place, m, mask=inside)
    tl.store(second + place, v, mask=inside)


class AdamKernel:
    """The update of a block on CUDA; hyper-parameters are ``[T]`` float64 tensors on the device."""

    def __init__(self, specs: Sequence[Adam | AdamW], device: torch.device) -> None:
        def column(values: Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)

        self._decoupled = isinstance(specs[0], AdamW)
        self._hyper = (
            column([spec.lr for spec in specs]),
            column([spec.weight_decay for spec in specs]),
            column([spec.betas[0] for spec in specs]),
            column([spec.betas[1] for spec in specs]),
            column([spec.eps for spec in specs]),
        )

    def step(self, parameters_TP: torch.Tensor, gradients_TP: torch.Tensor, state: dict[str, Any]) -> None:
        """Update parameters and moments in place, and count the step."""
        lanes, width = state["exp_avg"].shape
        _adam[(triton.cdiv(width, BLOCK), lanes)](
            parameters_TP, gradients_TP, state["exp_avg"], state["exp_avg_sq"], state["step"], *self._hyper, width,
            parameters_TP.stride(0),
            decoupled=self._decoupled, block=BLOCK, num_warps=WARPS,
        )  # fmt: skip
        state["step"].add_(1)
