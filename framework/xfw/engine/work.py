"""What one example costs a network, measured by its forward pass on tensors without data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xfw.engine.batches import prepared
from xfw.experiment import Dataset

__all__ = ["HEAVY", "Work", "work_of"]

HEAVY = (
    nn.modules.conv._ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase, nn.Embedding, nn.EmbeddingBag,
)  # fmt: skip
"""Layers whose kernels fill a GPU one by one, or lose by stacking.

A model without them is bound by launches as a rule; large arrays within its step are the exception (docs/plugins.md).
"""


@attrs.frozen
class Work:
    """What a network costs: its parameters, and per example its multiply-adds, the values that are kept for the
    backward pass beside the example itself, and those of the largest layer; the number of linear maps, and the shapes
    of all parameters.
    """

    parameters: int
    products: int
    outputs: int
    widest: int
    maps: int
    shapes: tuple[tuple[int, ...], ...] = ()


def work_of(model: nn.Module, dataset: Dataset | None = None, *, training: bool = True) -> Work:
    """Return what one example of ``dataset`` costs a model, from a forward pass on the meta device.

    A model that cannot be run so (its forward takes something else, or looks at values) is counted by its
    parameters: one product per example for every entry of a matrix or kernel.
    """
    shapes = tuple(tuple(parameter.shape) for parameter in model.parameters())
    matrices = [shape for shape in shapes if len(shape) >= 2]
    work = Work(
        parameters=sum(map(math.prod, shapes)),
        products=sum(map(math.prod, matrices)),
        outputs=sum(shape[0] for shape in matrices),
        widest=max((max(shape) for shape in shapes if shape), default=1),
        maps=len(matrices),
        shapes=shapes,
    )
    if dataset is None:
        return work
    # The first pass on the meta device takes a second, to load what it needs; few small products take none.
    light = work.parameters < LIGHT and not any(isinstance(module, HEAVY) for module in model.modules())
    for device in ("cpu", "meta") if light else ("meta",):
        try:
            products, outputs, widest = _measured(model, dataset, training, device)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
            continue
        return attrs.evolve(work, products=max(work.products, products), outputs=outputs, widest=widest)
    return work


LIGHT = 10**7
"""Parameters below which a network without heavy layers is run on zeros."""

EXAMPLES = 2
"""Layers that normalise over the batch need more than one."""


def _measured(model: nn.Module, dataset: Dataset, training: bool, device: str) -> tuple[int, int, int]:
    raw = tuple(torch.zeros((EXAMPLES, *t.shape[1:]), dtype=t.dtype, device=device) for t in dataset.tensors)
    batch = prepared(dataset, raw, torch.float32)
    own: Mapping[str, torch.Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    # Not those of the model: no step of its forward pass may change it.
    tensors = {name: torch.empty_like(tensor, device=device) for name, tensor in own.items()}
    for name, parameter in model.named_parameters():
        tensors[name].requires_grad_(parameter.requires_grad and training)
    kept: dict[int, torch.Tensor] = {}
    known = {tensor.untyped_storage()._cdata for tensor in (*tensors.values(), *batch)}
    sizes = [batch[0].numel()]

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage()._cdata not in known:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        sizes.extend(part.numel() for part in _tensors(output))

    hooks = [layer.register_forward_hook(note) for layer in model.modules() if not list(layer.children())]
    before = model.training
    try:
        model.train(training)
        with (
            FlopCounterMode(display=False) as flops,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.random.fork_rng(devices=[]),
        ):
            torch.func.functional_call(model, tensors, (batch[0],))
    finally:
        model.train(before)
        for hook in hooks:
            hook.remove()
    values = sum(tensor.numel() * tensor.element_size() for tensor in kept.values()) // batch[0].element_size()
    return flops.get_total_flops() // (2 * EXAMPLES), values // EXAMPLES, max(sizes) // EXAMPLES


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
