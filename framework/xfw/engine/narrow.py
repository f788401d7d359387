"""Recognise a narrow network of linear layers, and run it for all trials in a few kernels instead of hundreds.

What is recognised is the shape of the computation, read from a trace of the author's ``forward``: a chain of linear
maps, each followed by a ReLU or not, with or without dropout behind it and a residual branch of two maps. Anything
else keeps its ordinary twin. Axes: T trial, B example, I input, C output of the last layer.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import fx, nn
from torch.autograd.function import once_differentiable

from xfw.engine.dropout import KeyedDropout
from xfw.engine.network import Network
from xfw.engine.rng import purpose_keys, purpose_words

if TYPE_CHECKING:
    from xfw.engine.narrow_kernel import Drops

__all__ = ["Layer", "NarrowTwin", "layers_of"]

RECTIFIES, KEEPS, ADDS = 1, 2, 4
"""What a layer does: ReLU at its end; keep its input; add what was kept before the ReLU."""

WIDEST = 32
"""Widest layer behind the first whose tile of examples a program keeps in its registers."""

SHALLOWEST = 3
"""Fewer layers than these are left to the library's products."""

PLUS = (operator.add, operator.iadd, torch.add)
RECTIFIERS = (nn.functional.relu, torch.relu, torch.relu_)


@attrs.frozen
class Layer:
    """One linear map: the module's path, its sizes, what happens before and after it, and the path of its dropout."""

    path: str
    inputs: int
    outputs: int
    bias: bool
    rectifies: bool = False
    keeps: bool = False
    adds: bool = False
    dropout: str = ""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, KeyedDropout) or super().is_leaf_module(module, qualified_name)


class _Unknown(Exception):  # noqa: N818 - says that a network is not of this kind
    pass


def layers_of(model: nn.Module) -> list[Layer] | None:
    """Return the layers of a chain of linear maps in computing order, or None where the model is something else."""
    try:
        graph = _Tracer().trace(model)
        return _chain(model, graph)
    except (_Unknown, fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError, NameError, KeyError):
        return None  # whatever a trace cannot follow is not a chain


def _chain(model: nn.Module, graph: fx.Graph) -> list[Layer]:
    modules = dict(model.named_modules())
    nodes = _effective(modules, graph)
    layers: list[Layer] = []
    state = nodes.first
    while nodes.kind(state) != "output":
        users = nodes.users(state)
        if len(users) == 2:
            state = _residual(nodes, state, users, layers)
        elif len(users) == 1 and nodes.kind(users[0]) == "linear":
            state = _dense(nodes, users[0], layers)
        elif len(users) == 1 and nodes.kind(users[0]) == "output":
            state = users[0]
        else:
            raise _Unknown
    if not layers:
        raise _Unknown
    return layers


class _Nodes:
    """The traced computation without what changes nothing: every node with its kind and its users."""

    def __init__(self, kinds: dict[fx.Node, str], uses: dict[fx.Node, list[fx.Node]], modules: dict[str, nn.Module]):
        self._kinds, self._uses, self._modules = kinds, uses, modules
        self.first = next(node for node, kind in kinds.items() if kind == "input")

    def kind(self, node: fx.Node) -> str:
        return self._kinds[node]

    def users(self, node: fx.Node) -> list[fx.Node]:
        return self._uses[node]

    def only(self, node: fx.Node, kind: str) -> fx.Node:
        """Return the one user of a node, which must be of a kind."""
        users = self._uses[node]
        if len(users) != 1 or self._kinds[users[0]] != kind:
            raise _Unknown
        return users[0]

    def dropout(self, node: fx.Node) -> tuple[fx.Node, str]:
        """Return the end of a node's dropout, if one follows, and its path."""
        users = self._uses[node]
        if len(users) != 1 or self._kinds[users[0]] != "dropout":
            return node, ""
        return users[0], str(users[0].target)

    def layer(self, node: fx.Node, **deeds: Any) -> Layer:
        module = self._modules[str(node.target)]
        assert isinstance(module, nn.Linear)
        return Layer(str(node.target), module.in_features, module.out_features, module.bias is not None, **deeds)


