"""The block as plugins see it: stacked parameters by name, per-trial values, masks, snapshots, records.

Axes: T trial (lane) of the block, idle lanes included, P entry of a trial's row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from xfw.engine.network import Slot
from xfw.engine.recorder import Recorder, Value
from xfw.engine.settings import exact_dtype
from xfw.engine.step import OBSERVED
from xfw.engine.trainer import Trainer
from xfw.errors import UserError, did_you_mean
from xfw.experiment import Dataset
from xfw.manifest import Member
from xfw.seeds import generator
from xfw.store.checkpoints import FOLDER, write_checkpoint
from xfw.store.sources import TrialSource

__all__ = ["Block"]

Index = tuple[int | slice, ...]


class Block:
    """All trials that train together; every operation acts on all of them, or where a mask ``[T]`` is true.

    ``members`` and ``configs`` have ``size`` entries, one per lane. Idle lanes, which only pad a block to its
    planned width, repeat the first trial and are never stored. ``values`` holds per-trial tensors ``[T, …]`` of
    the plugin's own; they are committed and resumed like parameters. ``conditions`` counts those of the run.
    """

    def __init__(
        self,
        members: Sequence[Member],
        configs: Sequence[Any],
        conditions: int,
        trainer: Trainer,
        recorder: Recorder,
        log: Callable[[str], None],
        live: Path | None = None,
        diary: Callable[[str], None] = lambda _text: None,
        stored: Callable[[str], list[TrialSource]] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.members, self.configs, self.size = tuple(members), tuple(configs), len(members)
        self.conditions = conditions
        self.trainer, self._recorder, self._log, self._diary = trainer, recorder, log, diary
        self.device, self.dtype = trainer.device, trainer.network.dtype
        self.parameters: Mapping[str, torch.Tensor] = trainer.network.parameters
        self.buffers: Mapping[str, torch.Tensor] = trainer.network.buffers
        self.data: Mapping[str, Dataset] = trainer.datasets
        self.values: dict[str, torch.Tensor] = trainer.update.values
        self.snapshots: dict[str, torch.Tensor] = trainer.update.snapshots
        self.epoch, self.epochs, self.first_epoch, self.done_epochs, self.stage = 0, 0, 0, 0, ""
        self._live = live
        self._stored, self._folder = stored, folder
        self.finite = torch.ones(len(members), dtype=torch.bool, device=self.device)
        self._warned: set[str] = set()

    # --- the network -------------------------------------------------------------------------------------

    def snapshot(self, name: str, where: torch.Tensor | None = None) -> None:
        """Keep the current parameters and buffers under ``name``, of the marked trials only where masked."""
        for path, current in self._state_of_network().items():
            kept = self.snapshots.get(f"{name}{path}")
            if kept is None:
                self.snapshots[f"{name}{path}"] = current.clone()
            else:
                _copy_where(kept, current, where)

    def restore(self, name: str, where: torch.Tensor | None = None) -> None:
        """Put a snapshot's parameters and buffers back, of the marked trials only where masked."""
        if not self.has_snapshot(name):
            raise UserError(f"restore: no snapshot '{name}'", hint=did_you_mean(name, self.snapshots))
        for path, current in self._state_of_network().items():
            if f"{name}{path}" in self.snapshots:  # a moving average has parameters only
                _copy_where(current, self.snapshots[f"{name}{path}"], where)

    def keep_best(self, name: str, value: torch.Tensor, *, lowest: bool = False) -> torch.Tensor:
        """Snapshot the trials whose ``value`` ``[T]`` is better than any before; return which, as a mask ``[T]``.

        The first value that is a number counts as better. ``block.values[name]`` holds the best so far.
        """
        if name not in self.values:
            self.values[name] = torch.full_like(value.to(exact_dtype(self.device)), torch.nan)
            self.snapshot(name)
        best = self.values[name]
        better = (value < best if lowest else value > best) | (best.isnan() & ~value.isnan())
        best.copy_(torch.where(better, value.to(best.dtype), best))
        self.snapshot(name, where=better)
        return better

    def has_snapshot(self, name: str) -> bool:
        """Tell whether a snapshot of that name exists."""
        return name in self.snapshots

    def load_snapshot(self, name: str, lane: int, weights: Mapping[str, np.ndarray]) -> None:
        """Write one trial's stored parameters into a snapshot (made from the current ones if it is new)."""
        if not self.has_snapshot(name):
            self.snapshot(name)
        views = self.trainer.network.layout.views(self.snapshots[name])
        if set(weights) != set(views):
            wrong = sorted(set(weights) ^ set(views))
            raise UserError(f"stored weights do not fit the network: {', '.join(wrong[:4])}", exit_code=2)
        for parameter, array in weights.items():
            if tuple(array.shape) != tuple(views[parameter].shape[1:]):
                raise UserError(
                    f"stored weight '{parameter}' has shape {tuple(array.shape)}, "
                    f"the network {tuple(views[parameter].shape[1:])}",
                    exit_code=2,
                )
            views[parameter][lane].copy_(torch.as_tensor(array))

    def snapshot_views(self, name: str) -> dict[str, torch.Tensor]:
        """Return a snapshot's parameters as ``[T, *shape]`` views by name."""
        return self.trainer.network.layout.views(self.snapshots[name])

    def assign(self, entries: Iterable[tuple[int, str, Index]], value: float = 0.0) -> None:
        """Set entries of parameters, each given as (lane, parameter name, index), in one operation."""
        flat = [self._flat_positions(lane, name, index) for lane, name, index in entries]
        if flat:
            positions = self.tensor(np.concatenate(flat))
            self.trainer.network.arena_TP.view(-1).index_fill_(0, positions, value)

    def tensor(self, values: Any) -> torch.Tensor:
        """Return host numbers as a tensor on the device, without waiting for the device."""
        host = torch.as_tensor(values)
        if self.device.type == "cuda":
            return host.pin_memory().to(self.device, non_blocking=True)
        return host.to(self.device)

    def fix(self, parameter: str, where: torch.Tensor) -> None:
        """Hold entries of a parameter where they are, whatever gradients, decay and moments say.

        ``where`` is true for them, of the parameter's shape or with a leading axis of trials. A later call for the same
        parameter takes the place of an earlier one. Part of the committed state.
        """
        self.trainer.update.fix(parameter, where)

    def numbers(self) -> dict[str, torch.Tensor]:
        """Return what schedules may change, as of the last update, each ``[T]``: ``"lr"``, scheduled buffers."""
        return {name: now.clone() for name, now in self.trainer.update.numbers().items()}

    def checkpoint(self, name: str, where: torch.Tensor | None = None, weights: str = "") -> list[Path | None]:
        """Write each trial's parameters and buffers as a file of its own, now; return the paths, one per member.

        With the current ones, or those of a snapshot; None for trials that are not marked. The files never change.
        """
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="xfw-run-"))
        tensors = self._on_host(weights)
        position = {"pass": str(self.first_epoch + self.epoch), "stage": self.stage}
        paths: list[Path | None] = []
        for lane, member in enumerate(self.members[: self._recorder.size]):
            about = {"condition": str(member.condition), "trial": str(member.trial), "key": member.key, **position}
            own = {path: tensor[lane].numpy() for path, tensor in tensors.items()}
            label = f"{member.condition}-{member.trial}"
            marked = where is None or bool(where[lane])
            paths.append(write_checkpoint(self._folder / FOLDER, name, label, own, about) if marked else None)
        return paths

    def reset_optimizer(self, where: torch.Tensor | None = None) -> None:
        """Forget the optimizer's moments and step counters."""
        self.trainer.update.reset(where)

    def module(self, lane: int) -> nn.Module:
        """Return one trial as an ordinary module whose tensors are views into the block."""
        return self.trainer.network.module(lane)

    def evaluate(self, dataset: str, weights: str = "") -> dict[str, torch.Tensor]:
        """Return ``evaluate_step``'s sums over a data set, each ``[T]``.

        With the current parameters, or those of a snapshot (``"average"``: their moving average).
        """
        if not weights:
            return self.trainer.evaluate(dataset)
        current = {path: tensor.clone() for path, tensor in self._state_of_network().items()}
        self.restore(weights)
        sums = self.trainer.evaluate(dataset)
        for path, tensor in self._state_of_network().items():
            tensor.copy_(current[path])
        return sums

    @property
    def steps(self) -> Mapping[str, torch.Tensor]:
        """What every step of the pass under way returned, that of ``observe_step`` included, each ``[S, T, …]``."""
        return {name.removeprefix(OBSERVED): meter for name, meter in self.trainer.meters().items()}

    # --- records and randomness --------------------------------------------------------------------------

    def record(self, stream: str, **values: Value) -> None:
        """Add one row to a stream; each value has one entry per lane. Nothing is transferred or written."""
        self._recorder.record(stream, values)

    def array(self, name: str, values: Value) -> None:
        """Set a declared array of all trials."""
        self._recorder.array(name, values)

    def ragged(self, name: str, values: Sequence[np.ndarray]) -> None:
        """Set a declared array whose shape may differ between trials, given as one array per lane."""
        self._recorder.ragged(name, values)

    def live(self, name: str) -> Path:
        """Return the path of a file that is shown while the run goes on, in the folder ``live`` of its report."""
        if Path(name).name != name:
            raise UserError(f"live: '{name}' is not a plain file name")
        if self._live is None:
            self._live = Path(tempfile.mkdtemp(prefix="xfw-live-"))
        self._live.mkdir(parents=True, exist_ok=True)
        return self._live / name

    def stored_trials(self, run: str) -> list[TrialSource]:
        """Return what another run (that a configuration key names) stored for the trials of equal index, lane by lane.

        Which condition of that run a trial belongs to is found as for ``--from``. Raises UserError where it has none.
        """
        if self._stored is None:
            raise UserError(f"run '{run}' cannot be read here: this block belongs to no folder of runs")
        found = self._stored(run)
        self.log(f"read run {found[0].run}")
        return [*found, *([found[0]] * (self.size - len(found)))]

    def generator(self, lane: int, purpose: str, counter: int) -> np.random.Generator:
        """Return keyed host draws of one trial: a function of (trial, purpose, counter) alone."""
        return generator(int(self.members[lane].key, 16), purpose, counter)

    def log(self, text: str) -> None:
        """Write a line to the block's log, without showing it."""
        self._diary(text)

    def warn(self, text: str) -> None:
        """Print a warning once."""
        if text not in self._warned:
            self._warned.add(text)
            self._log(f"warning: {text}")

    def _state_of_network(self) -> dict[str, torch.Tensor]:
        """Return arena and buffers by what is added to a snapshot's name: names of data sets, so none holds another."""
        network = self.trainer.network
        return {"": network.arena_TP, **{f".buffers.{name}": buffer for name, buffer in network.buffers.items()}}

    def _on_host(self, snapshot: str) -> dict[str, torch.Tensor]:
        """Return all trials' parameters and buffers ``[T, …]`` by the names of a state dictionary."""
        if snapshot and not self.has_snapshot(snapshot):
            raise UserError(f"checkpoint: no snapshot '{snapshot}'", hint=did_you_mean(snapshot, self.snapshots))
        current, network = self._state_of_network(), self.trainer.network
        chosen = {path: self.snapshots.get(f"{snapshot}{path}", own) for path, own in current.items()}
        host = {path: own.detach().cpu() for path, own in (chosen if snapshot else current).items()}
        tensors = network.layout.views(host.pop(""))
        tensors |= {alias: tensors[owner] for alias, owner in network.shared.items()}
        return tensors | {path.removeprefix(".buffers."): own for path, own in host.items()}

    def _flat_positions(self, lane: int, name: str, index: Index) -> np.ndarray:
        layout = self.trainer.network.layout
        slot: Slot = layout.slot(name)
        full = (*index, *(slice(None),) * (len(slot.shape) - len(index)))
        ranges = [
            np.arange(extent)[part] if isinstance(part, slice) else np.array([part])
            for part, extent in zip(full, slot.shape, strict=True)
        ]
        within = np.ravel_multi_index(np.ix_(*ranges), slot.shape).reshape(-1)
        return lane * layout.width + slot.offset + within


def _copy_where(target: torch.Tensor, source: torch.Tensor, where_T: torch.Tensor | None) -> None:
    if where_T is None:
        target.copy_(source)
    else:
        mask = where_T.view(-1, *(1,) * (target.dim() - 1))
        torch.where(mask, source, target, out=target)
