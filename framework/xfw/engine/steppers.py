"""The ways to take a training step of all trials of a block: model by model, or all at once.

Every way runs the plugin's code for one model, writes the gradients of all trials into the arena, and returns the
metrics as ``[T]``. Axes: T trial (lane) of the block, B example.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.func import grad, vjp, vmap

from xfw.engine.batches import has_kernels, prepared
from xfw.engine.dropout import KeyedDropout
from xfw.engine.narrow import Layer, NarrowTwin
from xfw.engine.network import Network, place
from xfw.engine.rng import Rng
from xfw.engine.step import Metrics, Step, StepCode, Tensors, observed, results_of
from xfw.engine.twin import NotTwinned, Twin
from xfw.errors import UserError
from xfw.experiment import Dataset

__all__ = [
    "STREAMS",
    "InnerStepper",
    "LaneStepper",
    "NarrowStepper",
    "StackedStepper",
    "Stepper",
    "TwinStepper",
]

STREAMS = 16
"""Side streams of a captured block: measured best between 8 and 32 on an H100."""


class Stepper(Protocol):
    """One way to run the steps of all trials."""

    def train(self, step: Step, raw: Tensors) -> tuple[Metrics, bool]:
        """Take a step on gathered tensors ``[T, B, …]``; return its metrics, and whether it gave gradients."""

    def evaluate(self, dataset: Dataset, raw: Tensors) -> Metrics:
        """Return ``evaluate_step``'s sums over a batch ``[B, …]`` that all trials share, each ``[T]``."""


# --- model by model ------------------------------------------------------------------------------------------


class LaneStepper:
    """Strategies ``serial``, ``pool`` and ``streams``: an ordinary step of each model, one trial after the other.

    On CUDA the steps of all trials are captured in one graph; ``streams`` spreads them over side streams there.
    """

    def __init__(self, network: Network, code: StepCode, words_T2: torch.Tensor, *, streams: bool = False) -> None:
        self.network, self.code, self.words_T2 = network, code, words_T2
        self._parameters = [
            [(p, network.gradients[name][lane]) for name, p in model.named_parameters() if name in network.trained]
            for lane, model in enumerate(network.models)
        ]
        count = min(STREAMS, network.lanes) if streams and network.device.type == "cuda" else 0
        self._streams = [torch.cuda.Stream(network.device) for _ in range(count)]  # type: ignore[no-untyped-call]

    def train(self, step: Step, raw: Tensors) -> tuple[Metrics, bool]:
        """Take a step on gathered tensors ``[T, B, …]``; return its metrics, and whether it gave gradients."""
        rows = []
        with self._spread():
            for lane in range(self.network.lanes):
                with self._on_stream(lane):
                    rows.append(self._train_lane(lane, step, tuple(tensor[lane] for tensor in raw)))
        metrics = {name: torch.stack([row[name] for row, _ in rows]) for name in rows[0][0]}
        return metrics, all(graded for _, graded in rows)

    def evaluate(self, dataset: Dataset, raw: Tensors) -> Metrics:
        """Return ``evaluate_step``'s sums over a batch ``[B, …]`` that all trials share, each ``[T]``."""
        batch = prepared(dataset, raw, self.network.dtype)
        rows = []
        with torch.no_grad(), self._spread():
            for lane, model in enumerate(self.network.models):
                with self._on_stream(lane):
                    model.eval()
                    rows.append(self._own(self.code.evaluate_step(model, batch)))
                    self.network.absorb(lane)
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _train_lane(self, lane: int, step: Step, raw: Tensors) -> tuple[Metrics, bool]:
        network, model = self.network, self.network.models[lane]
        batch = prepared(step.dataset, raw, network.dtype)
        model.train(True)
        rng = Rng(self.words_T2[lane], step.number, step.position)
        network.draws[lane].current = rng
        seen = observed(self.code, step, model, model, rng)
        output = self.code.train_step(model, batch, rng, step.epoch)
        results = seen | results_of(output)
        network.draws[lane].current = None
        loss = results.get("loss")
        graded = False
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            graded = True
            if loss.dim():
                raise UserError(f"train_step: the loss has shape {tuple(loss.shape)}, expected one number")
            self._differentiate(lane, loss)
        elif not isinstance(output, Mapping) and network.trained:
            raise UserError(
                "train_step returned a loss without gradients: no parameter of the model has a part in it",
                hint="a step that updates by itself returns a mapping of metrics, in which the loss is one of them",
            )
        network.absorb(lane)
        return self._own(results), graded

    def _differentiate(self, lane: int, loss: torch.Tensor) -> None:
        """Fill the trial's row of gradients as an ordinary backward pass does, with every hook that the author set."""
        for parameter, _ in self._parameters[lane]:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        found = [(target, p.grad) for p, target in self._parameters[lane] if p.grad is not None]
        torch._foreach_copy_([target for target, _ in found], [gradient for _, gradient in found])
        for parameter, target in self._parameters[lane]:
            if parameter.grad is None:
                target.zero_()
            parameter.grad = None

    def _own(self, results: Mapping[str, Any]) -> Metrics:
        return {name: torch.as_tensor(value, device=self.network.device).detach() for name, value in results.items()}

    @contextlib.contextmanager
    def _spread(self) -> Iterator[None]:
        """Fork the side streams from the current one and join them again."""
        if not self._streams:
            yield
            return
        main = torch.cuda.current_stream()
        for stream in self._streams:
            stream.wait_stream(main)
        yield
        for stream in self._streams:
            main.wait_stream(stream)

    def _on_stream(self, lane: int) -> contextlib.AbstractContextManager[object]:
        if not self._streams:
            return contextlib.nullcontext()
        return torch.cuda.stream(self._streams[lane % len(self._streams)])


