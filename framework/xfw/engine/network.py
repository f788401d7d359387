"""Build one ordinary model per trial and move all their parameters into one arena.

Axes: T trial (lane) of the block, P entry of a trial's row.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from xfw.engine.dropout import KeyedDropout, RngHolder, replace_dropout
from xfw.engine.layout import Layout
from xfw.errors import UserError
from xfw.seeds import derive

__all__ = ["Network", "initial_model"]


def initial_model(build: Callable[[], nn.Module], key: int) -> nn.Module:
    """Call ``build`` with torch's global generator seeded from the trial's ``init`` key, and restore it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(key, "init") & (2**63 - 1))
        return build()


class Network:
    """The models of a block's trials: arenas, named views, and modules whose tensors are views."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        device: torch.device,
        dtype: torch.dtype,
        groups: Mapping[str, int] | None = None,
    ) -> None:
        """``groups`` numbers the group of the optimizer that each parameter belongs to, by default 0 for all."""
        self.lanes, self.device, self.dtype = len(models), device, dtype
        self.holder = RngHolder()
        shapes = {name: tuple(p.shape) for name, p in models[0].named_parameters()}
        _check_equal(models, shapes)
        owners = {id(p): name for name, p in models[0].named_parameters()}
        every = models[0].named_parameters(remove_duplicate=False)
        self.shared = {name: owners[id(p)] for name, p in every if owners[id(p)] != name}
        # The parameters of a group lie side by side; frozen ones come last, where no optimizer reaches them.
        self.trained = {name for name, p in models[0].named_parameters() if p.requires_grad}
        groups = groups or dict.fromkeys(shapes, 0)
        last = 1 + max(groups.values(), default=0)
        places = {name: groups[name] if name in self.trained else last for name in shapes}
        self.layout = Layout.of({name: shapes[name] for name in sorted(shapes, key=places.__getitem__)})
        ends = [sum(places[slot.name] < place for slot in self.layout.slots) for place in range(last + 1)]
        offsets = [*(slot.offset for slot in self.layout.slots), self.layout.width]
        self.groups = [slice(offsets[a], offsets[b]) for a, b in itertools.pairwise(ends)]
        self.arena_TP = torch.zeros(self.lanes, self.layout.width, dtype=dtype)
        for lane, model in enumerate(models):
            views = self.layout.views(self.arena_TP[lane : lane + 1])
            for name, parameter in model.named_parameters():
                views[name][0].copy_(parameter.detach())
        self.arena_TP = self.arena_TP.to(device)
        self.gradients_TP = torch.zeros_like(self.arena_TP)
        self.parameters = self.layout.views(self.arena_TP)
        self.gradients = self.layout.views(self.gradients_TP)
        self.buffers = {
            name: torch.stack([dict(model.named_buffers())[name] for model in models]).to(device)
            for name, _ in models[0].named_buffers()
        }
        for name, buffer in self.buffers.items():
            if buffer.is_floating_point():
                self.buffers[name] = buffer.to(dtype)
        self.template = copy.deepcopy(models[0]).to("meta")
        replace_dropout(self.template, models, self.holder, device)

    def module(self, lane: int) -> nn.Module:
        """Return one trial as an ordinary module: its parameters and buffers are views into the arena."""
        module = copy.deepcopy(self.template)
        for name, view in self.parameters.items():
            _assign(module, "_parameters", name, nn.Parameter(view[lane], requires_grad=name in self.trained))
        for name, owner in self.shared.items():
            _assign(module, "_parameters", name, module.get_parameter(owner))
        for name, buffer in self.buffers.items():
            _assign(module, "_buffers", name, buffer[lane])
        holder = RngHolder()
        for name, child in list(module.named_modules()):
            if isinstance(child, KeyedDropout):
                single = self.template.get_submodule(name).lane(lane)  # type: ignore[operator]
                single.holder = holder
                parent, _, leaf = name.rpartition(".")
                setattr(module.get_submodule(parent), leaf, single)
        return module

    def dropouts(self, module: nn.Module) -> list[KeyedDropout]:
        """Return the dropout sites of a module."""
        return [child for child in module.modules() if isinstance(child, KeyedDropout)]


def _assign(module: nn.Module, table: str, path: str, value: torch.Tensor) -> None:
    parent, _, leaf = path.rpartition(".")
    getattr(module.get_submodule(parent), table)[leaf] = value


def _check_equal(models: Sequence[nn.Module], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise where the trials of a block have different networks (a key that changes shapes is marked per_trial)."""
    for model in models[1:]:
        found = {name: tuple(p.shape) for name, p in model.named_parameters()}
        if found != shapes:
            wrong = sorted(set(found.items()) ^ set(shapes.items()))[0]
            raise UserError(
                f"build_model: trials of one block have different networks (first difference: {wrong[0]} {wrong[1]})",
                hint="a configuration key that changes the shape of the network must not be per_trial",
            )
