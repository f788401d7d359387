"""Run an ordinary model for all trials of a block at once, with each layer replaced by its stacked twin.

The author's ``forward`` is executed once on ``[T, B, …]`` tensors, while the rest of ``train_step`` runs under
``vmap``. Activations are kept feature-major in memory (``[T, features, B]``, seen as ``[T, B, features]``): every
weight gradient is then one batched product whose result has the layout of the weight, and narrow products are up
to five times as fast on a CPU. Axes: T trial, B example, I input, O output feature.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from xfw.engine.dropout import KeyedDropout
from xfw.engine.network import ALIGNMENT, Network

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
        if any(not parameter.requires_grad for parameter in own):
            return f"layer '{name}' has frozen parameters"
        if type(module) is nn.Linear:
            for parameter in own:
                if seen.setdefault(id(parameter), name) != name:
                    return f"'{name}' shares a parameter with '{seen[id(parameter)]}'"
        elif own or (_is_torchs_layer(module) and type(module) not in (*ELEMENTWISE, nn.Dropout, nn.Flatten)):
            return f"layer '{name}' ({type(module).__name__}) has no stacked twin"
    return ""


def _is_torchs_layer(module: nn.Module) -> bool:
    """Tell layers of torch from its containers and from what authors write, which is only arithmetic to a twin."""
    kind = type(module)
    return kind.__module__.startswith("torch.") and kind.__module__ != "torch.nn.modules.container"


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
        ctx.targets, ctx.dtype = (grad_weight_TOI, grad_bias_TO), x_TBI.dtype
        x_TBI, weight_TOI, bias_TO = _shortened(x_TBI, weight_TOI, bias_TO)
        ctx.save_for_backward(x_TBI, weight_TOI)
        return _affine(x_TBI, weight_TOI, bias_TO)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TBO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_TBI, weight_TOI = ctx.saved_tensors
        grad_weight_TOI, grad_bias_TO = ctx.targets
        grad_TOB = grad_TBO.transpose(1, 2)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = _products(weight_TOI.transpose(1, 2), grad_TOB, x_TBI.shape[1]).transpose(1, 2).to(ctx.dtype)
        if grad_weight_TOI.is_cuda and grad_TOB.dtype == grad_weight_TOI.dtype:
            torch.bmm(grad_TOB, x_TBI, out=grad_weight_TOI)
        else:  # on CPU a batched product into a strided result falls back to one product a trial
            grad_weight_TOI.copy_(_products(grad_TOB, x_TBI, x_TBI.shape[1]))
        if grad_bias_TO is not None:
            torch.sum(grad_TOB, dim=2, dtype=grad_bias_TO.dtype, out=grad_bias_TO)
        return grad_x, None, None, None, None


def _shortened(*tensors: torch.Tensor | None) -> Any:
    """Return the operands of a product as autocast would cast them: float32 to its type, the rest as it is."""
    kind = next(tensor for tensor in tensors if tensor is not None).device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors)


def _products(a: torch.Tensor, b: torch.Tensor, batch: int) -> torch.Tensor:
    """Return the matrix product of every trial; on a CPU its bits must not depend on the other trials.

    They may where matrix libraries treat aligned matrices apart, and a batch that is no multiple of the alignment
    shifts every trial's matrix: such (short last) batches are multiplied trial by trial, from fresh memory. And they
    do where a matrix is a vector, which one trial alone multiplies by another routine than many.
    """
    if a.is_cuda:
        return torch.bmm(a, b)
    if a.shape[1] == 1 or b.shape[2] == 1:
        exact = torch.float32 if a.dtype == torch.bfloat16 else a.dtype
        return (a.to(exact).unsqueeze(3) * b.unsqueeze(1)).sum(2).to(a.dtype)
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
            return _affine(*_shortened(x, self.weight_TOI, self.bias_TO))
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
    def vmap(info: Any, in_dims: Any, _lane: torch.Tensor, twin: Twin, *args: torch.Tensor) -> Any:
        moved = [_stacked(arg, dim, info.batch_size) for arg, dim in zip(args, in_dims[2:], strict=True)]
        with twin.guard():
            output = twin.module(*moved)
        if isinstance(output, torch.Tensor):
            return _widened(output), 0
        if isinstance(output, tuple) and all(isinstance(part, torch.Tensor) for part in output):
            return tuple(map(_widened, output)), tuple(0 for _ in output)
        raise NotTwinned(f"forward returns a {type(output).__name__}, not a tensor or a tuple of tensors")


def _widened(output: torch.Tensor) -> torch.Tensor:
    """Return what leaves the model in float32: a loss under ``vmap`` is not taken there by autocast, as it is alone."""
    return output.float() if output.dtype == torch.bfloat16 else output


def _stacked(arg: Any, dim: int | None, lanes: int) -> Any:
    """Return an argument as the twin takes it: with the trials in front, but for a matrix ``[B, I]`` of all trials."""
    if dim is not None:
        return arg.movedim(dim, 0)
    if isinstance(arg, torch.Tensor) and arg.dim() != 2:
        return arg.expand(lanes, *arg.shape)
    return arg


class _Guard(TorchFunctionMode):
    """Refuse what ``forward`` may not ask of stacked tensors: their shape, their numbers, their entries by position.

    A path that depends on these could be right for the trials of a rehearsal and wrong for others. What is left is
    arithmetic, whose results are compared.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in ASKING and not _is_ours(sys._getframe(1)):
            name = getattr(func, "__qualname__", getattr(func, "__name__", str(func)))
            if name.endswith("__get__"):
                name = getattr(func.__self__, "__name__", name)
            if func is not torch.Tensor.__getitem__ or not _from_the_end(args[1]):
                raise NotTwinned(f"forward uses {name} of a tensor, which would see all trials")
        return func(*args, **(kwargs or {}))


