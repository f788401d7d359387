"""Update the trials of a block, each group of parameters of all trials at once, every trial with values of its own.

The moments of all trials lie in ``[T, P]`` arenas. Formulas (``formulas``, or the author's) are written for one trial
and run under ``vmap``. Two faster ways lead to the same update: on a CPU the fused Adam of ``torch.optim``, on CUDA one
kernel of the same formula. Which way is taken depends on no neighbour. Axes: T trial, P entry of a trial's row.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import vmap

from xfw.engine.formulas import FORMULAS, Formula
from xfw.engine.settings import Settings, mixes, settings_of
from xfw.experiment import Optimizer

__all__ = ["ArenaOptimizer"]


class ArenaOptimizer:
    """The optimizer of all trials of a block; ``state`` holds its arenas and counters by name."""

    def __init__(
        self,
        specs: Sequence[Optimizer],
        parameters_TP: torch.Tensor,
        gradients_TP: torch.Tensor,
        groups: Sequence[slice] | None = None,
    ) -> None:
        """``groups`` are the columns of the parameters without a group of their own, and of those in each group.

        Columns that belong to none are frozen: neither gradients nor decay change them.
        """
        columns = groups if groups is not None else [slice(0, parameters_TP.shape[1])]
        self.width, self.device = max(part.stop for part in columns), parameters_TP.device
        self.parameters_TP, self.gradients_TP = parameters_TP, gradients_TP
        self.kind, every = settings_of(specs, len(columns), self.device)
        taken = [place for place, part in enumerate(columns) if part.stop > part.start]
        self.columns, self.settings = [columns[place] for place in taken], [every[place] for place in taken]
        trials = len(specs)
        self.state = {"step": torch.zeros(trials, dtype=torch.float32, device=self.device)}
        kept = _kept(self.kind, self.settings[0])
        self.entries = {name: parameters_TP.new_zeros(trials, self.width) for name in kept.entries}
        count = self.settings[0].exact
        self.numbers = {n: torch.zeros(trials, len(taken), dtype=count, device=self.device) for n in kept.numbers}
        self.state |= self.entries | self.numbers
        self._update = self._way()

    def _way(self) -> Callable[[], None]:
        flags = self.settings[0].flags
        if self.kind in ("Adam", "AdamW") and not flags["amsgrad"] and not flags["maximize"]:
            if self.device.type == "cpu":
                fused = getattr(torch.optim, self.kind)
                return _Rows(self, lambda groups: fused(groups, fused=True)).step
            if self.device.type == "cuda" and importlib.util.find_spec("triton") is not None:
                return self._kernel
        if isinstance(self.kind, type):
            own, kind = self.settings[0], self.kind
            return _Rows(self, lambda groups: kind(groups, **own.of(0), **own.flags)).step
        return self._add

    def parts(self, tensor_TP: torch.Tensor) -> list[torch.Tensor]:
        """Return the columns of every group, as views."""
        return [tensor_TP[:, part] for part in self.columns]

    def settings_at(self, column: int) -> Settings:
        """Return the values of the group that a column belongs to."""
        return next(own for own, part in zip(self.settings, self.columns, strict=True) if column < part.stop)

    def follow(self, clock_2: torch.Tensor) -> None:
        """Take the scheduled values at a clock: the number of updates, and of passes, before the present one."""
        for settings in self.settings:
            for follower in settings.scheduled:
                follower.follow(clock_2)

    def step(self) -> None:
        """Update all rows from the gradient arena."""
        self._update()
        self.state["step"].add_(1)

    def _add(self) -> None:
        for own_TP, change_TP in zip(self.parts(self.parameters_TP), self.changes(), strict=True):
            own_TP.add_(change_TP)

    def changes(self) -> list[torch.Tensor]:
        """Move the moments; return what the update adds to the columns of every group, each ``[T, P]``."""
        formula = FORMULAS[self.kind] if isinstance(self.kind, str) else self.kind
        count_T = self.state["step"].to(self.settings[0].exact) + 1
        changes = []
        for place, settings in enumerate(self.settings):
            entries = {name: self.parts(arena)[place] for name, arena in self.entries.items()}
            numbers = {name: number[:, place] for name, number in self.numbers.items()}
            rows = self.parts(self.parameters_TP)[place], self.parts(self.gradients_TP)[place]
            changes.append(_changed(formula, settings, *rows, count_T, {**entries, **numbers}))
        return changes

    def reset(self, where_T: torch.Tensor | None = None) -> None:
        """Forget moments and step counters, of the marked trials only where a mask is given."""
        for name, tensor in self.state.items():
            if name in ("fixed", "averaged"):
                continue
            if where_T is None:
                tensor.zero_()
            else:
                tensor.masked_fill_(where_T.view(-1, *(1,) * (tensor.dim() - 1)), 0)

    def _kernel(self) -> None:
        from xfw.engine.adam_kernel import update

        arenas = (self.parameters_TP, self.gradients_TP, self.state["exp_avg"], self.state["exp_avg_sq"])
        for settings, p, g, first, second in zip(self.settings, *map(self.parts, arenas), strict=True):
            decoupled = self.kind == "AdamW" or settings.flags["decoupled_weight_decay"]
            update(p, g, first, second, self.state["step"], settings.followers, decoupled=decoupled)


class _Keep:
    """What a formula keeps of one trial; what it asks for and is not there yet begins with zeros."""

    def __init__(self, like: torch.Tensor, count: torch.Tensor, held: dict[str, torch.Tensor]) -> None:
        self._like, self._count, self.held = like, count, held
        self.entries: list[str] = []
        self.numbers: list[str] = []

    def entry(self, name: str) -> torch.Tensor:
        if name not in self.held:
            self.held[name] = torch.zeros_like(self._like)
            self.entries.append(name)
        return self.held[name]

    def number(self, name: str) -> torch.Tensor:
        if name not in self.held:
            self.held[name] = torch.zeros_like(self._count)
            self.numbers.append(name)
        return self.held[name]


def _changed(
    formula: Formula,
    settings: Settings,
    parameters_TP: torch.Tensor,
    gradients_TP: torch.Tensor,
    count_T: torch.Tensor,
    held: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Return what a formula adds to one group's columns; what it keeps is written in place."""

    def trial(p: Any, g: Any, count: Any, kept: Any, now: Any) -> torch.Tensor:
        return formula(p, g, _Keep(p, count, kept), count, **settings.arguments(now)).to(p.dtype)

    changes: torch.Tensor = vmap(trial)(parameters_TP, gradients_TP, count_T, dict(held), settings.now())
    return changes


