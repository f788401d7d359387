"""Strategy ``stack``: all trials of a block in one step, as a twin where the model has one, else under ``vmap``.

Axes: T trial (lane) of the block, B example.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import vmap

from xfw.engine.batches import Batches, has_kernels, prepared
from xfw.engine.narrow import Layer, NarrowTwin
from xfw.engine.network import Network, _assign
from xfw.engine.rng import Rng
from xfw.engine.step import StepCode, split_output
from xfw.engine.twin import NotTwinned, Twin
from xfw.experiment import Dataset

__all__ = ["NarrowStepper", "StackedStepper", "TwinStepper"]


class _Preparation:
    """Turn gathered tensors ``[T, B, …]`` into batches.

    On a CPU trial by trial, so that the intermediate results of one trial stay in the cache (five times as fast
    as all trials at once), into buffers that are kept.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}

    def __call__(self, dataset: Dataset, raw: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        lanes = raw[0].shape[0]
        if dataset.prepare is None or raw[0].is_cuda:
            batch: tuple[torch.Tensor, ...] = vmap(lambda *parts: prepared(dataset, parts, self._dtype))(*raw)
            return batch
        buffers: list[torch.Tensor] = []
        for lane in range(lanes):
            parts = prepared(dataset, tuple(tensor[lane] for tensor in raw), self._dtype)
            if lane == 0:
                buffers = [self._buffer(place, lanes, part) for place, part in enumerate(parts)]
            for buffer, part in zip(buffers, parts, strict=True):
                buffer[lane].copy_(part)
        return tuple(buffers)

    def _buffer(self, place: int, lanes: int, part: torch.Tensor) -> torch.Tensor:
        kind = (place, lanes, part.shape, part.dtype)
        if kind not in self._kept:
            self._kept[kind] = torch.empty(lanes, *part.shape, dtype=part.dtype, device=part.device)
        return self._kept[kind]


class StackedStepper:
    """Run steps of all trials under ``vmap`` with swapped parameters; gradients go to the gradient arena."""

    lowering = "vmap"

    def __init__(self, network: Network, code: StepCode, words_T2: torch.Tensor) -> None:
        self.network, self.code, self.words_T2 = network, code, words_T2
        self._prepare = _Preparation(network.dtype)
        self._leaves = {
            name: view.detach().requires_grad_(name in network.trained) for name, view in network.parameters.items()
        }
        self._module = network.module(0)
        self._holder = network.holder
        self._rates = {}
        for name, child in list(self._module.named_modules()):
            if child in network.dropouts(self._module):
                site = network.template.get_submodule(name)
                self._rates[name] = (site.threshold, site.scale)
                child.holder = self._holder
                child.active = site.active

    def train(self, batches: Batches, raw: tuple[torch.Tensor, ...], epoch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step's gradients; return every metric (the loss included) as ``[T]``."""
        batch = self._prepare(batches.dataset, raw)
        results = self._train_all(batch, batches, epoch)
        if "loss" in results:
            leaves = [leaf for leaf in self._leaves.values() if leaf.requires_grad]
            targets = [self.network.gradients[name] for name, leaf in self._leaves.items() if leaf.requires_grad]
            found = torch.autograd.grad(results["loss"].sum(), leaves, allow_unused=True, materialize_grads=True)
            torch._foreach_copy_(targets, [gradient.detach() for gradient in found])
        return {name: value.detach() for name, value in results.items()}

    def evaluate(self, dataset: Dataset, raw: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        """Return ``evaluate_step``'s sums over a batch ``[B, …]`` that all trials share, each ``[T]``."""
        batch = prepared(dataset, raw, self.network.dtype)
        with torch.no_grad():
            return self._evaluate_all(batch)

    def _train_all(
        self, batch: tuple[torch.Tensor, ...], batches: Batches, epoch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        def lane(tensors: Any, words: torch.Tensor, *parts: torch.Tensor) -> dict[str, torch.Tensor]:
            rng = Rng(words, epoch, batches.position)
            with self._as_lane(tensors, training=True, rng=rng) as model:
                return split_output(self.code.train_step(model, parts, rng, batches.epoch, batches.due))

        return dict(vmap(lane)(self._tensors(), self.words_T2, *batch))

    def _evaluate_all(self, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        def lane(tensors: Any, *parts: torch.Tensor) -> Mapping[str, torch.Tensor]:
            with self._as_lane(tensors, training=False, rng=None) as model:
                return dict(self.code.evaluate_step(model, parts))

        return dict(vmap(lane, in_dims=(0, *(None for _ in batch)))(self._tensors(), *batch))

    def _tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
        return self._leaves, self.network.buffers, self._rates

    @contextlib.contextmanager
    def _as_lane(self, tensors: Any, *, training: bool, rng: Rng | None) -> Iterator[nn.Module]:
        """Put one trial's (batched) tensors into the module for the duration of its step."""
        parameters, buffers, rates = tensors
        for name, value in parameters.items():
            _assign(self._module, "_parameters", name, value)
        for name, owner in self.network.shared.items():
            _assign(self._module, "_parameters", name, parameters[owner])
        for name, value in buffers.items():
            _assign(self._module, "_buffers", name, value)
        for name, (threshold, scale) in rates.items():
            site = self._module.get_submodule(name)
            site.threshold, site.scale = threshold, scale
        self._holder.current = rng
        self._module.train(training)
        try:
            yield self._module
        finally:
            self._holder.current = None


class TwinStepper(StackedStepper):
    """Run the author's ``forward`` once on stacked tensors, and only the rest of the step under ``vmap``.

    An evaluation that looks further into the model than a twin can show runs under ``vmap`` as a whole.
    """

    lowering = "twin"

    def __init__(self, network: Network, code: StepCode, words_T2: torch.Tensor) -> None:
        super().__init__(network, code, words_T2)
        self.twin, self._evaluates = Twin(network), True
        self._losses: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if has_kernels(network.device):
            from xfw.engine.losses import StackedLosses

            self._losses = StackedLosses()
        self._places = (torch.arange(network.lanes, device=network.device), dict(network.buffers))

    def train(self, batches: Batches, raw: tuple[torch.Tensor, ...], epoch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step's gradients, which the twin's layers write to the arena themselves."""
        batch = self._prepare(batches.dataset, raw)
        self.twin.train(True)
        self.network.holder.current = Rng(self.words_T2, epoch, batches.position)

        def lane(place: Any, words: torch.Tensor, *parts: torch.Tensor) -> dict[str, torch.Tensor]:
            rng = Rng(words, epoch, batches.position)
            model = self.twin.for_lane(*place)
            return split_output(self.code.train_step(model, parts, rng, batches.epoch, batches.due))

        with self._losses:
            results = vmap(lane)(self._places, self.words_T2, *batch)
        if "loss" in results:
            torch.autograd.backward(results["loss"].sum())
        return {name: value.detach() for name, value in results.items()}

    def _evaluate_all(self, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        self.twin.train(False)

        def lane(place: Any, *parts: torch.Tensor) -> Mapping[str, torch.Tensor]:
            return dict(self.code.evaluate_step(self.twin.for_lane(*place), parts))

        if self._evaluates:
            try:
                return dict(vmap(lane, in_dims=(0, *(None for _ in batch)))(self._places, *batch))
            except NotTwinned:
                self._evaluates = False
        return super()._evaluate_all(batch)


class NarrowStepper(TwinStepper):
    """Train a chain of narrow layers in a few kernels (``engine.narrow``), and evaluate it as a twin."""

    lowering = "narrow"

    def __init__(self, network: Network, code: StepCode, words_T2: torch.Tensor, layers: Sequence[Layer]) -> None:
        super().__init__(network, code, words_T2)
        self.twin.module = NarrowTwin(network, layers, self.twin.module)
