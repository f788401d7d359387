"""Update all trials' rows by Adam or AdamW in one Triton kernel, each row with its own hyper-parameters.

``torch.optim`` steps rows with equal hyper-parameters together, at 70 % of an H100's memory bandwidth; this kernel
reads and writes every entry once at about 95 %, whatever mixture of learning rates and decays a block has.
Axes: T trial, P entry of a trial's row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl

from xfw.engine.settings import Follower

__all__ = ["update"]

BLOCK, WARPS = 2048, 8
"""Entries and warps of one program: the fastest of eight settings on an H100 (docs/performance.md)."""


@triton.jit  # type: ignore[untyped-decorator]
def _adam(  # type: ignore[no-untyped-def]
    parameter, gradient, first, second, step, lr, decay, beta1, beta2, eps, width, stride, pitch,
    decoupled: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Kingma & Ba 2015, algorithm 1; decoupled decay: Loshchilov & Hutter 2019, algorithm 2."""
    row = tl.program_id(1)
    column = tl.program_id(0) * block + tl.arange(0, block)
    inside = column < width
    place = row.to(tl.int64) * pitch + column
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


def update(
    parameters_TP: torch.Tensor,
    gradients_TP: torch.Tensor,
    first_TP: torch.Tensor,
    second_TP: torch.Tensor,
    step_T: torch.Tensor,
    numbers: Mapping[str, Follower],
    *,
    decoupled: bool,
) -> None:
    """Update parameters and moments in place; the two of each pair have the same strides. The step is not counted."""
    trials, width = parameters_TP.shape
    names = ("lr", "weight_decay", "betas/0", "betas/1", "eps")
    _adam[(triton.cdiv(width, BLOCK), trials)](
        parameters_TP, gradients_TP, first_TP, second_TP, step_T, *(numbers[name].now for name in names), width,
        parameters_TP.stride(0), first_TP.stride(0),
        decoupled=decoupled, block=BLOCK, num_warps=WARPS,
    )  # fmt: skip
