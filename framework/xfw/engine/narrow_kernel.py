"""Three Triton kernels for a whole narrow network: forward, backward, and the gradients of all weights, for all trials.

A program holds one trial's tile of examples in registers and walks through the layers; a table says where the weights
of a layer lie and what it does. Sums over examples are taken in a fixed order, so equal inputs give equal bits.
Axes: T trial, B example, L layer, W unit, P parameter.
"""

from __future__ import annotations

import attrs
import torch
import triton
import triton.language as tl

from xfw.engine.dropout_kernel import _fold, _mix

__all__ = ["Drops", "backward", "forward"]

COLUMNS = 7
"""Columns of the table: places of weight and bias (-1: none) in a trial's row, inputs, outputs, deeds (narrow.py), and
the two words of a dropout site's purpose."""

CHUNK = 64
"""Inputs of the first layer that are multiplied at once."""

FEW = 264
"""Programs of 16 examples that a GPU of 132 multiprocessors runs at once; with more, programs of 32 are faster."""


@triton.jit  # type: ignore[untyped-decorator]
def _weight(row, table, layer, unit, columns: tl.constexpr):  # type: ignore[no-untyped-def]
    """Load a hidden layer's weight as ``[in, out]`` and its bias as ``[out]``, zero beyond its sizes."""
    place, bias = tl.load(table + layer * columns), tl.load(table + layer * columns + 1)
    inputs, outputs = tl.load(table + layer * columns + 2), tl.load(table + layer * columns + 3)
    inside = (unit[:, None] < inputs) & (unit[None, :] < outputs)
    weight = tl.load(row + place + unit[None, :] * inputs + unit[:, None], mask=inside, other=0.0)
    return weight, tl.load(row + bias + unit, mask=(unit < outputs) & (bias >= 0), other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _dropped(  # type: ignore[no-untyped-def]
    state, example, unit, table, layer, outputs, key0, key1, threshold, scale, columns: tl.constexpr
):
    """Drop units with the bits of ``dropout_kernel``: elements are numbered by example, then by unit."""
    first = _mix(key0.to(tl.uint32) ^ tl.load(table + layer * columns + 5).to(tl.uint32))
    second = _mix(key1.to(tl.uint32) + tl.load(table + layer * columns + 6).to(tl.uint32))
    element = example[:, None] * outputs + unit[None, :]
    word = _fold((element.to(tl.uint32) * 0x9E3779B9) ^ first, 16) * 0x7FEB352D
    word = _fold(_fold(word ^ second, 15) * 0x846CA68B, 16) >> 8
    kept = word >= tl.load(threshold + layer).to(tl.uint32)
    return state * tl.where(kept, tl.load(scale + layer), 0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _first(  # type: ignore[no-untyped-def]
    source, row, table, there, features,
    rows: tl.constexpr, width: tl.constexpr, chunk: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Compute the first layer's sums, ``[rows, width]``, from as many inputs as there are."""
    unit, part = tl.arange(0, width), tl.arange(0, chunk)
    place, bias, outputs = tl.load(table), tl.load(table + 1), tl.load(table + 3)
    sums = tl.zeros((rows, width), dtype=tl.float32)
    for start in range(0, features, chunk):
        column = start + part
        inputs = tl.load(source + column[None, :], mask=there[:, None] & (column[None, :] < features), other=0.0)
        weights = tl.load(
            row + place + unit[None, :] * features + column[:, None],
            mask=(unit[None, :] < outputs) & (column[:, None] < features), other=0.0,
        )  # fmt: skip
        sums = tl.dot(inputs, weights, sums, input_precision=precision)
    return sums + tl.load(row + bias + unit, mask=(unit < outputs) & (bias >= 0), other=0.0)[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    x, arena, table, kept, logits, keys0, keys1, thresholds, scales,
    batch, features, depth, stride, units, classes, drops: tl.constexpr,
    rows: tl.constexpr, width: tl.constexpr, chunk: tl.constexpr, columns: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Compute ``[T, B, classes]`` and keep the output of every layer, ``[T, L, B, units]``."""
    lane = tl.program_id(1).to(tl.int64)
    example = tl.program_id(0) * rows + tl.arange(0, rows)
    there = example < batch
    unit = tl.arange(0, width)
    row = arena + lane * stride
    source = x + (lane * batch + example[:, None]) * features
    target = kept + (lane * depth * batch + example[:, None]) * units + unit[None, :]
    stored = there[:, None] & (unit[None, :] < units)
    sums = _first(source, row, table, there, features, rows, width, chunk, precision)
    # Not maximum(z, 0): what is not a number must stay so.
    state = tl.where((sums < 0) & ((tl.load(table + 4) & 1) > 0), 0.0, sums)
    if drops:
        key0, key1, threshold, scale = tl.load(keys0 + lane), tl.load(keys1 + lane), thresholds + lane * depth, scales
        scale += lane * depth
        outputs = tl.load(table + 3)
        state = _dropped(state, example, unit, table, 0, outputs, key0, key1, threshold, scale, columns)
    tl.store(target, state, mask=stored)
    memory = tl.zeros((rows, width), dtype=tl.float32)
    last = depth - 1
    weight, shift = _weight(row, table, tl.minimum(1, last), unit, columns)
    for layer in range(1, depth):
        deeds, outputs = tl.load(table + layer * columns + 4), tl.load(table + layer * columns + 3)
        # The next layer's weights are on their way while this one is multiplied.
        next_weight, next_shift = _weight(row, table, tl.minimum(layer + 1, last), unit, columns)
        sums = tl.dot(state, weight, input_precision=precision) + shift[None, :]
        memory = tl.where((deeds & 2) > 0, state, memory)
        sums = tl.where((deeds & 4) > 0, sums + memory, sums)
        sums = tl.where((sums < 0) & ((deeds & 1) > 0), 0.0, sums)
        state = tl.where(unit[None, :] < outputs, sums, 0.0)
        if drops:
            state = _dropped(state, example, unit, table, layer, outputs, key0, key1, threshold, scale, columns)
        target += batch * units
        tl.store(target, state, mask=stored)
        weight, shift = next_weight, next_shift
    tl.store(
        logits + (lane * batch + example[:, None]) * classes + unit[None, :],
        state, mask=there[:, None] & (unit[None, :] < classes),
    )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    arena, table, kept, logit_slopes, slopes, scales, batch, depth, stride, units, classes, drops: tl.constexpr,
    rows: tl.constexpr, width: tl.constexpr, columns: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Keep the slope of every layer's sums, ``[T, L, B, units]``, from those of the logits."""
    lane = tl.program_id(1).to(tl.int64)
    example = tl.program_id(0) * rows + tl.arange(0, rows)
    unit = tl.arange(0, width)
    row = arena + lane * stride
    stored = (example < batch)[:, None] & (unit[None, :] < units)
    place = (((lane + 1) * depth - 1) * batch + example[:, None]) * units + unit[None, :]
    slope = tl.load(
        logit_slopes + (lane * batch + example[:, None]) * classes + unit[None, :],
        mask=(example < batch)[:, None] & (unit[None, :] < classes), other=0.0,
    )  # fmt: skip
    memory = tl.zeros((rows, width), dtype=tl.float32)
    state = tl.load(kept + place, mask=stored, other=0.0)
    weight, _ = _weight(row, table, depth - 1, unit, columns)
    for back in range(0, depth - 1):
        layer = depth - 1 - back
        deeds = tl.load(table + layer * columns + 4)
        before = tl.load(kept + place - batch * units, mask=stored, other=0.0)
        next_weight, _ = _weight(row, table, tl.maximum(layer - 1, 1), unit, columns)
        if drops:  # what was dropped is zero, as what was rectified
            slope *= tl.load(scales + lane * depth + layer)
        slope = tl.where((state <= 0) & ((deeds & 1) > 0), 0.0, slope)
        tl.store(slopes + place, slope, mask=stored)
        memory = tl.where((deeds & 4) > 0, slope, memory)
        slope = tl.dot(slope, tl.trans(weight), input_precision=precision)
        slope = tl.where((deeds & 2) > 0, slope + memory, slope)
        place -= batch * units
        state, weight = before, next_weight
    if drops:
        slope *= tl.load(scales + lane * depth)
    slope = tl.where((state <= 0) & ((tl.load(table + 4) & 1) > 0), 0.0, slope)
    tl.store(slopes + place, slope, mask=stored)


@triton.jit  # type: ignore[untyped-decorator]
def _summed(  # type: ignore[no-untyped-def]
    slopes, slope_step, outputs, values, value_step, column, limit, batch,
    rows: tl.constexpr, width: tl.constexpr, size: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Add slope times value over the batch, ``[width, size]``, and the slopes, ``[width]``."""
    unit = tl.arange(0, width)
    products, sums = tl.zeros((width, size), dtype=tl.float32), tl.zeros((width,), dtype=tl.float32)
    for start in range(0, batch, rows):
        example = start + tl.arange(0, rows)
        there = (example < batch)[:, None]
        place = slopes + example[:, None] * slope_step + unit[None, :]
        slope = tl.load(place, mask=there & (unit[None, :] < outputs), other=0.0)
        place = values + example[:, None] * value_step + column[None, :]
        value = tl.load(place, mask=there & (column[None, :] < limit), other=0.0)
        products = tl.dot(tl.trans(slope), value, products, input_precision=precision)
        sums += tl.sum(slope, 0)
    return products, sums


@triton.jit  # type: ignore[untyped-decorator]
def _differentiate(  # type: ignore[no-untyped-def]
    x, table, kept, slopes, gradients, batch, features, depth, stride, units, parts,
    rows: tl.constexpr, width: tl.constexpr, chunk: tl.constexpr, columns: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Sum the gradients of one layer over the batch: the first ``parts`` programs share the first layer's inputs."""
    lane = tl.program_id(1).to(tl.int64)
    number = tl.program_id(0)
    layer = tl.maximum(number - parts + 1, 0)
    unit = tl.arange(0, width)
    place, bias = tl.load(table + layer * columns), tl.load(table + layer * columns + 1)
    inputs, outputs = tl.load(table + layer * columns + 2), tl.load(table + layer * columns + 3)
    result = gradients + lane * stride
    slope_at = slopes + (lane * depth + layer) * batch * units
    if number < parts:
        part = number * chunk + tl.arange(0, chunk)
        source = x + lane * batch * features
        products, sums = _summed(
            slope_at, units, outputs, source, features, part, features, batch, rows, width, chunk, precision
        )
        inside = (unit[:, None] < outputs) & (part[None, :] < features)
        tl.store(result + place + unit[:, None] * features + part[None, :], products, mask=inside)
    else:
        source = kept + (lane * depth + layer - 1) * batch * units
        hidden, sums = _summed(
            slope_at, units, outputs, source, units, unit, inputs, batch, rows, width, width, precision
        )
        inside_hidden = (unit[:, None] < outputs) & (unit[None, :] < inputs)
        tl.store(result + place + unit[:, None] * inputs + unit[None, :], hidden, mask=inside_hidden)
    tl.store(result + bias + unit, sums, mask=(unit < outputs) & (bias >= 0) & ((number == 0) | (number >= parts)))


@attrs.frozen(eq=False)
class Drops:
    """What dropout takes: the key words of every trial at this step, ``[T]``, thresholds and scales, ``[T, L]``."""

    keys0_T: torch.Tensor
    keys1_T: torch.Tensor
    thresholds_TL: torch.Tensor
    scales_TL: torch.Tensor


def forward(
    x_TBI: torch.Tensor, arena_TP: torch.Tensor, table: torch.Tensor, kept_TLBW: torch.Tensor,
    logits_TBC: torch.Tensor, drops: Drops | None,
) -> None:  # fmt: skip
    """Fill the outputs of all layers and the logits."""
    lanes, batch, features = x_TBI.shape
    units = kept_TLBW.shape[3]
    rows, warps = _tile(lanes, batch, _width(units))
    _forward[(triton.cdiv(batch, rows), lanes)](
        x_TBI, arena_TP, table, kept_TLBW, logits_TBC, *_tensors(drops, table), batch, features, table.shape[0],
        arena_TP.stride(0), units, logits_TBC.shape[2], drops=drops is not None, rows=rows, width=_width(units),
        chunk=CHUNK, columns=COLUMNS, precision=_precision("tf32x3"), num_warps=warps,
    )  # fmt: skip


def backward(
    x_TBI: torch.Tensor, arena_TP: torch.Tensor, table: torch.Tensor, kept_TLBW: torch.Tensor,
    slopes_TBC: torch.Tensor, gradients_TP: torch.Tensor, drops: Drops | None,
) -> None:  # fmt: skip
    """Fill the gradients of all parameters from those of the logits; the gaps between parameters stay as they are."""
    lanes, batch, features = x_TBI.shape
    depth, units = kept_TLBW.shape[1], kept_TLBW.shape[3]
    width, stride = _width(units), arena_TP.stride(0)
    slopes_TLBW = torch.empty_like(kept_TLBW)
    rows, warps = _tile(lanes, batch, width)
    _backward[(triton.cdiv(batch, rows), lanes)](
        arena_TP, table, kept_TLBW, slopes_TBC, slopes_TLBW, _tensors(drops, table)[3], batch, depth, stride, units,
        slopes_TBC.shape[2], drops=drops is not None, rows=rows, width=width, columns=COLUMNS,
        precision=_precision("tf32x3"), num_warps=warps,
    )  # fmt: skip
    parts = triton.cdiv(features, CHUNK)
    _differentiate[(parts + depth - 1, lanes)](
        x_TBI, table, kept_TLBW, slopes_TLBW, gradients_TP, batch, features, depth, stride, units, parts,
        rows=width, width=width, chunk=CHUNK, columns=COLUMNS, precision=_precision("ieee"), num_warps=width // 16,
    )  # fmt: skip


def _tensors(drops: Drops | None, unused: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if drops is None:
        return (unused,) * 4
    return drops.keys0_T, drops.keys1_T, drops.thresholds_TL, drops.scales_TL


def _width(units: int) -> int:
    return max(16, 1 << (units - 1).bit_length())


def _tile(lanes: int, batch: int, width: int) -> tuple[int, int]:
    """Return the examples of a program and its warps: the fastest of six on an H200 (docs/performance.md)."""
    return (16, width // 8) if lanes * triton.cdiv(batch, 16) <= FEW else (32, 2)


def _precision(usual: str) -> str:
    """Return how products are taken.

    ``tf32x3`` adds three products of 19-bit parts on tensor cores, as exact as float32's own (docs/performance.md),
    and faster where a program waits for one product after another.
    """
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else usual