# --- all models at once --------------------------------------------------------------------------------------


class _Preparation:
    """Turn gathered tensors ``[T, B, …]`` into batches.

    On a CPU trial by trial, so that the intermediate results of one trial stay in the cache (five times as fast
    as all trials at once), into buffers that are kept.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._kept: dict[tuple[object, ...], torch.Tensor] = {}

    def __call__(self, dataset: Dataset, raw: Tensors) -> Tensors:
        lanes = raw[0].shape[0]
        if dataset.prepare is None or raw[0].is_cuda:
            batch: Tensors = vmap(lambda *parts: prepared(dataset, parts, self._dtype))(*raw)
            return batch
        buffers: list[torch.Tensor] = []
        for lane in range(lanes):
            parts = prepared(dataset, tuple(tensor[lane] for tensor in raw), self._dtype)
            if lane == 0:
                buffers = [self._buffer(index, lanes, part) for index, part in enumerate(parts)]
            for buffer, part in zip(buffers, parts, strict=True):
                buffer[lane].copy_(part)
        return tuple(buffers)

    def _buffer(self, index: int, lanes: int, part: torch.Tensor) -> torch.Tensor:
        kind = (index, lanes, part.shape, part.dtype)
        if kind not in self._kept:
            self._kept[kind] = torch.empty(lanes, *part.shape, dtype=part.dtype, device=part.device)
        return self._kept[kind]


class StackedStepper:
    """Run steps of all trials under ``vmap`` with swapped tensors; gradients are taken of all of them together."""

    def __init__(self, network: Network, code: StepCode, words_T2: torch.Tensor) -> None:
        self.network, self.code, self.words_T2 = network, code, words_T2
        self._prepare = _Preparation(network.dtype)
        self._leaves = {
            name: view.detach().requires_grad_(name in network.trained) for name, view in network.parameters.items()
        }
        self._module = network.copy_of_template()
        sites = {name: site for name, site in self._module.named_modules() if isinstance(site, KeyedDropout)}
        self._rates = {name: (site.threshold, site.scale) for name, site in sites.items()}

    def train(self, step: Step, raw: Tensors) -> tuple[Metrics, bool]:
        """Take a step on gathered tensors ``[T, B, …]``; return its metrics, and whether it gave gradients."""
        batch = self._prepare(step.dataset, raw)
        results = self._train_all(step, batch)
        graded = "loss" in results and results["loss"].requires_grad
        if graded:
            leaves = [leaf for leaf in self._leaves.values() if leaf.requires_grad]
            targets = [self.network.gradients[name] for name, leaf in self._leaves.items() if leaf.requires_grad]
            found = torch.autograd.grad(results["loss"].sum(), leaves, allow_unused=True, materialize_grads=True)
            torch._foreach_copy_(targets, [gradient.detach() for gradient in found])
        return {name: value.detach() for name, value in results.items()}, graded

    def evaluate(self, dataset: Dataset, raw: Tensors) -> Metrics:
        """Return ``evaluate_step``'s sums over a batch ``[B, …]`` that all trials share, each ``[T]``."""
        batch = prepared(dataset, raw, self.network.dtype)

        def lane(tensors: Any, *parts: torch.Tensor) -> Metrics:
            with self._as_lane(tensors, training=False, rng=None) as model:
                return dict(self.code.evaluate_step(model, parts))

        with torch.no_grad():
            return dict(vmap(lane, in_dims=(0, *(None for _ in batch)))(self._tensors(), *batch))

    def _train_all(self, step: Step, batch: Tensors) -> Metrics:
        def lane(tensors: Any, words: torch.Tensor, *parts: torch.Tensor) -> Metrics:
            rng = Rng(words, step.number, step.position)
            with self._as_lane(tensors, training=True, rng=rng) as model:
                seen = observed(self.code, step, model, self._module, rng)
                return seen | results_of(self.code.train_step(model, parts, rng, step.epoch))

        return dict(vmap(lane)(self._tensors(), self.words_T2, *batch))

    def _tensors(self) -> tuple[Metrics, Metrics, dict[str, Any]]:
        return self._leaves, self.network.buffers, self._rates

    @contextlib.contextmanager
    def _as_lane(self, tensors: Any, *, training: bool, rng: Rng | None) -> Iterator[nn.Module]:
        """Put one trial's (batched) tensors into the module for the duration of its step."""
        parameters, buffers, rates = tensors
        for name, value in parameters.items():
            place(self._module, "_parameters", name, value)
        for name, owner in self.network.shared.items():
            place(self._module, "_parameters", name, parameters[owner])
        for name, value in buffers.items():
            place(self._module, "_buffers", name, value)
        for name, (threshold, scale) in rates.items():
            site = self._module.get_submodule(name)
            site.threshold, site.scale = threshold, scale
        self.network.draw.current = rng
        self._module.train(training)
        try:
            yield self._module
        finally:
            self.network.draw.current = None