class _Rows:
    """An optimizer of ``torch.optim``'s kind: each trial's columns of a group are one parameter of it."""

    def __init__(self, owner: ArenaOptimizer, make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]) -> None:
        trials = owner.state["step"].shape[0]
        self._owner = owner
        self._counts_GT = torch.zeros(len(owner.settings), trials, device=owner.device)
        self._states: list[tuple[nn.Parameter, dict[str, torch.Tensor]]] = []
        rows: dict[tuple[Any, ...], list[nn.Parameter]] = {}
        self._settings: dict[tuple[Any, ...], tuple[Settings, int]] = {}
        for (place, settings), lane in itertools.product(enumerate(owner.settings), range(trials)):
            parameter = nn.Parameter(owner.parts(owner.parameters_TP)[place][lane], requires_grad=False)
            parameter.grad = owner.parts(owner.gradients_TP)[place][lane]
            key = (place, *settings.given(lane))
            rows.setdefault(key, []).append(parameter)
            self._settings[key] = (settings, lane)
            state = {name: owner.parts(arena)[place][lane] for name, arena in owner.entries.items()}
            state |= {name: number[lane, place] for name, number in owner.numbers.items()}
            self._states.append((parameter, state | {"step": self._counts_GT[place, lane]}))
        groups = [
            {"params": rows[key], **settings.of(lane), **settings.flags}
            for key, (settings, lane) in self._settings.items()
        ]
        self._torch = make(groups)

    def step(self) -> None:
        """Update parameters and state in place."""
        self._counts_GT.copy_(self._owner.state["step"])
        for group, (settings, lane) in zip(self._torch.param_groups, self._settings.values(), strict=True):
            if settings.scheduled:
                group |= settings.of(lane)
        for parameter, state in self._states:
            self._torch.state[parameter] = dict(state)
        self._torch.step()
        for parameter, state in self._states:
            for name, value in self._torch.state[parameter].items():
                if name != "step" and value is not state[name]:
                    state[name].copy_(torch.as_tensor(value))


def _kept(kind: Any, settings: Settings) -> _Keep:
    """Try an optimizer on six entries; return a keep that knows the names of what it keeps.

    UserError where it does something else to six entries than to each of them alone, or where what it keeps does not
    begin with zeros: then it cannot run on an arena.
    """
    start, count = torch.linspace(-1, 1, 6, dtype=torch.float64), torch.ones((), dtype=torch.float64)
    keep = _Keep(start, count, {})
    singles = torch.split(start, 1)
    if isinstance(kind, type):
        try:
            whole = _walk_class(kind, settings, start.view(2, 3), keep, prefilled=False)
            pieces = [_walk_class(kind, settings, part, keep, prefilled=True) for part in singles]
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise mixes(kind.__name__) from error
    else:
        whole = _walk(kind, settings, start, keep)
        pieces = [_walk(kind, settings, part, _Keep(part, count, {})) for part in singles]
    if not torch.allclose(whole.flatten(), torch.cat(pieces), rtol=1e-9, atol=1e-12):
        raise mixes(kind if isinstance(kind, str) else kind.__name__)
    return keep


def _gradient(at: torch.Tensor, step: int) -> torch.Tensor:
    return (3 * at + step).sin()


def _walk(kind: Any, settings: Settings, at: torch.Tensor, keep: _Keep) -> torch.Tensor:
    """Return where three updates by a formula lead."""
    formula = FORMULAS[kind] if isinstance(kind, str) else kind
    now = {name: value[0].cpu().double() for name, value in settings.now().items()}
    for step in range(1, 4):
        count = torch.tensor(float(step), dtype=torch.float64)
        at = at + formula(at, _gradient(at, step), keep, count, **settings.arguments(now))
    return at


def _walk_class(kind: Any, settings: Settings, at: torch.Tensor, keep: _Keep, *, prefilled: bool) -> torch.Tensor:
    """Return where three updates by a class of optimizers lead, whose state it makes itself or finds ``prefilled``."""
    parameter = nn.Parameter(at.clone())
    optimizer = kind([parameter], **settings.of(0), **settings.flags)
    if prefilled:
        state = {name: torch.zeros_like(at) for name in keep.entries}
        optimizer.state[parameter] = state | {name: torch.zeros(()) for name in (*keep.numbers, "step")}
    for step in range(1, 4):
        parameter.grad = _gradient(parameter.detach(), step)
        optimizer.step()
    for name, value in optimizer.state[parameter].items():
        if isinstance(value, torch.Tensor) and value.shape == at.shape:
            keep.entries += [name] * (name not in keep.entries)
        elif name != "step":
            keep.numbers += [name] * (name not in keep.numbers)
    return parameter.detach()
