"""The models of a block's trials, and one arena for all their parameters, of which each model's own tensors are views.

Axes: T trial (lane) of the block, P entry of a trial's row.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import random
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from xfw.engine.dropout import KeyedDropout, keyed_dropout
from xfw.errors import UserError
from xfw.seeds import derive

__all__ = ["ALIGNMENT", "Layout", "Network", "Slot", "initial_model", "place", "plain_state"]

ALIGNMENT = 4
"""Entries to which every parameter is aligned: 16 bytes in float32, what vectorised loads want."""

HOOKS = {
    "_forward_pre_hooks": "a forward pre-hook",
    "_forward_hooks": "a forward hook",
    "_backward_pre_hooks": "a backward pre-hook",
    "_backward_hooks": "a backward hook",
}


@attrs.frozen
class Slot:
    """Where one parameter lies in a trial's row."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of entries."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


@attrs.frozen
class Layout:
    """The slots of all parameters of one trial; ``width`` is P, the alignment gaps included."""

    slots: tuple[Slot, ...]
    width: int

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]]) -> Layout:
        """Lay out parameters in the given order."""
        slots, offset = [], 0
        for name, shape in shapes.items():
            slot = Slot(name, tuple(shape), offset)
            slots.append(slot)
            offset += -(-slot.size // ALIGNMENT) * ALIGNMENT
        return cls(tuple(slots), offset)

    def slot(self, name: str) -> Slot:
        """Return the slot of a parameter; KeyError if there is none."""
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(name)

    def views(self, arena_TP: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``[T, *shape]`` views of the arena by parameter name."""
        lanes = arena_TP.shape[0]
        return {s.name: arena_TP[:, s.offset : s.offset + s.size].view(lanes, *s.shape) for s in self.slots}

    def describe(self) -> list[list[object]]:
        """Return ``[name, shape, offset]`` of every slot, for the committed state."""
        return [[slot.name, list(slot.shape), slot.offset] for slot in self.slots]


def initial_model(build: Callable[[], nn.Module], key: int) -> nn.Module:
    """Call ``build`` with torch's global generator seeded from the trial's ``init`` key, and restore it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(key, "init") & (2**63 - 1))
        return build()


class Network:
    """A block's models as ``build_model`` made them, over common arenas ``[T, P]`` of parameters and gradients.

    Every model stays the object that it was: hooks, closures and aliases of the author's keep their meaning, while its
    parameters and buffers become views of the arenas. Its dropout layers draw keyed numbers.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        device: torch.device,
        dtype: torch.dtype,
        groups: Mapping[str, int] | None = None,
    ) -> None:
        """``groups`` numbers the group of the optimizer that each parameter belongs to, by default 0 for all."""
        _check(models)
        first = models[0]
        self.models, self.lanes, self.device, self.dtype = list(models), len(models), device, dtype
        self.trained = {name for name, p in first.named_parameters() if p.requires_grad}
        self.layout, self.groups = self._arranged(groups)
        owners = {id(p): name for name, p in first.named_parameters()}
        named = first.named_parameters(remove_duplicate=False)
        self.shared = {name: owners[id(p)] for name, p in named if owners[id(p)] != name}
        self.template: nn.Module | None = None
        self.obstacle = _hook(models)
        """Why no copy of one model may stand for all of them; empty where ``template`` does."""
        if not self.obstacle:
            self._make_template()
        self.draws = [keyed_dropout(model, [model], device) for model in models]
        self._make_arenas()

    def _arranged(self, groups: Mapping[str, int] | None) -> tuple[Layout, list[slice]]:
        """Return where parameters lie: those of a group side by side, frozen ones last, where no optimizer is."""
        shapes = {name: tuple(p.shape) for name, p in self.models[0].named_parameters()}
        groups = groups or dict.fromkeys(shapes, 0)
        last = 1 + max(groups.values(), default=0)
        places = {name: groups[name] if name in self.trained else last for name in shapes}
        layout = Layout.of({name: shapes[name] for name in sorted(shapes, key=places.__getitem__)})
        ends = [sum(places[slot.name] < place for slot in layout.slots) for place in range(last + 1)]
        offsets = [*(slot.offset for slot in layout.slots), layout.width]
        return layout, [slice(offsets[a], offsets[b]) for a, b in itertools.pairwise(ends)]

    def _make_template(self) -> None:
        """Copy the first model, without its numbers, to run all trials' tensors through."""
        try:
            template = copy.deepcopy(self.models[0]).to("meta")
        except (RuntimeError, TypeError, NotImplementedError, AttributeError, copy.Error) as error:
            self.obstacle = f"the model cannot be copied: {str(error).splitlines()[0]}"
            return
        self.draw = keyed_dropout(template, self.models, self.device)
        self.template = template

    def _make_arenas(self) -> None:
        arena_TP = torch.zeros(self.lanes, self.layout.width, dtype=self.dtype)
        for lane, model in enumerate(self.models):
            row = self.layout.views(arena_TP[lane : lane + 1])
            for name, parameter in model.named_parameters():
                row[name][0].copy_(parameter.detach())
        self.arena_TP = arena_TP.to(self.device)
        self.gradients_TP = torch.zeros_like(self.arena_TP)
        self.parameters = self.layout.views(self.arena_TP)
        self.gradients = self.layout.views(self.gradients_TP)
        self.buffers: dict[str, torch.Tensor] = {}
        for name, first in self.models[0].named_buffers():
            dtype = self.dtype if first.is_floating_point() else first.dtype
            rows = [model.get_buffer(name).detach() for model in self.models]
            self.buffers[name] = torch.stack(rows).to(self.device, dtype)
        for lane in range(self.lanes):
            self.bind(lane)

    def bind(self, lane: int) -> None:
        """Let one model's parameters and buffers be views of its row, whatever they were."""
        for name, parameter in self.models[lane].named_parameters():
            parameter.data = self.parameters[name][lane]
        for name, buffer in self.models[lane].named_buffers():
            buffer.data = self.buffers[name][lane]

    def absorb(self, lane: int) -> None:
        """Take over tensors that the author's code has put in the place of views (``self.count = self.count + 1``)."""
        model, moved = self.models[lane], False
        for rows, tensors in ((self.parameters, model.named_parameters()), (self.buffers, model.named_buffers())):
            for name, tensor in tensors:
                row = rows[name][lane]
                if tensor.data_ptr() == row.data_ptr():
                    continue
                if tensor.shape != row.shape:
                    raise UserError(
                        f"'{name}' of the model changed its shape from {tuple(row.shape)} to {tuple(tensor.shape)}",
                        hint="parameters and buffers keep their shapes: make it as large as it will become",
                    )
                row.copy_(tensor.detach())
                moved = True
        if moved:
            self.bind(lane)

    def copy_of_template(self) -> nn.Module:
        """Return a module without numbers for tensors to be put into; its dropout layers draw from ``draw``."""
        module = copy.deepcopy(self.template)
        assert module is not None
        for site in module.modules():
            if isinstance(site, KeyedDropout):
                site.holder = self.draw
        return module

    def module(self, lane: int) -> nn.Module:
        """Return the model of one trial: its parameters and buffers are views into the arena."""
        return self.models[lane]

    def representatives(self) -> list[int]:
        """Return at least two lanes among which everything differs that differs between the models, beside tensors."""
        known: dict[int, str] = {}
        states = [plain_state(model, tensors=True, known=known) for model in self.models]
        lanes = {0, self.lanes - 1}
        for path in {path: None for state in states for path in state}:
            unlike = (lane for lane, state in enumerate(states) if state.get(path) != states[0].get(path))
            lanes.add(next(unlike, 0))
        chosen = sorted(lanes)
        return chosen if len(chosen) > 1 else [0, 0]


def place(module: nn.Module, table: str, path: str, value: torch.Tensor) -> None:
    """Put a tensor into a module's table of parameters or buffers, whatever its type."""
    parent, _, leaf = path.rpartition(".")
    getattr(module.get_submodule(parent), table)[leaf] = value


# --- what a network may be -----------------------------------------------------------------------------------


def _check(models: Sequence[nn.Module]) -> None:
    """Raise UserError for what no arena can hold, and where the trials of a block have different networks."""
    for name, parameter in models[0].named_parameters():
        if nn.parameter.is_lazy(parameter):
            hint = "give its sizes, or run one batch through the model in build_model"
            raise UserError(f"build_model: parameter '{name}' has no shape yet (a lazy layer)", hint=hint)
        if not parameter.is_floating_point() or parameter.layout != torch.strided:
            kind = parameter.dtype if parameter.layout == torch.strided else parameter.layout
            hint = "keep it as a buffer (register_buffer), or use a dense floating-point parameter"
            raise UserError(f"build_model: parameter '{name}' is of type {kind}", hint=hint)
    shapes = _shapes(models[0])
    for model in models[1:]:
        if _shapes(model) != shapes:
            name, found = sorted(set(_shapes(model).items()) ^ set(shapes.items()))[0]
            raise UserError(
                f"build_model: trials of one block have different networks (first difference: {name} {found})",
                hint="a configuration key that changes the shape of the network must not be per_trial",
            )


def _shapes(model: nn.Module) -> dict[str, str]:
    parameters = {name: str(tuple(p.shape)) for name, p in model.named_parameters()}
    return parameters | {name: f"{tuple(b.shape)} {b.dtype}" for name, b in model.named_buffers()}


def _hook(models: Sequence[nn.Module]) -> str:
    """Name the first hook on these models: it was written for one model, and acts where each model runs by itself."""
    for table, what in HOOKS.items():
        if getattr(torch_module, f"_global{table}", None):
            return f"{what} on all modules"
    for model in models:
        for name, module in model.named_modules():
            for table, what in HOOKS.items():
                if getattr(module, table):
                    return f"module '{name}' ({type(module).__name__}) has {what}"
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
                return f"'{name}' has a hook on its gradient"
    return ""


# --- what a model holds beside its tensors -------------------------------------------------------------------

TORCHS_OWN = frozenset(vars(nn.Module()))
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, type)
DEPTH, LARGEST = 6, 10_000
"""How deep objects are looked into, and up to how many entries of a collection."""


