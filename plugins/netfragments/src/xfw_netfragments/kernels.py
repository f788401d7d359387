"""Two Triton kernels for the parts of a step that tensor operations can only compute on copies of every neighbourhood.

Both add numbers in float64 at the active inputs alone, where sums of float32 weights are exact in any order: so they
give the bits of the tensor operations. Axes: T trial, N image, F feature, C channel, I input channel, K place in a
cell's neighbourhood, P position; one trial's call goes without T, and ``vmap`` adds it.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

__all__ = ["coincidences", "support"]

CHUNK = 64
"""Positions that are looked at together for an active cell."""


@triton.jit  # type: ignore[untyped-decorator]
def _support(  # type: ignore[no-untyped-def]
    weight, channel, source, target, images, features, channels, inputs, height, width,
    side: tl.constexpr, block_x: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Compute one image row of one feature: program (trial · image · feature, row)."""
    row, y = tl.program_id(0), tl.program_id(1)
    reach = side // 2
    places = height * width
    x = tl.arange(0, block_x)
    k = tl.arange(0, block_k)
    own = tl.load(channel + row.to(tl.int64) * places + y * width + x, mask=x < width, other=0).to(tl.int32)
    lane = (row // (images * features)).to(tl.int64)
    connections = weight + lane * channels * inputs * side * side
    own_start = own * inputs * side * side
    image = source + (row // features).to(tl.int64) * features * places
    total = tl.zeros([block_x, block_k], tl.float64)
    around_x = x[:, None] + k[None, :] - reach
    inside = (around_x >= 0) & (around_x < width) & (k[None, :] < side) & (x[:, None] < width)
    for feature in range(features):
        for k_y in range(side):
            around_y = y + k_y - reach
            if (around_y >= 0) & (around_y < height):
                place = feature * places + around_y * width + around_x
                origin = tl.load(image + place, mask=inside, other=-1).to(tl.int32)
                index = own_start[:, None] + (origin * side + k_y) * side + k[None, :]
                total += tl.load(connections + index, mask=origin >= 0, other=0.0).to(tl.float64)
    tl.store(target + row.to(tl.int64) * places + y * width + x, tl.sum(total, 1), mask=x < width)


@triton.jit  # type: ignore[untyped-decorator]
def _coincidences(  # type: ignore[no-untyped-def]
    active, counted, target, images, channels, inputs, height, width,
    side: tl.constexpr, chunk: tl.constexpr, block_k: tl.constexpr,
):  # fmt: skip
    """Compute the neighbourhood of one connection of channels: program (trial · channel, input)."""
    cell, source = tl.program_id(0).to(tl.int64), tl.program_id(1)
    lane, own = cell // channels, cell % channels
    reach = side // 2
    places = height * width
    k = tl.arange(0, block_k)
    k_y, k_x = k // side, k % side
    total = tl.zeros([block_k], tl.float64)
    for image in range(images):
        fired = active + ((lane * images + image) * channels + own) * places
        seen = counted + ((lane * images + image) * inputs + source) * places
        for start in range(0, places, chunk):
            some = tl.arange(0, chunk) + start
            if tl.max(tl.load(fired + some, mask=some < places, other=0.0)) > 0:
                for place in range(start, tl.minimum(start + chunk, places)):
                    strength = tl.load(fired + place)
                    if strength > 0:
                        y, x = place // width + k_y - reach, place % width + k_x - reach
                        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (k < side * side)
                        found = tl.load(seen + y * width + x, mask=inside, other=0.0)
                        total += strength.to(tl.float64) * found.to(tl.float64)
    start = (cell * inputs + source) * side * side
    tl.store(target + start + k, total.to(target.dtype.element_ty), mask=k < side * side)


# Both operations see a leading axis of trials; ``vmap`` folds its own into it.


@torch.library.custom_op("netfragments::support", mutates_args=())
def _stacked_support(
    weight_TCIKK: torch.Tensor, channel_TNFP: torch.Tensor, source_TNFP: torch.Tensor, height: int
) -> torch.Tensor:
    lanes, images, features, places = channel_TNFP.shape
    channels, inputs, side = weight_TCIKK.shape[1:4]
    width = places // height
    target = weight_TCIKK.new_empty(channel_TNFP.shape, dtype=torch.float64)
    _support[(lanes * images * features, height)](
        weight_TCIKK.contiguous(), channel_TNFP.contiguous(), source_TNFP.contiguous(), target,
        images, features, channels, inputs, height, width,
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
        side=side, chunk=CHUNK, block_k=triton.next_power_of_2(side * side),
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
    weight_CIKK: torch.Tensor, channel_NFP: torch.Tensor, source_NFP: torch.Tensor, height: int
) -> torch.Tensor:
    """Return what each winner gets from the active inputs around it, (N, F, P), float64 (spec 2.3).

    ``channel`` is the winner's channel, ``source`` the input channel that is active at a place, or −1.
    """
    found: torch.Tensor = _stacked_support(weight_CIKK[None], channel_NFP[None], source_NFP[None], height)
    return found[0]


def coincidences(active_NCHW: torch.Tensor, counted_NIHW: torch.Tensor, side: int) -> torch.Tensor:
    """Return Σ over positions of activity times what lies in the neighbourhood, (C, I, K, K) (spec 2.4)."""
    found: torch.Tensor = _stacked_coincidences(active_NCHW[None], counted_NIHW[None], side)
    return found[0]
