"""What happens between the gradients of a step and the parameters of the next, for every trial by itself.

In this order: micro-batches are added up, fixed entries lose their gradients, gradients are clipped, the optimizer says
what to add, the plugin looks at it, parameters move, their average follows. All of it lies within the captured step.
Axes: T trial (lane) of the block, P entry of a trial's row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import nn

from xfw.engine.manual import Manual, is_manual
from xfw.engine.network import Layout, Network
from xfw.engine.optimizer import ArenaOptimizer
from xfw.engine.settings import Follower, exact_dtype
from xfw.errors import UserError, did_you_mean
from xfw.experiment import Optimizer
from xfw.schedules import Schedule

__all__ = ["AVERAGE", "Update", "Updating"]

AVERAGE = "average"
"""The snapshot that holds the moving average of the parameters."""

EPSILON = 1e-6
"""What ``torch.nn.utils.clip_grad_norm_`` adds to a norm before it divides."""


@attrs.frozen(eq=False)
class Updating:
    """An update under way, as ``[T, …]`` tensors: parameters before it, gradients as the optimizer saw them.

    ``changes`` is what is going to be added to the parameters, and may be changed in place. ``kept`` holds what the
    optimizer keeps, by its name there (``"momentum_buffer"``, ``"exp_avg"``), as it is after the update.
    """

    parameters: Mapping[str, torch.Tensor]
    gradients: Mapping[str, torch.Tensor]
    changes: Mapping[str, torch.Tensor]
    kept: Mapping[str, Mapping[str, torch.Tensor]]
    _numbers: Callable[[str], Mapping[str, torch.Tensor]]

    def numbers(self, parameter: str) -> Mapping[str, torch.Tensor]:
        """Return the optimizer's numbers for a parameter (``"lr"``, ``"betas/0"``), each ``[T]`` float64."""
        return self._numbers(parameter)