def _dense(nodes: _Nodes, linear: fx.Node, layers: list[Layer]) -> fx.Node:
    users = nodes.users(linear)
    rectified = len(users) == 1 and nodes.kind(users[0]) == "relu"
    if not rectified:
        layers.append(nodes.layer(linear))
        return linear
    end, dropout = nodes.dropout(users[0])
    layers.append(nodes.layer(linear, rectifies=True, dropout=dropout))
    return end


def _residual(nodes: _Nodes, state: fx.Node, users: Sequence[fx.Node], layers: list[Layer]) -> fx.Node:
    """Read ``relu(h + B relu(A h))``."""
    by_kind = {nodes.kind(node): node for node in users}
    if set(by_kind) != {"linear", "add"} or state is nodes.first:
        raise _Unknown
    inner, dropout = nodes.dropout(nodes.only(by_kind["linear"], "relu"))
    outer = nodes.only(inner, "linear")
    if nodes.only(outer, "add") is not by_kind["add"]:
        raise _Unknown
    layers.append(nodes.layer(by_kind["linear"], rectifies=True, keeps=True, dropout=dropout))
    end, behind = nodes.dropout(nodes.only(by_kind["add"], "relu"))
    layers.append(nodes.layer(outer, rectifies=True, adds=True, dropout=behind))
    return end


def _effective(modules: dict[str, nn.Module], graph: fx.Graph) -> _Nodes:
    kinds: dict[fx.Node, str] = {}
    uses: dict[fx.Node, list[fx.Node]] = {}
    same: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        kind = _kind(node, modules)
        sources = [same.get(argument, argument) for argument in node.all_input_nodes]
        if kind == "identity":
            same[node] = sources[0]
            continue
        if kind == "add" and len(node.all_input_nodes) != 2:
            raise _Unknown
        kinds[node], uses[node] = kind, []
        for source in sources:
            uses[source].append(node)
    if list(kinds.values()).count("input") != 1:
        raise _Unknown
    return _Nodes(kinds, uses, modules)


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    if node.op == "placeholder":
        return "input"
    if node.op == "output" and isinstance(node.args[0], fx.Node):
        return "output"
    if node.op == "call_module":
        module = modules[str(node.target)]
        if type(module) is nn.Linear:
            return "linear"
        if type(module) is nn.ReLU:
            return "relu"
        if type(module) is nn.Identity:
            return "identity"
        if type(module) in (nn.Dropout, KeyedDropout):
            return "dropout"  # at a rate of zero too: the way must not depend on a neighbour's rate
    if node.op == "call_function" and node.target in RECTIFIERS:
        return "relu"
    if node.op == "call_function" and node.target in PLUS and not node.kwargs:
        return "add"
    if node.op == "call_method" and node.target in ("relu", "relu_"):
        return "relu"
    raise _Unknown


