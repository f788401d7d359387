"""Draw and apply a dropout mask in one Triton kernel, with the bits of ``Rng.words24``.

In tensor operations a site takes some forty small kernels, most of them for the hash: more than its map. The mask is
drawn again in the backward pass, so nothing is stored. Axes: T trial, B example, F feature.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

__all__ = ["Keys", "applies", "drop"]

BLOCK = 1024

Keys = tuple[torch.Tensor, torch.Tensor, int, int]
"""The two key words of every trial at this step, ``[T]`` int32 each, and the two words of the site's purpose."""


@triton.jit  # type: ignore[untyped-decorator]
def _fold(x, shift: tl.constexpr):  # type: ignore[no-untyped-def]
    return x ^ (x >> shift)


@triton.jit
def _mix(x):  # type: ignore[no-untyped-def]
    return _fold(_fold(_fold(x, 16) * 0x7FEB352D, 15) * 0x846CA68B, 16)


@triton.jit(do_not_specialize=["purpose0", "purpose1"])  # type: ignore[untyped-decorator]
def _drop(  # type: ignore[no-untyped-def]
    source, target, key0, key1, threshold, scale, purpose0, purpose1, rows, columns, features_first: tl.constexpr,
    block: tl.constexpr,
):  # fmt: skip
    """Multiply one trial's part of ``source`` by its mask; elements are numbered by row, in any layout."""
    lane = tl.program_id(1)
    place = tl.program_id(0) * block + tl.arange(0, block)
    size = rows * columns
    inside = place < size
    if features_first:  # noqa: SIM108 - decided when the kernel is compiled
        element = (place % rows) * columns + place // rows
    else:
        element = place
    k0 = _mix(tl.load(key0 + lane).to(tl.uint32) ^ purpose0.to(tl.uint32))
    k1 = _mix(tl.load(key1 + lane).to(tl.uint32) + purpose1.to(tl.uint32))
    word = _fold((element.to(tl.uint32) * 0x9E3779B9) ^ k0, 16) * 0x7FEB352D
    word = _fold(_fold(word ^ k1, 15) * 0x846CA68B, 16) >> 8
    kept = word >= tl.load(threshold + lane).to(tl.uint32)
    offset = lane.to(tl.int64) * size + place
    x = tl.load(source + offset, mask=inside)
    factor = tl.where(kept, tl.load(scale + lane), 0.0).to(x.dtype)
    tl.store(target + offset, x * factor, mask=inside)


def _features_first(x: torch.Tensor) -> bool | None:
    """Tell whether ``[T, B, F]`` lies as ``[T, F, B]`` in memory; None where it lies in neither order."""
    if x.is_contiguous():
        return False
    return True if x.dim() == 3 and x.transpose(1, 2).is_contiguous() else None


def _launch(x: torch.Tensor, keys: Keys, threshold_T: torch.Tensor, scale_T: torch.Tensor) -> torch.Tensor:
    if _features_first(x) is None:
        x = x.contiguous()
    y, lanes = torch.empty_like(x), x.shape[0]
    size, columns = x.numel() // lanes, x.shape[-1]
    _drop[(triton.cdiv(size, BLOCK), lanes)](
        x, y, keys[0], keys[1], threshold_T, scale_T, keys[2], keys[3], size // columns, columns,
        features_first=_features_first(x), block=BLOCK,
    )  # fmt: skip
    return y


class _Drop(torch.autograd.Function):
    """The mask depends on the element's number alone, so the gradient's own layout may differ from the input's."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, keys: Keys, threshold_T: torch.Tensor, scale_T: torch.Tensor
    ) -> torch.Tensor:
        ctx.how = keys, threshold_T, scale_T
        return _launch(x, keys, threshold_T, scale_T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _launch(gradient, *ctx.how), None, None, None


def applies(x: torch.Tensor) -> bool:
    """Tell whether the kernel can work on a tensor: on CUDA, not inside ``vmap``, of fewer than 2^31 elements."""
    return x.is_cuda and x.numel() < 2**31 and not torch._C._functorch.is_batchedtensor(x)


def drop(x: torch.Tensor, keys: Keys, threshold_T: torch.Tensor, scale_T: torch.Tensor) -> torch.Tensor:
    """Zero elements of ``[T, …]`` below each trial's threshold (in units of 2^-24) and scale the rest."""
    y: torch.Tensor = _Drop.apply(x, keys, threshold_T, scale_T)
    return y