class InnerStepper(StackedStepper):
    """Take each trial's gradients within ``vmap``: some layers run only so, recurrent ones for example."""

    def train(self, step: Step, raw: Tensors) -> tuple[Metrics, bool]:
        """Take a step on gathered tensors ``[T, B, …]``; return its metrics, and whether it gave gradients."""
        batch = self._prepare(step.dataset, raw)
        leaves, buffers, rates = self._tensors()
        trained = {name: leaf.detach() for name, leaf in leaves.items() if leaf.requires_grad}
        frozen = {name: leaf for name, leaf in leaves.items() if name not in trained}

        def lane(own: Metrics, fixed: Metrics, others: Any, words: torch.Tensor, *parts: torch.Tensor) -> Any:
            def loss_of(parameters: Metrics) -> tuple[torch.Tensor, Metrics]:
                rng = Rng(words, step.number, step.position)
                with self._as_lane(({**fixed, **parameters}, *others), training=True, rng=rng) as model:
                    seen = observed(self.code, step, model, self._module, rng)
                    results = results_of(self.code.train_step(model, parts, rng, step.epoch))
                if "loss" not in results:
                    raise NotTwinned("a step without a loss has no gradients to be taken")
                return results["loss"], seen | results

            return grad(loss_of, has_aux=True)(own)

        gradients, results = vmap(lane)(trained, frozen, (buffers, rates), self.words_T2, *batch)
        torch._foreach_copy_([self.network.gradients[name] for name in gradients], list(gradients.values()))
        return {name: value.detach() for name, value in results.items()}, True

    def evaluate(self, dataset: Dataset, raw: Tensors) -> Metrics:
        """Return ``evaluate_step``'s sums over a batch ``[B, …]`` that all trials share, each ``[T]``."""
        batch = prepared(dataset, raw, self.network.dtype)
        leaves, buffers, rates = self._tensors()

        def lane(own: Metrics, others: Any, *parts: torch.Tensor) -> Metrics:
            def sums_of(parameters: Metrics) -> tuple[torch.Tensor, Metrics]:
                with self._as_lane((parameters, *others), training=False, rng=None) as model:
                    sums = dict(self.code.evaluate_step(model, parts))
                return next(iter(parameters.values())).sum(), sums

            _, _, sums = vjp(sums_of, own, has_aux=True)  # type: ignore[misc]
            return dict(sums)

        with torch.no_grad():
            detached = {name: leaf.detach() for name, leaf in leaves.items()}
            sums = vmap(lane, in_dims=(0, 0, *(None for _ in batch)))(detached, (buffers, rates), *batch)
        return {name: value.detach() for name, value in sums.items()}


