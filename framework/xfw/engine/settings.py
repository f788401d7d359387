"""The values of an optimizer: checked, completed by defaults, stacked over the trials of a block, and scheduled.

Axes: T trial (lane) of the block.
"""

from __future__ import annotations

import fnmatch
import inspect
import itertools
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import nn

from xfw.engine.formulas import FORMULAS
from xfw.errors import UserError, did_you_mean
from xfw.experiment import Group, Optimizer
from xfw.schedules import Schedule

__all__ = ["Follower", "Settings", "check_names", "exact_dtype", "groups_of", "settings_of", "spec_of"]

OF_THE_CORE = ("foreach", "fused", "capturable", "differentiable")
"""Arguments of torch's optimizers that say how to compute, not what."""


def exact_dtype(device: torch.device) -> torch.dtype:
    """Return the widest floating-point type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


class Follower:
    """A number of every trial, some of them scheduled: ``now`` is a ``[T]`` tensor that keeps its address."""

    def __init__(self, values: Sequence[Any], device: torch.device) -> None:
        self.given, self._dtype = tuple(values), exact_dtype(device)
        self.now = torch.zeros(len(values), dtype=self._dtype, device=device)
        alike: dict[Any, list[int]] = {}
        for lane, value in enumerate(values):
            if _is_number(value):
                self.now[lane] = float(value)
            else:
                alike.setdefault(_form(value), []).append(lane)
        self._parts = [
            (torch.tensor(lanes, device=device), _stacked([values[lane] for lane in lanes], self._dtype, device), unit)
            for (*_, unit), lanes in alike.items()
        ]

    def __bool__(self) -> bool:
        """Say whether any trial's number changes."""
        return bool(self._parts)

    def follow(self, clock_2: torch.Tensor) -> None:
        """Take the values at a clock: the number of updates, and of passes, before the present one."""
        for lanes, value, unit in self._parts:
            found = value(clock_2[1 if unit == "pass" else 0]).to(self._dtype)
            self.now.index_copy_(0, lanes, found.expand(len(lanes)).contiguous())


