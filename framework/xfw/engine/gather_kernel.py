"""Gather the batch of every trial from a data set in one Triton kernel, from the order and the position on the device.

Axes: T trial, N place in the order, B example of the batch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

__all__ = ["take"]

BLOCK = 1024


@triton.jit  # type: ignore[untyped-decorator]
def _take(  # type: ignore[no-untyped-def]
    source, order, position, target, per_pass, batch_size, count, size, batch, block: tl.constexpr
):
    example, lane = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start = (tl.load(position) % per_pass) * batch_size
    index = tl.load(order + lane * count + start + example)
    for first in range(0, size, block):
        column = first + tl.arange(0, block)
        values = tl.load(source + index * size + column, mask=column < size)
        tl.store(target + (lane * batch + example) * size + column, values, mask=column < size)


def take(
    source: torch.Tensor, order_TN: torch.Tensor, position: torch.Tensor, per_pass: int, batch_size: int, size: int
) -> torch.Tensor:
    """Return the examples of a step, ``[T, size, …]``: those from ``position % per_pass * batch_size`` on."""
    lanes, count = order_TN.shape
    target = source.new_empty(lanes, size, *source.shape[1:])
    row = source[0].numel()
    _take[(size, lanes)](
        source, order_TN, position, target, per_pass, batch_size, count, row, size,
        block=min(BLOCK, triton.next_power_of_2(max(row, 1))),
    )  # fmt: skip
    return target