class Update:
    """The update of a block: its optimizer (if any), schedules, clipping, mask and average.

    ``clock_2`` counts the updates and the passes before the present one.
    """

    def __init__(
        self,
        network: Network,
        optimizer_of: Callable[[int, nn.Module], Any],
        scalars: Sequence[Mapping[str, float | Schedule]],
    ) -> None:
        """Take what returns the optimizer for a trial's model, and each trial's schedules of buffers by their names."""
        chosen = [optimizer_of(lane, model) for lane, model in enumerate(network.models)]
        self.manual = Manual(network.models, chosen, optimizer_of) if is_manual(chosen[0]) else None
        specs: list[Optimizer] = [spec for spec in chosen if spec is not None and self.manual is None]
        if len(specs) not in (0, len(chosen)):
            raise UserError("build_optimizer: some trials of one block have an optimizer, and some have none")
        arenas = network.arena_TP, network.gradients_TP
        self.optimizer = optimizer = ArenaOptimizer(specs, *arenas, network.groups) if specs else None
        self.network = network
        self.clock_2 = torch.zeros(2, dtype=exact_dtype(network.device), device=network.device)
        self.scalars = _scalars(network, scalars)
        self.observe: Callable[[Updating], None] | None = None
        self.values: dict[str, torch.Tensor] = {}
        self.snapshots: dict[str, torch.Tensor] = {}
        self.accumulate = specs[0].accumulate if specs else 1
        if any(spec.accumulate != self.accumulate for spec in specs) or self.accumulate < 1:
            raise UserError("optimizer: accumulate is a whole number from 1, equal for the trials of a block")
        self._largest_norm, self._largest, self._average = (
            Follower([float("inf") if value is None else value for value in column], network.device)
            if any(value is not None for value in column)
            else None
            for column in ([getattr(spec, n) for spec in specs] for n in ("clip_norm", "clip_value", "average"))
        )
        self.state: dict[str, torch.Tensor] = {} if optimizer is None else optimizer.state
        if optimizer is not None and self.accumulate > 1:
            self.state["accumulated"] = torch.zeros_like(self._gradients())
        if self._average is not None:
            self.state["averaged"] = torch.zeros(network.lanes, dtype=torch.int64, device=network.device)
            self.snapshots[AVERAGE] = network.arena_TP.clone()

    def _gradients(self) -> torch.Tensor:
        assert self.optimizer is not None
        return self.network.gradients_TP[:, : self.optimizer.width]

    # --- schedules ---------------------------------------------------------------------------------------

    def begin(self, updates: int, passes: int) -> None:
        """Set the clock."""
        self.clock_2[0].fill_(updates)  # to assign a number would wait for the device
        self.clock_2[1].fill_(passes)
        self.follow()

    def follow(self) -> None:
        """Take the values that the schedules have now."""
        for name, scalar in self.scalars.items():
            scalar.follow(self.clock_2)
            buffer = self.network.buffers[name]
            buffer.copy_(scalar.now.view(-1, *(1,) * (buffer.dim() - 1)))
        if self.optimizer is not None:
            self.optimizer.follow(self.clock_2)
        for follower in (self._largest_norm, self._largest, self._average):
            if follower is not None:
                follower.follow(self.clock_2)

    def numbers(self) -> dict[str, torch.Tensor]:
        """Return what schedules may change, each ``[T]``: buffers by name, the optimizer's numbers (``"lr"``)."""
        optimizer = {} if self.optimizer is None else self.optimizer.settings[0].followers
        return {name: follower.now for name, follower in {**optimizer, **self.scalars}.items()}

    def reset(self, where_T: torch.Tensor | None = None) -> None:
        """Forget moments and step counters, of the marked trials only where a mask is given."""
        for held in (self.optimizer, self.manual):
            if held is not None:
                held.reset(where_T)

    def capturable(self) -> bool:
        """Say whether a CUDA graph may hold the next step."""
        return self.manual is None or self.manual.capturable()

    def moving(self) -> list[torch.Tensor]:
        """Return what a step changes beside parameters and buffers."""
        watched = [] if self.observe is None else list(self.values.values())
        average = [self.snapshots[AVERAGE]] if self._average is not None else []
        manual = [] if self.manual is None else self.manual.tensors()
        return [self.clock_2, *self.state.values(), *watched, *average, *manual]

    def addresses(self) -> tuple[int, ...]:
        """Return where the tensors lie that a step reads and something outside of it may replace."""
        if self.manual is not None:
            return (self.manual.generation,)
        return tuple(tensor.data_ptr() for tensor in self.moving())

    # --- one step ----------------------------------------------------------------------------------------

    def take(self, weight: float, *, first: bool, last: bool, graded: bool = True) -> None:
        """Take the gradients of a micro-batch with its weight in the mean; update after the last one.

        A step that gave no gradients (``graded`` false) is none for the optimizer, unless others share its update.
        """
        if self.optimizer is not None and (graded or self.accumulate > 1):
            if not graded:
                self._gradients().zero_()
            if "accumulated" in self.state:
                accumulated = self.state["accumulated"]
                own = self._gradients() * weight
                accumulated.copy_(own) if first else accumulated.add_(own)
                self._gradients().copy_(accumulated)
            if last:
                self._update(self.optimizer)
        if last:
            self.clock_2[0].add_(1)

    def _update(self, optimizer: ArenaOptimizer) -> None:
        fixed_TP = self.state.get("fixed")
        if fixed_TP is not None:
            self._gradients().masked_fill_(fixed_TP, 0)
        self._clip()
        if fixed_TP is None and self.observe is None:
            optimizer.step()
        else:
            parameters_TP = self.network.arena_TP[:, : optimizer.width]
            changes_TP = torch.cat(optimizer.changes(), 1)
            if self.observe is not None:
                before = self.addresses()
                self.observe(self._seen(optimizer, changes_TP))
                if before != self.addresses():
                    hint = "write into the tensors that on_start made: block.values[name].copy_(...), .add_(...)"
                    raise UserError("before_update: replaced a tensor of block.values", hint=hint)
            moved_TP = parameters_TP + changes_TP
            parameters_TP.copy_(moved_TP if fixed_TP is None else torch.where(fixed_TP, parameters_TP, moved_TP))
            self.state["step"].add_(1)
        if self._average is not None:
            self._follow_average(self._average.now)

    def _clip(self) -> None:
        """Clip by value, then by the norm over all of a trial's gradients (as ``torch.nn.utils`` does each)."""
        gradients_TP = self._gradients()
        if self._largest is not None:
            bound_T1 = self._largest.now.to(gradients_TP.dtype).unsqueeze(1)
            gradients_TP.copy_(torch.minimum(torch.maximum(gradients_TP, -bound_T1), bound_T1))
        if self._largest_norm is not None:
            if gradients_TP.is_cuda:
                norm_T = torch.linalg.vector_norm(gradients_TP, dim=1)
            else:
                # Trial by trial: the order of additions of a joint sum depends on how many trials there are.
                norm_T = torch.stack([torch.linalg.vector_norm(row) for row in gradients_TP])
            share_T = (self._largest_norm.now.to(norm_T.dtype) / (norm_T + EPSILON)).clamp(max=1)
            gradients_TP.mul_(share_T.unsqueeze(1))

    def _follow_average(self, decay_T: torch.Tensor) -> None:
        """Move the average (``torch.optim.swa_utils.get_ema_multi_avg_fn``); the first update copies."""
        current_TP = self.network.arena_TP
        average_TP, count_T = self.snapshots[AVERAGE], self.state["averaged"]
        share_T = torch.where(count_T == 0, 1.0, 1 - decay_T).to(current_TP.dtype)
        average_TP.add_(share_T.unsqueeze(1) * (current_TP - average_TP))
        count_T.add_(1)

    def _seen(self, optimizer: ArenaOptimizer, changes_TP: torch.Tensor) -> Updating:
        layout = self.network.layout
        trained = Layout(tuple(s for s in layout.slots if s.name in self.network.trained), optimizer.width)

        def numbers(parameter: str) -> Mapping[str, torch.Tensor]:
            return {n: f.now for n, f in optimizer.settings_at(layout.slot(parameter).offset).followers.items()}

        return Updating(
            parameters=trained.views(self.network.arena_TP),
            gradients=trained.views(self.network.gradients_TP),
            changes=trained.views(changes_TP),
            kept={name: trained.views(arena) for name, arena in optimizer.entries.items()},
            numbers=numbers,
        )

    # --- fixed entries -----------------------------------------------------------------------------------

    def fix(self, parameter: str, fixed: torch.Tensor) -> None:
        """Hold entries of a parameter (true in ``fixed``, of its shape, for all trials ``[T, …]``) where they are."""
        if self.optimizer is None or parameter not in self.network.trained:
            known = sorted(self.network.trained)
            raise UserError(f"fix: no trained parameter '{parameter}'", hint=did_you_mean(parameter, known))
        if "fixed" not in self.state:
            self.state["fixed"] = torch.zeros_like(self._gradients(), dtype=torch.bool)
        slot = self.network.layout.slot(parameter)
        view = self.state["fixed"][:, slot.offset : slot.offset + slot.size]
        view.copy_(fixed.expand(self.network.lanes, *slot.shape).reshape(self.network.lanes, slot.size))

    def saved(self) -> dict[str, torch.Tensor]:
        """Return the state that a commit keeps."""
        return self.state if self.manual is None else self.manual.saved()

    def load(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Put a committed state back."""
        if self.manual is not None:
            self.manual.load(saved)
            return
        if "fixed" in saved:
            self.state["fixed"] = torch.zeros_like(self._gradients(), dtype=torch.bool)
        for name, value in saved.items():
            if tuple(self.state[name].shape) != tuple(value.shape):
                found, expected = tuple(value.shape), tuple(self.state[name].shape)
                raise UserError(f"state: 'optimizer/{name}' has shape {found}, expected {expected}")
            self.state[name].copy_(value)


def _scalars(network: Network, scalars: Sequence[Mapping[str, Any]]) -> dict[str, Follower]:
    """Return the followers of scheduled buffers."""
    followers = {}
    for name in scalars[0] if scalars else ():
        if any(name not in own or len(own) != len(scalars[0]) for own in scalars):
            raise UserError("build_schedules: the trials of one block have schedules of different names")
        if name not in network.buffers or network.buffers[name][0].numel() != 1:
            hint = did_you_mean(name, network.buffers) or "register a buffer of one number, which train_step reads"
            raise UserError(f"build_schedules: the model has no buffer '{name}' of one number", hint=hint)
        followers[name] = Follower([own[name] for own in scalars], network.device)
    return followers
