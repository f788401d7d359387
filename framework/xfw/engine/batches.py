"""Keep data sets on the device as stored and gather the batches of all trials by index.

Axes: T trial, N example of the set, B example of the batch.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from xfw.engine.rng import keyed_order
from xfw.errors import UserError, did_you_mean
from xfw.experiment import Dataset, Pass

__all__ = [
    "Batches",
    "Draw",
    "Resident",
    "check_epochs",
    "count_of",
    "gather",
    "has_kernels",
    "prepared",
    "prepared_once",
    "steps_of",
    "to_device",
]

PREPARED_AT_ONCE = 4096

ORDERS = ("shuffled", "sequential", "given")

Draw = Callable[[int, int], Sequence[np.ndarray]]
"""Returns, for a pass's number and its count of examples, the ``given`` order of each trial: ``[count]`` indices."""


def has_kernels(device: torch.device) -> bool:
    """Tell whether Triton's kernels can work on a device."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def to_device(dataset: Dataset, device: torch.device) -> Dataset:
    """Return the data set with its tensors on the device, in their own types."""
    return Dataset(tuple(tensor.to(device) for tensor in dataset.tensors), dataset.prepare)


def count_of(epoch: Pass, length: int) -> int:
    """Return the number of examples that one pass visits in a data set of a length."""
    return length if epoch.examples is None else epoch.examples


def steps_of(epoch: Pass, length: int) -> int:
    """Return the number of steps of a pass over a data set of a length."""
    return epoch.steps if epoch.steps is not None else -(-count_of(epoch, length) // epoch.batch_size)


def gather(dataset: Dataset, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the stored tensors at ``index`` (of any shape), which becomes their leading axes."""
    flat = index.reshape(-1)
    return tuple(t.index_select(0, flat).view(*index.shape, *t.shape[1:]) for t in dataset.tensors)


