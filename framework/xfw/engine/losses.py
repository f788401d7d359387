"""Give a step's cross entropy a stacked twin: two kernels for all trials where ``vmap`` of the library's takes twenty.

Axes: T trial, B example, C class.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["StackedLosses"]

LARGEST = 2**16
"""Logits of one trial that one program adds up; a larger batch is left to the library."""

ROWS = 256

PLAIN = {"weight": None, "size_average": None, "reduce": None, "reduction": "mean", "label_smoothing": 0.0}
"""The arguments of the loss that the kernels compute."""


@triton.jit  # type: ignore[untyped-decorator]
def _entropy(  # type: ignore[no-untyped-def]
    logits, labels, losses, counts, batch, classes, ignored, rows: tl.constexpr, width: tl.constexpr
):
    """Average ``log(sum(exp(z))) - z[label]`` over the examples of one trial, in order."""
    lane = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, width)
    total, count = tl.zeros((rows,), dtype=tl.float32), tl.zeros((rows,), dtype=tl.float32)
    for start in range(0, batch, rows):
        example = start + tl.arange(0, rows)
        there = example < batch
        label = tl.load(labels + lane * batch + example, mask=there, other=ignored)
        z = tl.load(
            logits + (lane * batch + example[:, None]) * classes + column[None, :],
            mask=there[:, None] & (column[None, :] < classes), other=float("-inf"),
        )  # fmt: skip
        z = tl.where(there[:, None], z, 0.0)  # rows beyond the batch: finite, and not counted
        top = tl.max(z, 1)
        sums = tl.sum(tl.exp(z - top[:, None]), 1)
        chosen = tl.sum(tl.where(column[None, :] == label[:, None], z, 0.0), 1)
        counted = label != ignored
        wrong = counted & ((label < 0) | (label >= classes))
        loss = tl.where(wrong, float("nan"), tl.log(sums) + top - chosen)
        total += tl.where(counted, loss, 0.0)
        count += tl.where(counted, 1.0, 0.0)
    number = tl.sum(count, 0)
    tl.store(losses + lane, tl.sum(total, 0) / number)
    tl.store(counts + lane, number)


@triton.jit  # type: ignore[untyped-decorator]
def _slope(  # type: ignore[no-untyped-def]
    logits, labels, counts, scale, slopes, batch, classes, ignored, rows: tl.constexpr, width: tl.constexpr
):
    """Return ``(softmax(z) - [label]) / count``, times the slope of the trial's loss."""
    lane = tl.program_id(1).to(tl.int64)
    example = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.arange(0, width)
    there = example < batch
    inside = there[:, None] & (column[None, :] < classes)
    place = (lane * batch + example[:, None]) * classes + column[None, :]
    label = tl.load(labels + lane * batch + example, mask=there, other=ignored)
    z = tl.where(there[:, None], tl.load(logits + place, mask=inside, other=float("-inf")), 0.0)
    top = tl.max(z, 1)
    powers = tl.exp(z - top[:, None])
    share = powers / tl.sum(powers, 1)[:, None] - tl.where(column[None, :] == label[:, None], 1.0, 0.0)
    factor = tl.where(label != ignored, tl.load(scale + lane) / tl.load(counts + lane), 0.0)
    tl.store(slopes + place, tl.where(label[:, None] != ignored, share * factor[:, None], 0.0), mask=inside)


class _Stacked(torch.autograd.Function):
    """The mean cross entropy of every trial, ``[T]``."""

    @staticmethod
    def forward(ctx: Any, logits_TBC: torch.Tensor, labels_TB: torch.Tensor, ignored: int) -> torch.Tensor:
        lanes, batch, classes = logits_TBC.shape
        losses, counts = logits_TBC.new_empty(lanes), logits_TBC.new_empty(lanes)
        width = triton.next_power_of_2(classes)
        _entropy[(lanes,)](logits_TBC, labels_TB, losses, counts, batch, classes, ignored, rows=ROWS, width=width)
        ctx.save_for_backward(logits_TBC, labels_TB, counts)
        ctx.ignored = ignored
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope_T: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        logits_TBC, labels_TB, counts = ctx.saved_tensors
        lanes, batch, classes = logits_TBC.shape
        slopes = torch.empty_like(logits_TBC)
        _slope[(triton.cdiv(batch, ROWS), lanes)](
            logits_TBC, labels_TB, counts, slope_T.contiguous(), slopes, batch, classes, ctx.ignored, rows=ROWS,
            width=triton.next_power_of_2(classes),
        )  # fmt: skip
        return slopes, None, None


class _CrossEntropy(torch.autograd.Function):
    """Leave ``vmap`` for the duration of the loss."""

    @staticmethod
    def forward(logits: torch.Tensor, labels: torch.Tensor, _ignored: int) -> torch.Tensor:
        return functional.cross_entropy(logits, labels)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to save: differentiation happens in the stacked loss."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, logits: torch.Tensor, labels: torch.Tensor, ignored: int) -> Any:
        lanes = info.batch_size
        stacked = [
            part.expand(lanes, *part.shape) if dim is None else part.movedim(dim, 0)
            for part, dim in zip((logits, labels), in_dims[:2], strict=True)
        ]
        return _Stacked.apply(stacked[0].contiguous(), stacked[1].contiguous(), ignored), 0


class StackedLosses(TorchFunctionMode):
    """Within this context the ``cross_entropy`` of trials' float32 logits and labels is taken for all at once."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.cross_entropy and len(args) == 2 and _stackable(*args):
            others = {name: value for name, value in kwargs.items() if name != "ignore_index"}
            if all(
                value is PLAIN[name] or (PLAIN[name] is not None and value == PLAIN[name])
                for name, value in others.items()
            ):
                return _CrossEntropy.apply(*args, kwargs.get("ignore_index", -100))
        return func(*args, **kwargs)


def _stackable(logits: torch.Tensor, labels: torch.Tensor) -> bool:
    batched = torch._C._functorch.is_batchedtensor
    return (
        batched(logits) and logits.dim() == 2 and logits.dtype == torch.float32 and 0 < logits.numel() <= LARGEST
        and labels.dim() == 1 and labels.dtype == torch.int64 and labels.shape[0] == logits.shape[0]
    )  # fmt: skip
