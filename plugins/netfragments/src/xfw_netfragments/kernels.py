"""Two Triton kernels for the parts of a step that tensor operations can only compute on copies of every neighbourhood.

Both add numbers in float64 at the active inputs alone. Sums of float32 weights, and of features that are 0, 1 or
halves, are exact in any order: so they give the bits of the tensor operations.

Axes: T trial, N image, F feature, C channel, I input channel, K place in a cell's neighbourhood, P position, R
receiver, S source; one trial's call goes without T, and ``vmap`` adds it.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

__all__ = ["coincidences", "support"]

CELLS = 1024
"""Positions that are searched at once for an active cell."""

SIZES = ["images", "receivers", "sources", "channels", "inputs", "height", "width"]
"""Arguments for whose values nothing is compiled anew: training, validation and evaluation share their kernels."""


@triton.jit(do_not_specialize=SIZES)  # type: ignore[untyped-decorator]
def _support(  # type: ignore[no-untyped-def]
    weight, channel, source, target, images, receivers, sources, channels, inputs, height, width,
    side: tl.constexpr, block_x: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Compute one image row of one receiver: program (trial · image · receiver, row)."""
    own_map, y = tl.program_id(0).to(tl.int64), tl.program_id(1)
    image = own_map // receivers
    places = height * width
    x, k_x = tl.arange(0, block_x), tl.arange(0, block_k)
    own = tl.load(channel + own_map * places + y * width + x, mask=x < width, other=0).to(tl.int64)
    own_start = (own * inputs * side * side)[:, None] + k_x[None, :]
    connections = weight + (image // images) * channels * inputs * side * side
    around_x = x[:, None] + k_x[None, :] - side // 2
    inside = (around_x >= 0) & (around_x < width) & (k_x < side)[None, :] & (x < width)[:, None]
    total = tl.zeros([block_x, block_k], tl.float64)
    for number in range(sources):
        seen = source + (image * sources + number) * places
        for k_y in range(side):
            around_y = y + k_y - side // 2
            if (around_y >= 0) & (around_y < height):
                origin = tl.load(seen + around_y * width + around_x, mask=inside, other=-1).to(tl.int32)
                index = own_start + (origin * side + k_y) * side
                total += tl.load(connections + index, mask=origin >= 0, other=0.0).to(tl.float64)
    tl.store(target + own_map * places + y * width + x, tl.sum(total, 1), mask=x < width)


@triton.jit(do_not_specialize=SIZES)  # type: ignore[untyped-decorator]
def _coincidences(  # type: ignore[no-untyped-def]
    active, counted, target, images, channels, inputs, height, width,
    side: tl.constexpr, block_p: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Compute the connections of one channel with one input: program (trial · channel, input)."""
    cell, source = tl.program_id(0).to(tl.int64), tl.program_id(1)
    places = height * width
    k = tl.arange(0, block_k)
    k_y, k_x = k // side - side // 2, k % side - side // 2
    total = tl.zeros([block_k], tl.float64)
    for image in range(images):
        picture = (cell // channels) * images + image
        fired = active + (picture * channels + cell % channels) * places
        seen = counted + (picture * inputs + source) * places
        for first in range(0, places, block_p):
            place = first + tl.arange(0, block_p)
            left = tl.where(tl.load(fired + place, mask=place < places, other=0.0) > 0, place, places)
            nearest = tl.min(left)
            while nearest < places:
                y, x = nearest // width + k_y, nearest % width + k_x
                inside = (k < side * side) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
                total += tl.load(seen + y * width + x, mask=inside, other=0.0).to(tl.float64)
                left = tl.where(left > nearest, left, places)
                nearest = tl.min(left)
    start = (cell * inputs + source) * side * side
    tl.store(target + start + k, total.to(target.dtype.element_ty), mask=k < side * side)


# Both operations see a leading axis of trials; ``vmap`` folds its own into it.


@torch.library.custom_op("netfragments::support", mutates_args=())
def _stacked_support(
    weight_TCIKK: torch.Tensor, channel_TNRP: torch.Tensor, source_TNSP: torch.Tensor, height: int
) -> torch.Tensor:
    lanes, images, receivers, places = channel_TNRP.shape
    channels, inputs, side = weight_TCIKK.shape[1:4]
    width = places // height
    target = weight_TCIKK.new_empty(channel_TNRP.shape, dtype=torch.float64)
    _support[(lanes * images * receivers, height)](
        weight_TCIKK.contiguous(), channel_TNRP.contiguous(), source_TNSP.contiguous(), target,
        images, receivers, source_TNSP.shape[2], channels, inputs, height, width,
        side=side, block_x=triton.next_power_of_2(width), block_k=triton.next_power_of_2(side),
    )  # fmt: skip
    return target


@torch.library.custom_op("netfragments::coincidences", mutates_args=())
def _stacked_coincidences(active_TNCHW: torch.Tensor, counted_TNIHW: torch.Tensor, side: int) -> torch.Tensor:
    lanes, images, channels, height, width = active_TNCHW.shape
    inputs = counted_TNIHW.shape[2]
    target = counted_TNIHW.new_empty(lanes, channels, inputs, side, side)
    _coincidences[(lanes * channels, inputs)](
        active_TNCHW.contiguous(), counted_TNIHW.contiguous(), target, images, channels, inputs, height, width,
        side=side, block_p=CELLS, block_k=triton.next_power_of_2(side * side), num_warps=1,
    )  # fmt: skip
    return target


def _fold(operation: Any) -> None:
    """Let ``vmap`` fold its axis into the operation's leading one."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[torch.Tensor, int]:
        folded = [
            argument if not isinstance(argument, torch.Tensor)
            else argument.expand(info.batch_size, *argument.shape).flatten(0, 1) if dim is None
            else argument.movedim(dim, 0).flatten(0, 1)
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]  # fmt: skip
        return operation(*folded).unflatten(0, (info.batch_size, -1)), 0

    operation.register_vmap(rule)


_fold(_stacked_support)
_fold(_stacked_coincidences)


def support(
    weight_CIKK: torch.Tensor, channel_NRP: torch.Tensor, source_NSP: torch.Tensor, height: int
) -> torch.Tensor:
    """Return what receivers get from the active inputs around them, (N, R, P), float64 (spec 2.3).

    ``channel`` is the channel of each of R receivers at a place, ``source`` an input channel that is active there, or
    −1; there may be S of them at a place.
    """
    found: torch.Tensor = _stacked_support(weight_CIKK[None], channel_NRP[None], source_NSP[None], height)
    return found[0]


def coincidences(active_NCHW: torch.Tensor, counted_NIHW: torch.Tensor, side: int) -> torch.Tensor:
    """Return what lies around a channel's active cells, summed over them, (C, I, K, K) (spec 2.4)."""
    found: torch.Tensor = _stacked_coincidences(active_NCHW[None], counted_NIHW[None], side)
    return found[0]
