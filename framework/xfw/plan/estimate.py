"""Predict a block's steps, memory and time from the shape of its network, before anything is computed.

The rates are round numbers below what was measured (docs/performance.md): good to a factor of about two, enough to
tell minutes from days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from torch import nn

from xfw.engine.batches import count_of, steps_of
from xfw.experiment import Pass

__all__ = ["Estimate", "Work", "estimate", "work_of"]


@attrs.frozen
class Work:
    """What one model's network costs: parameters, multiply-adds per example, outputs of all maps, number of maps."""

    parameters: int
    products: int
    outputs: int
    maps: int


@attrs.frozen
class Estimate:
    """Steps of one trial, memory of the block in bytes, time of the block in seconds."""

    steps: int
    memory: int
    seconds: float


@attrs.frozen
class _Rates:
    """Products per second, bytes per second, seconds per small operation and per map and trial, of one process."""

    products: float
    bytes: float
    operation: float
    lane: float


CPU = _Rates(products=3e10, bytes=1e10, operation=2.5e-5, lane=0.0)
CUDA = _Rates(products=2.0e13, bytes=2.2e12, operation=3e-6, lane=1.5e-7)
"""An H100. From 64 trials of 18*18 on, a further one costs 6.7 us a step in 38 maps (docs/performance.md)."""

OPERATIONS_PER_MAP = 9
"""Forward, backward and update of one map with its activation, in kernels of a captured step."""


def work_of(model: nn.Module) -> Work:
    """Count a model's work from its parameters: every matrix or kernel entry is one product per example.

    Convolutions are used at many places; without running the model these are not known, and are left out.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    return Work(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        products=sum(matrix.numel() for matrix in matrices),
        outputs=sum(matrix.shape[0] for matrix in matrices),
        maps=len(matrices),
    )


def estimate(
    work: Work, epochs: Sequence[Pass], lengths: Mapping[str, int], width: int, device: str, itemsize: int = 4
) -> Estimate:
    """Return the estimate of a block of ``width`` trials; ``lengths`` counts the examples of each data set."""
    steps = sum(steps_of(epoch, lengths[epoch.dataset]) for epoch in epochs)
    batch = max((epoch.batch_size for epoch in epochs), default=1)
    rows = max((max(epoch.batch_size, epoch.evaluated) for epoch in epochs), default=1)
    evaluated = sum(-(-steps_of(epoch, lengths[epoch.dataset]) // epoch.every) * epoch.evaluated for epoch in epochs)
    examples = sum(count_of(e, lengths[e.dataset]) if e.steps is None else e.steps * e.batch_size for e in epochs)
    rates = CUDA if device.startswith("cuda") else CPU
    # Parameters, gradient, two moments, one snapshot; copies of three of the five while rehearsing. Measured on an
    # H100: 29.8 GiB for 256 trials of 2.9 million parameters, 29.5 predicted. Activations three times, eager and
    # captured ones not sharing memory: 120 trials of 5.8 million parameters with 9,216 tested images each needed
    # more than 73 GiB, 77 predicted.
    state = 5 * work.parameters * itemsize
    memory = int(width * (2.0 * state + 3 * rows * work.outputs * itemsize)) + 200 * 2**20
    arithmetic = width * (3 * examples + evaluated) * work.products / rates.products
    traffic = steps * width * (8 * work.parameters + 4 * batch * work.outputs) * itemsize / rates.bytes
    launches = steps * work.maps * (OPERATIONS_PER_MAP * rates.operation + width * rates.lane)
    return Estimate(steps, memory, max(arithmetic, traffic) + launches)