def prepared(dataset: Dataset, raw: tuple[torch.Tensor, ...], dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Return a batch as the plugin's functions receive it: prepared, its floating-point tensors in the run's type."""
    parts = raw if dataset.prepare is None else dataset.prepare(*raw)
    return tuple(part.to(dtype) if part.is_floating_point() else part for part in parts)


def prepared_once(dataset: Dataset, dtype: torch.dtype, batch_size: int, limit: int) -> Dataset:
    """Return the data set with its examples prepared in advance, where that changes no bit and takes ``limit`` bytes.

    Most sets are scaled and flattened, example by example. Whether this one is, is found out by preparing all of it
    twice, in order and in shuffled batches.
    """
    if dataset.prepare is None or not len(dataset):
        return dataset
    device = dataset.tensors[0].device
    one = torch.zeros(1, dtype=torch.int64, device=device)
    sample = prepared(dataset, gather(dataset, one), dtype)
    if any(part.shape[:1] != (1,) for part in sample):
        return dataset
    if sum(part.numel() * part.element_size() for part in sample) * len(dataset) > limit:
        return dataset
    chunks = torch.split(torch.arange(len(dataset), device=device), PREPARED_AT_ONCE)
    pieces = [prepared(dataset, gather(dataset, chunk), dtype) for chunk in chunks]
    if any(part.shape[0] != len(chunk) for chunk, parts in zip(chunks, pieces, strict=True) for part in parts):
        return dataset
    whole = tuple(torch.cat(parts).contiguous() for parts in zip(*pieces, strict=True))
    shuffled = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).to(device)
    for index in torch.split(shuffled, batch_size):
        again = prepared(dataset, gather(dataset, index), dtype)
        if not all(torch.equal(part, kept[index]) for part, kept in zip(again, whole, strict=True)):
            return dataset
    return Dataset(whole)


def check_epochs(epochs: Sequence[Pass], lengths: Mapping[str, int]) -> None:
    """Raise UserError where an epoch names no order or data set that there is, or is without examples or steps."""
    for epoch in epochs:
        if epoch.order not in ORDERS:
            hint = did_you_mean(epoch.order, ORDERS)
            raise UserError(f"plan_passes: unknown order '{epoch.order}', expected {' or '.join(ORDERS)}", hint=hint)
        if (epoch.examples is not None) != (epoch.order == "given"):
            raise UserError("plan_passes: `examples` goes with order='given', and order='given' needs it")
        for name, value in _counts(epoch).items():
            if value is not None and value < 1:
                raise UserError(f"plan_passes: {name} is {value}, expected at least 1")
        if epoch.dataset not in lengths:
            hint = did_you_mean(epoch.dataset, lengths)
            raise UserError(f"plan_passes: unknown data set '{epoch.dataset}'; load_data returned others", hint=hint)
        if lengths[epoch.dataset] == 0:
            raise UserError(f"load_data: data set '{epoch.dataset}' is empty")


def _counts(epoch: Pass) -> dict[str, int | None]:
    return {name: getattr(epoch, name) for name in ("batch_size", "steps", "examples", "observe_every")}


def _check_order(drawn: np.ndarray, count: int, length: int) -> None:
    """Raise UserError unless these are ``count`` indices into a data set of a length."""
    whole = drawn.dtype.kind in "iu" and drawn.shape == (count,)
    if not whole or drawn.min() < 0 or drawn.max() >= length:
        found = f" from {drawn.min()} to {drawn.max()}" if drawn.size else ""
        raise UserError(
            f"sample_order: returned {drawn.dtype} of shape {drawn.shape}{found}, "
            f"expected {count} whole numbers from 0 to {length - 1}"
        )


class Resident:
    """A data set on the device, as ``train_step`` sees it."""

    def __init__(self, dataset: Dataset, dtype: torch.dtype) -> None:
        self._dataset, self._dtype = dataset, dtype

    def __len__(self) -> int:
        return len(self._dataset)

    def take(self, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the prepared examples at ``index`` (of any shape, which becomes their leading axes)."""
        raw = tuple(_Rows.apply(index, tensor) for tensor in self._dataset.tensors)
        return prepared(self._dataset, raw, self._dtype)


class _Rows(torch.autograd.Function):
    """Rows of a stored tensor, for all trials in one copy of rows: ``vmap``'s own rule copies element by element."""

    @staticmethod
    def forward(index: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
        return stored.index_select(0, index.reshape(-1)).view(*index.shape, *stored.shape[1:])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to save: stored data have no gradients."""

    @staticmethod
    def vmap(_info: Any, in_dims: Any, index: torch.Tensor, stored: torch.Tensor) -> tuple[torch.Tensor, int]:
        return _Rows.forward(index.movedim(in_dims[0], 0), stored), 0


class Batches:
    """The order in which one epoch visits its data set, for every trial; positions live on the device.

    ``order_TN`` and ``position`` keep their addresses, so that a captured step reads what is written later. ``due``
    says of the step under way what ``Pass.observe_every`` asks.
    """

    def __init__(self, epoch: Pass, dataset: Dataset, words_T2: torch.Tensor, draw: Draw) -> None:
        self.epoch, self.dataset, self._words_T2, self._draw = epoch, dataset, words_T2, draw
        self.due = True
        device = words_T2.device
        self.count = count_of(epoch, len(dataset))
        self.per_pass = math.ceil(self.count / epoch.batch_size)
        self.steps = self.per_pass if epoch.steps is None else epoch.steps
        self.order_TN = torch.arange(self.count, device=device).repeat(words_T2.shape[0], 1)
        self.position = torch.zeros((), dtype=torch.int64, device=device)
        sizes = [self.size(step) for step in range(self.steps)]
        self.sizes_S = torch.tensor(sizes, device=device)
        self._columns = torch.arange(min(epoch.batch_size, self.count), device=device)

    def shuffle(self, number: int) -> None:
        """Draw the order of epoch ``number`` (counted over all runs of the trial)."""
        if self.epoch.order == "shuffled":
            self.order_TN.copy_(keyed_order(self._words_T2, number, self.count))
        elif self.epoch.order == "given":
            for own_N, drawn in zip(self.order_TN, self._draw(number, self.count), strict=True):
                _check_order(drawn, self.count, len(self.dataset))
                own_N.copy_(torch.from_numpy(drawn.astype(np.int64)))

    def size(self, step: int) -> int:
        """Return the number of examples in the batch of a step: the last one of a pass may be shorter."""
        place = step % self.per_pass
        return min(self.epoch.batch_size, self.count - place * self.epoch.batch_size)

    def is_due(self, step: int) -> bool:
        """Say whether a step is one of every so many, or the last."""
        return step % self.epoch.observe_every == 0 or step == self.steps - 1

    def take(self, size: int) -> tuple[torch.Tensor, ...]:
        """Return the stored tensors ``[T, size, …]`` of the batch at the device's position."""
        if has_kernels(self.order_TN.device) and all(t.is_contiguous() for t in self.dataset.tensors):
            from xfw.engine.gather_kernel import take

            where = self.order_TN, self.position, self.per_pass, self.epoch.batch_size
            return tuple(take(tensor, *where, size) for tensor in self.dataset.tensors)
        start = (self.position % self.per_pass) * self.epoch.batch_size
        index_TB = self.order_TN.index_select(1, start + self._columns[:size])
        return gather(self.dataset, index_TB)
