"""Find the groups of parameters that a symmetry of the loss acts on, from the computation instead of from names.

* **scale**: the weights and the bias of one channel whose only reader is a batch normalisation. Multiplying them
  changes nothing; the sum of their squares is conserved under gradient flow.
* **rescale**: the weights and bias that make a channel, and the weights that read it through positively homogeneous
  maps alone. What multiplies the ones may divide the others; the difference of their sums of squares is conserved.
* **translation**: the weights of the last linear map that read one feature (and its bias), before softmax cross
  entropy. Adding a number to all of them changes nothing; their sum is conserved.

A group per channel (or feature), all groups of one layer together in one ``Groups``. Axes: T trial, C channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import fx, nn

__all__ = ["Groups", "NoGroups", "Part", "find_groups", "forced_group", "layer_names"]

Kind = Literal["scale", "rescale", "rescale_affine", "translation"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity, nn.Flatten,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
"""Layers with f(a x) = a f(x) for a > 0 that keep channels apart."""

HOMOGENEOUS_FUNCTIONS = (
    F.relu, F.leaky_relu, F.dropout, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.relu, torch.flatten,
)  # fmt: skip
HOMOGENEOUS_METHODS = ("relu", "relu_", "flatten", "contiguous")


class NoGroups(ValueError):  # noqa: N818 - names what is missing
    """Say which structural condition a network does not meet."""


@attrs.frozen
class Part:
    """Entries of one parameter, by channel: its rows (axis 0), its columns (axis 1), or each entry by itself.

    ``owned`` is how many consecutive columns belong to a channel: the places of a feature map behind a flatten.
    """

    parameter: str
    axis: int
    owned: int = 1

    def by_channel(self, values: torch.Tensor) -> torch.Tensor:
        """Return ``[T, C, entries]`` of a tensor of the parameter's shape with a leading trial axis."""
        if values.dim() == 2:
            return values.unsqueeze(2)
        if self.axis == 0:
            return values.flatten(2)
        trials, rows, columns = values.shape[:3]
        channels = columns // self.owned
        return values.reshape(trials, rows, channels, -1).transpose(1, 2).flatten(2)