@attrs.frozen(eq=False)
class Settings:
    """The values of one group of parameters for all trials; ``flags`` are plain and equal in all of them.

    Pairs (``betas``) stand here as ``betas/0`` and ``betas/1``.
    """

    followers: Mapping[str, Follower]
    flags: Mapping[str, Any]
    zero: frozenset[str]

    @property
    def scheduled(self) -> list[Follower]:
        """Return the numbers that change."""
        return [follower for follower in self.followers.values() if follower]

    def given(self, lane: int) -> tuple[Any, ...]:
        """Return what one trial's numbers were given as: trials that are equal here are equal at every step."""
        return tuple(follower.given[lane] for follower in self.followers.values())

    @property
    def exact(self) -> torch.dtype:
        """Return the type in which numbers are kept."""
        return next(iter(self.followers.values())).now.dtype

    def now(self) -> dict[str, torch.Tensor]:
        """Return every number as ``[T]``, those apart that are and stay zero in all trials."""
        return {name: follower.now for name, follower in self.followers.items() if name not in self.zero}

    def arguments(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """Return the optimizer's arguments, with numbers as in ``now``, and 0.0 for those that stay zero."""
        return _folded({name: now.get(name, 0.0) for name in self.followers}) | dict(self.flags)

    def of(self, lane: int) -> dict[str, Any]:
        """Return one trial's numbers as plain ones; waits for the device."""
        return _folded({name: float(follower.now[lane]) for name, follower in self.followers.items()})


def settings_of(specs: Sequence[Optimizer], count: int, device: torch.device) -> tuple[Any, list[Settings]]:
    """Return what kind of optimizer the trials of a block have, and its values for each of ``count`` groups."""
    for spec in specs:
        if not isinstance(spec, Optimizer):
            raise UserError(f"build_optimizer returned a {type(spec).__name__}, expected an xfw.Optimizer")
    kinds = [_plain_kind(spec.kind) for spec in specs]
    kind, hint = kinds[0], "a function that encloses what differs between trials takes it as an argument instead"
    if not all(_alike(kind, other) for other in kinds):
        names = ", ".join(sorted({_name(other) for other in kinds}))
        raise UserError(f"the trials of one block have different optimizers: {names}", hint=hint)
    if not all(_alike([g.where for g in specs[0].groups], [g.where for g in spec.groups]) for spec in specs):
        raise UserError("the trials of one block have different groups of parameters", hint=hint)
    completed = [[_complete(kind, spec, place) for spec in specs] for place in range(count)]
    for values in itertools.chain(*completed):
        _check(kind, values)
    return kind, [_stack(values, device) for values in completed]


def check_names(spec: Any, model: nn.Module) -> None:
    """Raise UserError where an optimizer, an argument of it or a group's parameters do not exist.

    Without making one: that would cost the planner of a run the seconds that torch takes to load what it needs for it.
    """
    if not isinstance(spec, Optimizer):
        raise UserError(f"build_optimizer returned a {type(spec).__name__}, expected an xfw.Optimizer")
    groups_of(spec, model)
    for place in range(1 + len(spec.groups)):
        _complete(_plain_kind(spec.kind), spec, place)


def spec_of(found: Any, model: nn.Module) -> Any:
    """Return an ordinary optimizer over a model's parameters as an ``Optimizer``; anything else as it is."""
    if not isinstance(found, torch.optim.Optimizer):
        return found
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups, taken = [], []
    for group in found.param_groups:
        missing = [parameter for parameter in group["params"] if id(parameter) not in names]
        if missing:
            raise UserError(
                "build_optimizer: an optimizer has a tensor that is no parameter of the model",
                hint="take them from the argument `model`: model.parameters()",
            )
        values = {name: group[name] for name in _defaults(_plain_kind(type(found))) if name in group}
        groups.append(Group(own := [names[id(parameter)] for parameter in group["params"]], **values))
        taken += own
    idle = [name for name, p in model.named_parameters() if p.requires_grad and name not in taken]
    if idle:
        raise UserError(
            f"build_optimizer: the optimizer leaves out {', '.join(idle[:3])}",
            hint="set requires_grad to False where a parameter shall not train",
        )
    return Optimizer(type(found), groups=groups, **groups[0].values)


def groups_of(spec: Optimizer | None, model: nn.Module) -> dict[str, int]:
    """Return the number of the group of every parameter: 0 without a group of its own, else counted from 1."""
    groups = spec.groups if isinstance(spec, Optimizer) else ()
    places = {}
    for name, _ in model.named_parameters():
        module = model.get_submodule(name.rpartition(".")[0])
        fitting = [place for place, group in enumerate(groups, 1) if _fits(group, name, module)]
        places[name] = fitting[0] if fitting else 0
    for place, group in enumerate(groups, 1):
        if place not in places.values():
            raise UserError(
                f"optimizer: group {place} ({group.where!r}) has no parameter of its own",
                hint=f"parameters: {', '.join(places)}",
            )
    return places


def _fits(group: Group, name: str, module: nn.Module) -> bool:
    if callable(group.where):
        return bool(group.where(name, module))
    patterns = (group.where,) if isinstance(group.where, str) else group.where
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _alike(a: Any, b: Any) -> bool:
    """Say whether two trials were given the same: functions may be made anew, of one code around equal values."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    if not (inspect.isfunction(a) and inspect.isfunction(b)):
        return a is b or (not callable(a) and type(a) is type(b) and bool(a == b))
    enclosed = [[cell.cell_contents for cell in function.__closure__ or ()] for function in (a, b)]
    held = [
        [*own, *(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()]
        for own, f in zip(enclosed, (a, b), strict=True)
    ]
    plain = not any(isinstance(value, torch.Tensor) for own in held for value in own)
    return a is b or (a.__code__ is b.__code__ and plain and _alike(*held))


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else getattr(kind, "__qualname__", repr(kind))


def _plain_kind(kind: Any) -> Any:
    """Return a kind as given, one of torch's own classes by its name."""
    name = getattr(kind, "__name__", "")
    return name if isinstance(kind, type) and getattr(torch.optim, name, None) is kind else kind


def _complete(kind: Any, spec: Optimizer, place: int) -> dict[str, Any]:
    """Return all values of a spec for one of its groups; UserError where one is unknown or missing."""
    values = {**spec.values, **(spec.groups[place - 1].values if place else {})}
    defaults = _defaults(kind)
    for name in values:
        if name in OF_THE_CORE and isinstance(kind, str):
            raise UserError(f"optimizer: '{name}' says how to compute, which the core decides; leave it out")
        if name not in defaults:
            known = f"{did_you_mean(name, defaults)}   {_name(kind)} takes: {', '.join(defaults)}".strip()
            raise UserError(f"optimizer: {_name(kind)} has no argument '{name}'", hint=known)
    completed = defaults | values
    missing = [name for name, value in completed.items() if value is inspect.Parameter.empty]
    if missing:
        raise UserError(f"optimizer: {_name(kind)} needs a value for '{missing[0]}'")
    flat: dict[str, Any] = {}
    for name, value in completed.items():
        pairs = value if isinstance(value, (tuple, list)) else None
        flat |= {name: value} if pairs is None else {f"{name}/{i}": part for i, part in enumerate(pairs)}
    return flat


def _defaults(kind: Any) -> dict[str, Any]:
    """Return the arguments of an optimizer with their defaults."""
    if isinstance(kind, str) and kind not in FORMULAS:
        if hasattr(torch.optim, kind):
            raise mixes(f"torch.optim.{kind}")
        raise UserError(f"optimizer: torch.optim has no '{kind}'", hint=did_you_mean(kind, FORMULAS))
    if not callable(kind) and not isinstance(kind, str):
        raise UserError(f"optimizer: {kind!r} is neither a name of torch.optim, a class nor a function")
    parameters = inspect.signature(getattr(torch.optim, kind) if isinstance(kind, str) else kind).parameters.values()
    if isinstance(kind, (str, type)):
        rest = [p for p in list(parameters)[1:] if not (isinstance(kind, str) and p.name in OF_THE_CORE)]
    else:
        rest = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return {p.name: p.default for p in rest}


def mixes(name: str) -> UserError:
    """Return the error for an optimizer that cannot run on the arena."""
    return UserError(
        f"optimizer: {name} mixes the entries of a tensor, or needs more than their gradients",
        hint="step it in train_step, which then names the argument `optimizer`: docs/plugins.md, Optimizers",
    )


def _check(kind: Any, flat: Mapping[str, Any]) -> None:
    """Let torch's own class check the values as they are at the first step."""
    if not isinstance(kind, str):
        return
    zero = torch.zeros((), dtype=torch.float64)
    plain = {n: float(v(zero)) if callable(v) else v for n, v in flat.items()}
    try:
        getattr(torch.optim, kind)([torch.zeros(1)], **_folded(plain))
    except (ValueError, TypeError) as error:
        raise UserError(f"optimizer: {kind}: {error}") from error


def _stack(values: Sequence[Mapping[str, Any]], device: torch.device) -> Settings:
    followers, flags = {}, {}
    for name, first in values[0].items():
        column = [own[name] for own in values]
        if all(_is_number(value) or callable(value) for value in column):
            followers[name] = Follower(column, device)
        elif any(value != first for value in column):
            raise UserError(f"optimizer: the trials of one block differ in '{name}': only numbers may")
        else:
            flags[name] = first
    zero = frozenset(name for name, own in followers.items() if not own and not own.now.any())
    return Settings(followers, flags, zero)


def _folded(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with their pairs put together again."""
    folded: dict[str, Any] = {}
    for name, value in flat.items():
        base, is_part, _ = name.partition("/")
        folded[base] = (*folded.get(base, ()), value) if is_part else value
    return folded


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _form(value: Any) -> tuple[Any, ...]:
    """Return what schedules must have in common to be evaluated as one; the last entry is the unit."""
    if isinstance(value, Schedule):
        return (value.formula, *((name, _form(part)) for name, part in value.values), value.unit)
    if isinstance(value, tuple):
        return ("parts", *(_form(part) for part in value))
    return (value, "step") if callable(value) else ("number",)


def _stacked(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Any:
    """Return schedules of one form as a function of the step, tuples as tuples, numbers as ``[T]``."""
    first = values[0]
    if isinstance(first, Schedule):
        inner = {name: _stacked([dict(own.values)[name] for own in values], dtype, device) for name, _ in first.values}
        return lambda at: first.formula(at, **inner)
    if isinstance(first, tuple):
        return tuple(_stacked(column, dtype, device) for column in zip(*values, strict=True))
    if callable(first):
        return first
    return torch.tensor([float(value) for value in values], dtype=dtype, device=device)
