"""Run an ordinary model for all trials of a block at once, with each layer replaced by its stacked twin.

The author's ``forward`` is executed once on ``[T, B, …]`` tensors, while the rest of ``train_step`` runs under
``vmap``. Activations are kept feature-major in memory (``[T, features, B]``, seen as ``[T, B, features]``): every
weight gradient is then one batched product whose result has the layout of the weight, and narrow products are up
to five times as fast on a CPU. Axes: T trial, B example, I input, O output feature.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from xfw.engine.dropout import KeyedDropout
from xfw.engine.layout import ALIGNMENT
from xfw.engine.network import Network

__all__ = ["NotTwinned", "Twin", "refusal"]

ELEMENTWISE = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh, nn.ReLU6,
    nn.Identity, KeyedDropout,
)  # fmt: skip
"""Parameter-free layers that treat every axis alike."""


class NotTwinned(Exception):  # noqa: N818 - a signal between strategies, not an error of the user
    """Say why a model cannot run as a twin; the block then uses ``vmap``."""


def refusal(model: nn.Module) -> str:
    """Return why the model has no twin, or an empty string if every layer is known."""
    seen: dict[int, str] = {}
    for name, module in model.named_modules():
        own = [parameter for parameter in module._parameters.values() if parameter is not None]
        if any(not parameter.requires_grad for parameter in module._parameters.values() if parameter is not None):
            return f"layer '{name}' has frozen parameters"
        if isinstance(module, nn.Linear):
            for parameter in module._parameters.values():
                if parameter is not None and seen.setdefault(id(parameter), name) != name:
                    return f"'{name}' shares a parameter with '{seen[id(parameter)]}'"
        elif own or (not list(module.children()) and not isinstance(module, (*ELEMENTWISE, nn.Flatten))):
            return f"layer '{name}' ({type(module).__name__}) has no stacked twin"
    return ""


class _Affine(torch.autograd.Function):
    """W x + b for a stack of maps; the backward pass writes the weight gradients where the optimizer reads them."""

    @staticmethod
    def forward(
        ctx: Any,
        x_TBI: torch.Tensor,
        weight_TOI: torch.Tensor,
        bias_TO: torch.Tensor | None,
        grad_weight_TOI: torch.Tensor,
        grad_bias_TO: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(x_TBI, weight_TOI)
        ctx.targets = (grad_weight_TOI, grad_bias_TO)
        return _affine(x_TBI, weight_TOI, bias_TO)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TBO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_TBI, weight_TOI = ctx.saved_tensors
        grad_weight_TOI, grad_bias_TO = ctx.targets
        grad_TOB = grad_TBO.transpose(1, 2)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _products(weight_TOI.transpose(1, 2), grad_TOB, x_TBI.shape[1]).transpose(1, 2)
        if grad_weight_TOI.is_cuda:
            torch.bmm(grad_TOB, x_TBI, out=grad_weight_TOI)
        else:  # on CPU a batched product into a strided result falls back to one product a trial
            grad_weight_TOI.copy_(_products(grad_TOB, x_TBI, x_TBI.shape[1]))
        if grad_bias_TO is not None:
            torch.sum(grad_TOB, dim=2, out=grad_bias_TO)
        return grad_x, None, None, None, None


def _products(a: torch.Tensor, b: torch.Tensor, batch: int) -> torch.Tensor:
    """Return the matrix product of every trial; on a CPU its bits must not depend on the other trials.

    They may where matrix libraries treat aligned matrices apart, and a batch that is no multiple of the alignment
    shifts every trial's matrix: such (short last) batches are multiplied trial by trial, from fresh memory. And they
    do where a matrix is a vector, which one trial alone multiplies by another routine than many.
    """
    if a.is_cuda:
        return torch.bmm(a, b)
    if a.shape[1] == 1 or b.shape[2] == 1:
        return (a.unsqueeze(3) * b.unsqueeze(1)).sum(2)
    if batch % ALIGNMENT == 0:
        return torch.bmm(a, b)
    fresh = torch.contiguous_format
    return torch.stack([x.clone(memory_format=fresh) @ y.clone(memory_format=fresh) for x, y in zip(a, b, strict=True)])


def _affine(x: torch.Tensor, weight_TOI: torch.Tensor, bias_TO: torch.Tensor | None) -> torch.Tensor:
    """Return ``[T, B, O]``, feature-major in memory; ``x`` is ``[T, B, I]``, or ``[B, I]`` shared by all trials."""
    lanes, outputs, inputs = weight_TOI.shape
    if x.dim() == 2 and not x.is_cuda:
        # Not as below: on a CPU the bits of a product of few rows depend on their number, so on the neighbours.
        x = x.expand(lanes, *x.shape)
    if x.dim() == 2:
        # Shared input: all maps side by side are one product.
        y_TOB = torch.mm(weight_TOI.reshape(lanes * outputs, inputs), x.t()).view(lanes, outputs, -1)
    elif bias_TO is not None and not x.is_cuda and outputs > 1 and x.shape[1] % ALIGNMENT == 0:
        # On a CPU the product adds the bias for nothing.
        return torch.baddbmm(bias_TO.unsqueeze(2), weight_TOI, x.transpose(1, 2)).transpose(1, 2)
    else:
        y_TOB = _products(weight_TOI, x.transpose(1, 2), x.shape[1])
    if bias_TO is not None:
        y_TOB.add_(bias_TO.unsqueeze(2))
    return y_TOB.transpose(1, 2)


class TwinLinear(nn.Module):
    """The linear maps of all trials; weights and gradients are views of the arenas."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        grad_weight: torch.Tensor,
        grad_bias: torch.Tensor | None,
    ) -> None:
        super().__init__()
        self.weight_TOI = weight.detach().requires_grad_()
        self.bias_TO = None if bias is None else bias.detach().requires_grad_()
        self.grad_weight_TOI, self.grad_bias_TO = grad_weight, grad_bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return _affine(x, self.weight_TOI, self.bias_TO)
        if x.dim() == 2:
            x = x.expand(self.weight_TOI.shape[0], *x.shape)
        y: torch.Tensor = _Affine.apply(x, self.weight_TOI, self.bias_TO, self.grad_weight_TOI, self.grad_bias_TO)
        return y