ASKING = frozenset(
    getattr(torch.Tensor, name)
    for name in (
        "item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "__complex__",
        "__len__", "__iter__", "__contains__", "__getitem__", "__setitem__", "size", "dim", "ndimension", "numel",
        "nelement", "stride", "unbind", "split", "chunk", "narrow", "select", "index_select", "tensor_split", "nonzero",
        "equal", "is_nonzero", "unique", "masked_select",
    )
) | {vars(torch._C.TensorBase)[name].__get__ for name in ("shape", "ndim")} | {
    torch.unbind, torch.split, torch.chunk, torch.narrow, torch.select, torch.index_select, torch.tensor_split,
    torch.nonzero, torch.equal, torch.is_nonzero, torch.unique, torch.masked_select, torch.numel,
}  # fmt: skip
"""What tells Python of a tensor's shape or numbers, or takes entries by their place along the first axes."""


def _is_ours(frame: Any) -> bool:
    while frame.f_globals.get("__name__") == "torch._tensor":  # a loop over a tensor, for example
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).startswith("xfw.engine.")


def _from_the_end(index: Any) -> bool:
    """Say whether an index counts axes from the last one, so that the axis of trials in front does not shift them."""
    return index is Ellipsis or (isinstance(index, tuple) and bool(index) and index[0] is Ellipsis)


class Twin:
    """A model for all trials of a block that stands in for one trial's model inside a vmapped step."""

    def __init__(self, network: Network, *, guarded: bool) -> None:
        """Take the template, parameters, gradients and buffers of a block's network.

        ``forward`` sees a number of each trial as ``[T, 1, 1]``, and a buffer of shape S as ``[T, 1, *S]``. A guarded
        twin refuses what would depend on how many trials there are, or on their numbers.
        """
        model, parameters, gradients = network.template, network.parameters, network.gradients
        assert model is not None
        self.guard: Callable[[], contextlib.AbstractContextManager[object]]
        self.guard = _Guard if guarded else contextlib.nullcontext
        self.module: nn.Module = copy.deepcopy(model)
        for name, buffer in network.buffers.items():
            parent, _, leaf = name.rpartition(".")
            self.module.get_submodule(parent)._buffers[leaf] = buffer.view(-1, 1, *(buffer.shape[1:] or (1,)))
        for name, child in list(self.module.named_modules()):
            replacement: nn.Module
            if type(child) is nn.Linear:
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

    def for_lane(self, lane: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> _LaneModel:
        """Return the model as one trial's step sees it; ``vmap`` maps ``lane`` and the buffers over trials."""
        return _LaneModel(self, lane, buffers)


class _LaneModel:
    """One trial's model inside ``vmap``: it can be called, and its own buffers can be read."""

    def __init__(self, twin: Twin, lane: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> None:
        self._twin, self._lane, self._buffers = twin, lane, buffers
        self._seen: Callable[[Any, Any, Any], None] | None = None

    def __call__(self, *args: torch.Tensor, **keywords: Any) -> Any:
        if keywords:
            raise NotTwinned(f"the step calls the model with {', '.join(keywords)}=")
        output = _Call.apply(self._lane, self._twin, *args)
        if self._seen is not None:
            self._seen(self, args, output)
        return output

    def register_forward_hook(self, hook: Callable[[Any, Any, Any], None]) -> _LaneModel:
        """Let a rehearsal see what the model returns."""
        self._seen = hook
        return self

    def remove(self) -> None:
        """End that."""
        self._seen = None

    def __getattr__(self, name: str) -> Any:
        if name in self._buffers:
            return self._buffers[name]
        raise NotTwinned(f"the step reads model.{name}")