class NarrowTwin(nn.Module):
    """Stand in for a stacked twin while it trains; what the kernels cannot do goes to the twin itself."""

    def __init__(self, network: Network, layers: Sequence[Layer], twin: nn.Module) -> None:
        super().__init__()
        self.twin = twin
        self._arena_TP = network.arena_TP.detach().requires_grad_()
        self._gradients_TP = network.gradients_TP
        self._units, self._classes = max(layer.outputs for layer in layers), layers[-1].outputs
        offsets = {slot.name: slot.offset for slot in network.layout.slots}
        assert network.template is not None
        sites = [network.template.get_submodule(layer.dropout) if layer.dropout else None for layer in layers]
        rows = []
        for layer, site in zip(layers, sites, strict=True):
            weight, bias = f"{layer.path}.weight".lstrip("."), f"{layer.path}.bias".lstrip(".")
            deeds = RECTIFIES * layer.rectifies + KEEPS * layer.keeps + ADDS * layer.adds
            purpose = purpose_words(site.site) if isinstance(site, KeyedDropout) else (0, 0)
            places = [offsets[weight], offsets[bias] if layer.bias else -1]
            rows.append([*places, layer.inputs, layer.outputs, deeds, *purpose])
        self._table = torch.tensor(rows, dtype=torch.int32, device=network.device)
        keyed = [site for site in sites if isinstance(site, KeyedDropout)]
        self._holder = keyed[0].holder if any(site.active for site in keyed) else None
        none = torch.zeros(network.lanes, dtype=torch.int32, device=network.device)
        self._thresholds_TL, self._scales_TL = (
            torch.stack([getattr(site, name) if site is not None else usual for site in sites], 1).contiguous()
            for name, usual in (("threshold", none), ("scale", torch.ones_like(none, dtype=torch.float32)))
        )

    @staticmethod
    def fits(network: Network, layers: Sequence[Layer] | None) -> bool:
        """Tell whether a network is narrow and deep enough, of single precision, and held by a trial's row alone."""
        if layers is None or len(layers) < SHALLOWEST or network.dtype != torch.float32:
            return False
        named = sum(1 + layer.bias for layer in layers)
        sites = [layer.dropout for layer in layers if layer.dropout]
        if len(set(sites)) < len(sites):
            return False  # a layer that is called twice draws twice
        return max(layer.outputs for layer in layers) <= WIDEST and named == len(network.trained)

    def forward(self, *args: torch.Tensor) -> Any:
        """Return the logits of all trials, ``[T, B, C]``."""
        x_TBI = args[0]
        lanes = self._arena_TP.shape[0]
        whole = len(args) == 1 and x_TBI.dim() == 3 and x_TBI.dtype == torch.float32 and not x_TBI.requires_grad
        if not (whole and self.training and torch.is_grad_enabled()):
            return self.twin(*args)
        return _Network.apply(self._arena_TP, x_TBI.expand(lanes, -1, -1).contiguous(), self)

    def drops(self) -> Drops | None:
        """Return what dropout takes in the step under way."""
        if self._holder is None:
            return None
        from xfw.engine.narrow_kernel import Drops

        assert self._holder.current is not None
        keys0_T, keys1_T, _, _ = purpose_keys(self._holder.current, "")
        return Drops(keys0_T.contiguous(), keys1_T.contiguous(), self._thresholds_TL, self._scales_TL)

    def run(self, x_TBI: torch.Tensor, drops: Drops | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits, and the outputs of all layers."""
        from xfw.engine import narrow_kernel

        lanes, batch, _ = x_TBI.shape
        kept = x_TBI.new_empty(lanes, self._table.shape[0], batch, self._units)
        logits = x_TBI.new_empty(lanes, batch, self._classes)
        narrow_kernel.forward(x_TBI, self._arena_TP, self._table, kept, logits, drops)
        return logits, kept

    def differentiate(
        self, x_TBI: torch.Tensor, kept: torch.Tensor, slopes_TBC: torch.Tensor, drops: Drops | None
    ) -> None:
        """Write the gradients of all parameters to the arena."""
        from xfw.engine import narrow_kernel

        narrow_kernel.backward(
            x_TBI, self._arena_TP, self._table, kept, slopes_TBC.contiguous(), self._gradients_TP, drops
        )


class _Network(torch.autograd.Function):
    """All layers of all trials; the backward pass writes the gradients where the optimizer reads them."""

    @staticmethod
    def forward(ctx: Any, _arena_TP: torch.Tensor, x_TBI: torch.Tensor, narrow: NarrowTwin) -> torch.Tensor:
        ctx.drops = narrow.drops()
        logits, kept = narrow.run(x_TBI, ctx.drops)
        ctx.save_for_backward(x_TBI, kept)
        ctx.narrow = narrow
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes_TBC: torch.Tensor) -> tuple[None, None, None]:
        ctx.narrow.differentiate(*ctx.saved_tensors, slopes_TBC, ctx.drops)
        return None, None, None