def plain_state(value: Any, *, tensors: bool, known: dict[int, str] | None = None) -> dict[str, str]:
    """Return, by path, the plain values that a model or a function holds: numbers, texts, types, lengths.

    Tensors and arrays count by their content with ``tensors``, else by being there. ``known`` remembers contents, for
    calls in which they do not change.
    """
    state: dict[str, str] = {}
    _walk(value, "", state, set(), _Reader(tensors, {} if known is None else known), DEPTH)
    return state


@attrs.frozen
class _Reader:
    tensors: bool
    known: dict[int, str]

    def content(self, value: torch.Tensor | np.ndarray) -> str:
        if not self.tensors:
            return "tensor"
        if id(value) not in self.known:
            host = value.detach().cpu().contiguous().view(-1) if isinstance(value, torch.Tensor) else value
            array = host.view(torch.uint8).numpy() if isinstance(host, torch.Tensor) and host.numel() else host
            digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16)
            self.known[id(value)] = f"{tuple(value.shape)} {digest.hexdigest()}"
        return self.known[id(value)]


def _walk(value: Any, path: str, state: dict[str, str], seen: set[int], reader: _Reader, depth: int) -> None:
    if isinstance(value, PLAIN):
        state[path] = repr(value)
        return
    if isinstance(value, (torch.Tensor, np.ndarray)):
        state[path] = reader.content(value)
        return
    state[path] = type(value).__qualname__
    if depth == 0 or id(value) in seen:
        return
    seen.add(id(value))
    for name, part in _parts(value):
        _walk(part, f"{path}.{name}" if path else name, state, seen, reader, depth - 1)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Return what an object is made of, by name."""
    if isinstance(value, nn.Module):
        for name, module in value.named_modules():
            prefix = f"{name}." if name else ""
            yield f"{prefix}class", type(module)
            for attribute, own in vars(module).items():
                if attribute not in TORCHS_OWN and (attribute == "rates" or not isinstance(module, KeyedDropout)):
                    yield f"{prefix}{attribute}", own
    elif isinstance(value, torch.Generator):
        yield "state", value.get_state().numpy().tobytes()
    elif isinstance(value, np.random.Generator):
        yield "state", repr(value.bit_generator.state)
    elif isinstance(value, random.Random):
        yield "state", repr(value.getstate())
    elif isinstance(value, (Mapping, list, tuple, set, frozenset)) and len(value) > LARGEST:
        yield "length", len(value)
    elif isinstance(value, Mapping):
        yield from ((repr(key), part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield "length", len(value)
        yield from ((str(index), part) for index, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield "members", repr(sorted(map(repr, value)))
    elif isinstance(value, partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield from (("func", value.__func__), ("self", value.__self__))
    elif isinstance(value, types.FunctionType):
        yield "name", f"{value.__module__}.{value.__qualname__}"
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            yield name, _content_of(cell)
        for name in _names(value.__code__):
            part = value.__globals__.get(name)
            own = getattr(part, "__module__", value.__module__) == value.__module__
            if part is not None and own and not isinstance(part, (types.ModuleType, type)):
                yield name, part
    else:
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        names = [*getattr(value, "__dict__", ()), *slots]
        yield from ((name, getattr(value, name)) for name in names if name != "__weakref__" and hasattr(value, name))


def _names(code: types.CodeType) -> set[str]:
    """Return the global names that a function and those within it read."""
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return {*code.co_names}.union(*map(_names, inner))


def _content_of(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet set
        return None