@attrs.frozen
class Groups:
    """All groups of one symmetry in one layer: quantities are sums over ``plus`` minus sums over ``minus``.

    ``layer`` is the name that tables and figures use: the consumer's for rescale, else the producer's.
    """

    kind: Kind
    layer: str
    plus: tuple[Part, ...]
    minus: tuple[Part, ...] = ()

    @property
    def order(self) -> int:
        """Return 1 where the quantity is a sum of entries, 2 where it is one of squares."""
        return 1 if self.kind == "translation" else 2

    def parameters(self) -> tuple[str, ...]:
        """Return the names of the parameters that the groups take entries of."""
        return tuple(dict.fromkeys(part.parameter for part in (*self.plus, *self.minus)))

    def form(self, x: Mapping[str, torch.Tensor], y: Mapping[str, torch.Tensor], sign: int = -1) -> torch.Tensor:
        """Return the bilinear form B(x, y) of every group, ``[T, C]`` float64; ``sign`` 1 adds both sides up.

        Products and sums are taken in float64: increments of a ten-millionth vanish in a float32 sum.
        """

        def side(parts: tuple[Part, ...]) -> torch.Tensor:
            sums = [
                torch.einsum("tce,tce->tc", part.by_channel(x[part.parameter]).double(),
                             part.by_channel(y[part.parameter]).double())
                for part in parts
            ]  # fmt: skip
            return torch.stack(sums).sum(0)

        return side(self.plus) + sign * side(self.minus) if self.minus else side(self.plus)

    def norms(self, x: Mapping[str, torch.Tensor], y: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over both sides of the products of the norms of x and y, ``[T, C]``: a bound of B(x, y)."""
        sides = [attrs.evolve(self, plus=side, minus=()) for side in (self.plus, self.minus) if side]
        return torch.stack([(side.form(x, x) * side.form(y, y)).sqrt() for side in sides]).sum(0)

    def sums(self, x: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum of the entries of every group, ``[T, C]`` float64 (translation: the bias comes last)."""
        weight, *bias = self.plus
        columns = x[weight.parameter].double().sum(1)
        return torch.cat([columns, *(x[part.parameter].double().sum(1, keepdim=True) for part in bias)], 1)

    def quantity(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the conserved quantity of every group, ``[T, C]`` float64."""
        return self.sums(parameters) if self.order == 1 else self.form(parameters, parameters)

    def magnitude(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum of squares over both sides, ``[T, C]`` float64."""
        if self.order == 2:
            return self.form(parameters, parameters, sign=1)
        return self.sums({name: value.double() ** 2 for name, value in parameters.items()})


class _Graph:
    """A traced network: who reads whom, with the modules at its nodes."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        try:
            self.graph = fx.symbolic_trace(model).graph
        except (fx.proxy.TraceError, TypeError) as error:
            raise NoGroups(
                f"the network cannot be traced ({error}); list the groups in the configuration (record.groups)"
            ) from error
        targets = [node.target for node in self.graph.nodes if node.op == "call_module"]
        self.once = {target for target in targets if targets.count(target) == 1}

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def only_reader(self, node: fx.Node) -> fx.Node | None:
        return next(iter(node.users)) if len(node.users) == 1 else None

    def nodes_of(self, kinds: tuple[type, ...]) -> list[fx.Node]:
        """Return the nodes of layers of some kinds that are used once, in forward order."""
        return [n for n in self.graph.nodes if n.target in self.once and isinstance(self.module(n), kinds)]

    def homogeneous(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.module(node), HOMOGENEOUS)
        if node.op == "call_function":
            return node.target in HOMOGENEOUS_FUNCTIONS
        return node.op == "call_method" and node.target in HOMOGENEOUS_METHODS

    def consumer(self, node: fx.Node) -> fx.Node | None:
        """Return the one linear map or convolution that reads a node through homogeneous maps alone."""
        reader = self.only_reader(node)
        while reader is not None and self.homogeneous(reader):
            reader = self.only_reader(reader)
        return reader if reader is not None and reader in self.nodes_of(MAPS) else None


def layer_names(model: nn.Module) -> dict[str, str]:
    """Return the name of every layer in tables and figures, by its module's path.

    In a chain of layers: ``conv1``, ``bn1``, ``fc1``, … in forward order, the last linear map ``classifier``. Where
    branches join, as in residual networks, the module's path itself.
    """
    graph = _Graph(model)
    maps, norms = graph.nodes_of(MAPS), graph.nodes_of(NORMS)
    paths = [str(node.target) for node in (*maps, *norms)]
    joined = any(len(node.all_input_nodes) > 1 for node in graph.graph.nodes)
    if joined:
        return {path: path for path in paths}
    names = {str(node.target): f"bn{number}" for number, node in enumerate(norms, 1)}
    convolutions = [node for node in maps if not isinstance(graph.module(node), nn.Linear)]
    linears = [node for node in maps if isinstance(graph.module(node), nn.Linear)]
    names |= {str(node.target): f"conv{number}" for number, node in enumerate(convolutions, 1)}
    names |= {str(node.target): f"fc{number}" for number, node in enumerate(linears[:-1], 1)}
    return names | {str(node.target): "classifier" for node in linears[-1:]}


def find_groups(model: nn.Module, loss: str = "ce", *, scope: str = "all", affine: bool = False) -> list[Groups]:
    """Return the groups of a network in forward order.

    ``loss`` other than ``"ce"`` (softmax cross entropy) has no translation symmetry. ``scope="conv"`` keeps rescale
    groups between convolutions alone. ``affine`` adds those of a batch normalisation's own weight and bias.
    """
    graph = _Graph(model)
    names = layer_names(model)
    groups: list[Groups] = []
    for node in graph.nodes_of(MAPS):
        reader = graph.only_reader(node)
        if reader is not None and isinstance(graph.module(reader), NORMS):
            groups.append(Groups("scale", names[str(node.target)], _rows(graph, node)))
            if affine:
                groups += _pair(graph, names, reader, "rescale_affine", scope)
        groups += _pair(graph, names, node, "rescale", scope)
    last = graph.nodes_of(MAPS)[-1:]
    if loss == "ce" and last and isinstance(graph.module(last[0]), nn.Linear) and _ends(graph, last[0]):
        path = str(last[0].target)
        parts = [Part(f"{path}.weight".lstrip("."), 1)]
        if graph.modules[path].bias is not None:
            parts.append(Part(f"{path}.bias".lstrip("."), 0))
        groups.append(Groups("translation", names[path], tuple(parts)))
    return groups


def _ends(graph: _Graph, node: fx.Node) -> bool:
    reader = graph.only_reader(node)
    return reader is not None and reader.op == "output"


def _rows(graph: _Graph, node: fx.Node) -> tuple[Part, ...]:
    module, path = graph.modules[str(node.target)], str(node.target)
    parts = [Part(f"{path}.weight".lstrip("."), 0)] if module.weight is not None else []
    return tuple(parts + ([Part(f"{path}.bias".lstrip("."), 0)] if module.bias is not None else []))


def _pair(graph: _Graph, names: Mapping[str, str], node: fx.Node, kind: Kind, scope: str) -> list[Groups]:
    """Return the groups between a producer's channels and their only reader, if there is one."""
    consumer = graph.consumer(node)
    minus = _rows(graph, node)
    if consumer is None or not minus:
        return []
    producer, reader = graph.modules[str(node.target)], graph.modules[str(consumer.target)]
    if scope == "conv" and (isinstance(producer, nn.Linear) or isinstance(reader, nn.Linear)):
        return []
    channels = _channels(producer)
    path = f"{consumer.target}.weight".lstrip(".")
    if isinstance(reader, nn.Linear):
        owned, beyond = divmod(reader.in_features, channels)
        if beyond:
            return []
        plus = Part(path, 1, owned)
    elif reader.groups == 1:
        plus = Part(path, 1)
    elif reader.groups == channels == reader.out_channels:
        plus = Part(path, 0)  # depthwise: channel c is read by row c alone
    else:
        return []
    return [Groups(kind, names[str(consumer.target)], (plus,), minus)]


def _channels(producer: nn.Module) -> int:
    for name in ("out_channels", "out_features", "num_features"):
        if hasattr(producer, name):
            return int(getattr(producer, name))
    raise NoGroups(f"{type(producer).__name__} has no channels")


def forced_group(model: nn.Module, text: str) -> Groups:
    """Return groups that the network need not have, ``KIND:PRODUCER[:CONSUMER]`` by module path, to see a law fail."""
    kind, _, paths = text.partition(":")
    producer, _, consumer = paths.partition(":")
    modules = dict(model.named_modules())
    unknown = [path for path in (producer, consumer) if path and not isinstance(modules.get(path), MAPS)]
    if kind not in ("scale", "rescale") or not producer or (kind == "rescale") != bool(consumer) or unknown:
        raise NoGroups(f"record.forced: found '{text}', expected scale:PRODUCER or rescale:PRODUCER:CONSUMER by path")

    def rows(path: str) -> tuple[Part, ...]:
        bias = (Part(f"{path}.bias", 0),) if modules[path].bias is not None else ()
        return (Part(f"{path}.weight", 0), *bias)

    if kind == "scale":
        return Groups("scale", f"forced-{producer}", rows(producer))
    channels, reader = _channels(modules[producer]), modules[consumer]
    owned = reader.in_features // channels if isinstance(reader, nn.Linear) else 1
    return Groups("rescale", f"forced-{consumer}", (Part(f"{consumer}.weight", 1, owned),), rows(producer))