def _shift_flatten(module: nn.Flatten) -> nn.Flatten:
    """Return the flatten layer for tensors with a leading trial axis."""
    start = module.start_dim + 1 if module.start_dim >= 0 else module.start_dim
    end = module.end_dim + 1 if module.end_dim >= 0 else module.end_dim
    return nn.Flatten(start, end)


class _Call(torch.autograd.Function):
    """Leave ``vmap`` for the duration of the model: its batching rule runs the twin on the stacked tensors."""

    @staticmethod
    def forward(_lane: torch.Tensor, _twin: Twin, *_args: torch.Tensor) -> Any:
        raise NotTwinned("the model was called outside the block's step")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to save: differentiation happens inside the twin."""

    @staticmethod
    def vmap(_info: Any, in_dims: Any, _lane: torch.Tensor, twin: Twin, *args: torch.Tensor) -> Any:
        moved = [arg if dim is None else arg.movedim(dim, 0) for arg, dim in zip(args, in_dims[2:], strict=True)]
        output = twin.module(*moved)
        if isinstance(output, torch.Tensor):
            return output, 0
        if isinstance(output, tuple) and all(isinstance(part, torch.Tensor) for part in output):
            return output, tuple(0 for _ in output)
        raise NotTwinned(f"forward returns a {type(output).__name__}, not a tensor or a tuple of tensors")


class Twin:
    """A model for all trials of a block that stands in for one trial's model inside a vmapped step."""

    def __init__(self, network: Network) -> None:
        """Take the template, parameters, gradients and buffers of a block's network.

        ``forward`` sees a number of each trial as ``[T, 1, 1]``, and a buffer of shape S as ``[T, 1, *S]``.
        """
        model, parameters, gradients = network.template, network.parameters, network.gradients
        self.module = copy.deepcopy(model)
        for name, buffer in network.buffers.items():
            parent, _, leaf = name.rpartition(".")
            self.module.get_submodule(parent)._buffers[leaf] = buffer.view(-1, 1, *(buffer.shape[1:] or (1,)))
        for name, child in list(self.module.named_modules()):
            replacement: nn.Module
            if isinstance(child, nn.Linear):
                weight, bias = f"{name}.weight".lstrip("."), f"{name}.bias".lstrip(".")
                replacement = TwinLinear(
                    parameters[weight], parameters.get(bias), gradients[weight], gradients.get(bias)
                )
            elif isinstance(child, nn.Flatten):
                replacement = _shift_flatten(child)
            elif isinstance(child, KeyedDropout):
                replacement = model.get_submodule(name)  # rates and draws are shared, not copied
            else:
                continue
            if not name:
                self.module = replacement
                break
            parent, _, leaf = name.rpartition(".")
            setattr(self.module.get_submodule(parent), leaf, replacement)

    def linears(self) -> list[TwinLinear]:
        """Return all stacked linear maps."""
        return [module for module in self.module.modules() if isinstance(module, TwinLinear)]

    def train(self, mode: bool) -> None:
        """Set training or evaluation state."""
        self.module.train(mode)

    def for_lane(self, lane: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> _LaneModel:
        """Return the model as one trial's step sees it; ``vmap`` maps ``lane`` and the buffers over trials."""
        return _LaneModel(self, lane, buffers)


class _LaneModel:
    """One trial's model inside ``vmap``: it can be called, and its own buffers can be read."""

    def __init__(self, twin: Twin, lane: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> None:
        self._twin, self._lane, self._buffers = twin, lane, buffers

    def __call__(self, *args: torch.Tensor) -> Any:
        return _Call.apply(self._lane, self._twin, *args)

    def __getattr__(self, name: str) -> Any:
        if name in self._buffers:
            return self._buffers[name]
        raise NotTwinned(f"the step reads model.{name}")