class TwinStepper:
    """Run the author's ``forward`` once on stacked tensors, and only the rest of the step under ``vmap``."""

    def __init__(self, network: Network, code: StepCode, words_T2: torch.Tensor, *, guarded: bool = False) -> None:
        """``guarded`` refuses what would depend on the number of trials or on their values; see ``Twin``."""
        self.network, self.code, self.words_T2 = network, code, words_T2
        self._prepare = _Preparation(network.dtype)
        self.twin = Twin(network, guarded=guarded)
        self._losses: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if has_kernels(network.device):
            from xfw.engine.losses import StackedLosses

            self._losses = StackedLosses()
        self._places = (torch.arange(network.lanes, device=network.device), dict(network.buffers))

    def train(self, step: Step, raw: Tensors) -> tuple[Metrics, bool]:
        """Take a step whose gradients the twin's layers write to the arena themselves."""
        batch = self._prepare(step.dataset, raw)
        self.twin.module.train(True)

        def lane(own: Any, words: torch.Tensor, *parts: torch.Tensor) -> Metrics:
            rng = Rng(words, step.number, step.position)
            model = self.twin.for_lane(*own)
            seen = observed(self.code, step, model, self.twin.module, rng)
            return seen | results_of(self.code.train_step(model, parts, rng, step.epoch))

        self.network.draw.current = Rng(self.words_T2, step.number, step.position)
        with self._losses:
            results = vmap(lane)(self._places, self.words_T2, *batch)
        self.network.draw.current = None
        graded = "loss" in results and results["loss"].requires_grad
        if graded:
            torch.autograd.backward(results["loss"].sum())
        return {name: value.detach() for name, value in results.items()}, graded

    def evaluate(self, dataset: Dataset, raw: Tensors) -> Metrics:
        """Return ``evaluate_step``'s sums over a batch ``[B, …]`` that all trials share, each ``[T]``."""
        batch = prepared(dataset, raw, self.network.dtype)
        self.twin.module.eval()

        def lane(own: Any, *parts: torch.Tensor) -> Metrics:
            return dict(self.code.evaluate_step(self.twin.for_lane(*own), parts))

        with torch.no_grad():
            return dict(vmap(lane, in_dims=(0, *(None for _ in batch)))(self._places, *batch))


class NarrowStepper(TwinStepper):
    """Train a chain of narrow layers in a few kernels (``engine.narrow``), and evaluate it as a twin."""

    def __init__(
        self, network: Network, code: StepCode, words_T2: torch.Tensor, layers: Sequence[Layer], *, guarded: bool
    ) -> None:
        super().__init__(network, code, words_T2, guarded=guarded)
        self.twin.module = NarrowTwin(network, layers, self.twin.module)
