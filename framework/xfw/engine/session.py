"""Run one block from its plan to its end: build, train, observe, commit, resume.

Axes: T trial (lane) of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from xfw.engine.assembly import assemble, make_trainer
from xfw.engine.batches import steps_of
from xfw.engine.block import Block
from xfw.engine.recorder import Recorder
from xfw.engine.step import OBSERVED
from xfw.errors import UserError
from xfw.experiment import Stage, Stream, stages_of
from xfw.store.commit import Commit

if TYPE_CHECKING:
    from xfw.experiment import Experiment
    from xfw.manifest import BlockPlan, Manifest
    from xfw.store.commit import Committer, Restored
    from xfw.store.results import TrialSource

__all__ = ["Control", "Interrupted", "Session", "run_block"]


HEADLINE = 2
"""Variables of the first stream whose newest values the live table shows."""


class Interrupted(Exception):  # noqa: N818 - the way a block stops on request, not an error
    """Say that the block was asked to stop; everything it had is committed."""


class Control(Protocol):
    """What the block process tells the engine and is told by it."""

    def stop_requested(self) -> bool:
        """Return whether the block shall commit and stop."""

    def note(self, text: str) -> None:
        """Show a line to the user, once."""

    def progress(
        self,
        done_steps: int,
        total_steps: int,
        epoch: int,
        epochs: int,
        headline: Mapping[str, Sequence[float]],
        stage: str = "",
    ) -> None:
        """Take note of how far the block is; in a named ``stage``, steps and epochs are its cells."""


def run_block(
    manifest: Manifest,
    plan: BlockPlan,
    experiment: Experiment,
    *,
    committer: Committer,
    restored: Restored | None,
    source: Sequence[TrialSource] | None,
    control: Control,
    log: Callable[[str], None],
    live: Path | None = None,
    stored: Callable[[str], list[TrialSource]] | None = None,
    folder: Path | None = None,
) -> list[str]:
    """Take a block through its stages, or go on from its last commit; return one status per member.

    ``folder`` is the run's, ``live`` the folder of files that the plugin shows while it runs; ``stored`` reads the
    block's trials of another run. Raises Interrupted after a commit when ``control`` asks to stop. Exceptions of the
    plugin pass through.
    """
    session = Session(manifest, plan, experiment, committer, control, log, live, stored, folder)
    if restored is None:
        session.start(source)
    else:
        session.load(restored)
    return session.run()


class Session:
    """A block in the process that trains it: its network, data, trainer and position."""

    def __init__(
        self,
        manifest: Manifest,
        plan: BlockPlan,
        experiment: Experiment,
        committer: Committer,
        control: Control,
        log: Callable[[str], None],
        live: Path | None = None,
        stored: Callable[[str], list[TrialSource]] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.hooks, self.committer, self.control, self.log = experiment.hooks, committer, control, log
        self.plan = plan
        self.parts = parts = assemble(manifest, plan, experiment)
        self.configs, self.epochs, self.declared = parts.configs, parts.epochs, parts.records
        self.stages = chosen_stages(self.hooks, self.configs, manifest.stages)
        self.trainer = make_trainer(parts, plan.strategy, self._note)
        self.recorder = Recorder(self.declared, len(plan.members), parts.network.device)
        self.debug = "--debug" in manifest.command
        conditions = len(manifest.conditions)
        self.block = Block(
            parts.lanes,
            self.configs,
            conditions,
            self.trainer,
            self.recorder,
            self._note,
            live,
            diary=log,
            stored=stored,
            folder=folder,
        )
        if self.hooks.before_update.get_hookimpls():
            self.trainer.update.observe = lambda update: self.hooks.before_update(block=self.block, update=update)
        self.block.epochs, self.block.stage = len(self.epochs), self.stages[0].name
        self.position = {"stage": 0, "cell": 0, "epoch": 0, "step": 0, "first_epoch": 0, "done_epochs": 0}
        self._stored_steps, self._rows_read = 0, 0
        self._meters: dict[str, np.ndarray] = {}
        self._diverged: set[int] = set()
        self._headline: dict[str, Sequence[float]] = {}

    def _note(self, text: str) -> None:
        self.log(text)
        self.control.note(text)

    # --- state -------------------------------------------------------------------------------------------

    def start(self, source: Sequence[TrialSource] | None) -> None:
        """Let the plugin prepare fresh trials."""
        lanes = None
        if source is not None:
            lanes = [*source, *([source[0]] * (self.block.size - len(source)))]
        self.hooks.on_start(block=self.block, source=lanes)
        self.position |= {"first_epoch": self.block.first_epoch, "done_epochs": self.block.done_epochs}
        self.position["epoch"] = min(self.block.done_epochs, len(self.epochs))
        self._tell_position()

    def load(self, restored: Restored) -> None:
        """Put a commit's state back."""
        network, block = self.trainer.network, self.block
        saved = dict(restored.state)
        _fill(network.arena_TP, saved.pop("parameters"), "parameters")
        optimizer: dict[str, torch.Tensor] = {}
        for name, array in saved.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                optimizer[rest] = torch.as_tensor(array)
            elif kind == "buffers":
                _fill(network.buffers[rest], array, name)
            elif kind == "snapshots":
                block.snapshots[rest] = torch.tensor(array, device=block.device)
            elif kind == "values":
                block.values[rest] = torch.tensor(array, device=block.device)
        if optimizer:
            self.trainer.update.load(optimizer)
        self.position |= restored.position
        self._tell_position()
        self._stored_steps = self.position["step"]
        self._rows_read = restored.rows.get(self.declared.streams[0].name, 0) if self.declared.streams else 0
        _fill(block.finite, saved["finite"], "finite")
        self._meters = {name.removeprefix("epoch/"): a for name, a in saved.items() if name.startswith("epoch/")}
        self.trainer.used = [way for way in str(restored.layout.get("lowering", "")).split(", ") if way]

    def _tell_position(self) -> None:
        """Let the block say where it is; between two epochs it is in the one before."""
        block, position = self.block, self.position
        block.first_epoch, block.done_epochs = position["first_epoch"], position["done_epochs"]
        block.epoch = max(0, position["epoch"] - (position["step"] == 0))
        block.stage = self.stages[position["stage"]].name

    def _state(self, *, final: bool) -> dict[str, np.ndarray]:
        """Return everything that a resume needs; at the end, what a later run may start from."""
        network, block = self.trainer.network, self.block
        tensors: dict[str, torch.Tensor] = {"parameters": network.arena_TP, "finite": block.finite.to(torch.int8)}
        if not final:
            tensors |= {f"optimizer/{name}": value for name, value in self.trainer.update.saved().items()}
        tensors |= {f"buffers/{name}": value for name, value in network.buffers.items()}
        tensors |= {f"snapshots/{name}": value for name, value in block.snapshots.items()}
        tensors |= {f"values/{name}": value for name, value in block.values.items()}
        if self.position["step"]:
            tensors |= {f"epoch/{name}": value for name, value in self.trainer.meters().items()}
        return {name: value.detach().cpu().numpy() for name, value in tensors.items()}

    def _nbytes(self) -> int:
        """Return the size of the tensors that a commit writes."""
        network, block = self.trainer.network, self.block
        held = [network.arena_TP, *network.buffers.values(), *block.snapshots.values(), *block.values.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in [*held, *self.trainer.update.state.values()])

    def _commit(self, *, final: bool = False, status: Sequence[str] | None = None) -> None:
        self._store_steps(self.position["step"])
        self._read_back()
        records, arrays = self.recorder.take()
        layout = {
            "parameters": self.trainer.network.layout.describe(),
            "width": self.plan.width,
            "strategy": self.plan.strategy,
            "lowering": ", ".join(self.trainer.used),
        }
        self.committer.commit(
            Commit(
                records=records,
                arrays=arrays,
                state=self._state(final=final),
                position=dict(self.position),
                layout=layout,
                status=status or ["running"] * len(self.plan.members),
                final=final,
            )
        )

    # --- the loop ----------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Go through the stages from the current position to the end."""
        self.committer.expect(self._nbytes())
        self._count_steps()
        for number in range(self.position["stage"], len(self.stages)):
            stage = self.stages[number]
            self.block.stage = stage.name
            if stage.cells is None:
                self._train()
            else:
                self._compute(stage, stage.cells)
            if number + 1 < len(self.stages):
                self.position |= {"stage": number + 1, "cell": 0}
                self._commit()
        status = self._final_status()
        self._commit(final=True, status=status)
        return status

    def _compute(self, stage: Stage, cells: int) -> None:
        """Compute the cells of a stage that does not train."""
        for cell in range(self.position["cell"], cells):
            self._yield_if_asked()
            self.hooks.run_cell(block=self.block, stage=stage.name, cell=cell)
            self.position["cell"] = cell + 1
            self._read_back()
            self.control.progress(cell + 1, cells, cell + 1, cells, self._headline, stage.name)
        self._yield_if_asked()

    def _train(self) -> None:
        """Go through the epochs."""
        for number in range(self.position["epoch"], len(self.epochs)):
            if not self.position["step"]:  # within an epoch its meters have to be put back first
                self._yield_if_asked()
            self._epoch(number)
            self.position |= {"epoch": number + 1, "step": 0}
            self._read_back()
        self._yield_if_asked()
        self.hooks.on_end(block=self.block)

    def _epoch(self, number: int) -> None:
        first = self.position["step"]
        self.block.epoch = number
        steps = self.trainer.begin(self.epochs[number], self.block.first_epoch + number, first, self.epochs[:number])
        self._stored_steps = first
        if first == 0:
            self.hooks.on_epoch_start(block=self.block)
        else:
            self.trainer.restore_meters(self._meters)
        for step in range(first, steps):
            if step:
                self.position["step"] = step
                self._yield_if_asked()
            self.trainer.step(step)
            self.done_steps += 1
            self.control.progress(self.done_steps, self.total_steps, number, len(self.epochs), self._headline)
        self._store_steps(steps)
        means = self.trainer.means()
        if "loss" in self.trainer.meters():
            self.block.finite = torch.isfinite(self.trainer.meters()["loss"]).all(0)
        self.hooks.on_epoch_end(block=self.block, metrics=means)

    def _yield_if_asked(self) -> None:
        if self.control.stop_requested():
            self._commit()
            raise Interrupted
        if self.committer.due():
            self._commit()

    def _count_steps(self) -> None:
        counts = [steps_of(epoch, len(self.trainer.datasets[epoch.dataset])) for epoch in self.epochs]
        self.total_steps = sum(counts)
        self.done_steps = sum(counts[: self.position["epoch"]]) + self.position["step"]

    def _store_steps(self, upto: int) -> None:
        """Hand the rows of step streams up to a step of this epoch to the recorder."""
        if upto <= self._stored_steps:
            return
        taken = {
            name.removeprefix(OBSERVED): meter[self._stored_steps : upto]
            for name, meter in self.trainer.meters().items()
        }
        for stream in self.declared.streams:
            if stream.each == "step":
                self.recorder.rows(stream.name, taken)
        self._stored_steps = upto

    def _read_back(self) -> None:
        """Move new records to the host, once, and write the log's lines from them."""
        new, (finite,) = self.recorder.flush(self.block.finite)
        self._warn_of_divergence(finite)
        stream = self.declared.streams[0] if self.declared.streams else None
        if stream is None or stream.name not in new:
            return
        columns = {name: np.concatenate(pieces) for name, pieces in new[stream.name].items()}
        plain = [v for v in stream.variables if not v.axes and v.dtype != "text" and v.name != stream.coordinate]
        self._headline = {v.name: columns[v.name][-1].tolist() for v in plain[:HEADLINE]}
        if stream.each == "record" and (lines := self._lines(stream, columns)):
            self.log("\n".join(lines))

    def _lines(self, stream: Stream, columns: Mapping[str, np.ndarray]) -> list[str]:
        """Return the log's lines for new records, ``[rows, T, …]``."""
        last = self.block.first_epoch + len(self.epochs)
        lines = []
        for index in range(len(next(iter(columns.values()), ()))):
            coordinate = stream.first + self._rows_read
            self._rows_read += 1
            for lane, member in enumerate(self.plan.members):
                row = {name: column[index, lane] for name, column in columns.items()}
                row.setdefault(stream.coordinate, coordinate)
                said = {"config": self.configs[lane], "trial": member.trial, "row": row}
                text = self.hooks.describe_record(**said, last=last, debug=self.debug)
                lines.append(" ".join(f"{name}={value}" for name, value in row.items()) if text is None else text)
        return [line for line in lines if line]

    def _warn_of_divergence(self, finite_T: np.ndarray) -> None:
        for lane, member in enumerate(self.plan.members):
            if not finite_T[lane] and lane not in self._diverged:
                self._diverged.add(lane)
                self.block.warn(
                    f"condition {member.condition}, trial {member.trial}: loss is not finite "
                    f"(first seen in epoch {self.block.first_epoch + self.block.epoch + 1}{self._first_wrong(lane)})"
                )

    def _first_wrong(self, lane: int) -> str:
        """Name the first step of this epoch whose loss is not finite; nothing where a resume no longer knows it."""
        loss_ST = self.trainer.meters().get("loss")
        wrong = [] if loss_ST is None else torch.nonzero(~torch.isfinite(loss_ST[:, lane])).flatten().tolist()
        return f", step {wrong[0]}" if wrong else ""

    def _final_status(self) -> list[str]:
        finite = torch.isfinite(self.trainer.network.arena_TP).all(1).tolist()
        return ["done" if finite[lane] else "diverged" for lane in range(len(self.plan.members))]


def chosen_stages(hooks: Any, configs: Sequence[Any], names: Sequence[str]) -> list[Stage]:
    """Return the stages of that name; UserError where the trials of a block differ in them."""
    declared = {name: [] for name in names}  # type: dict[str, list[Stage]]
    for config in configs:
        for stage in stages_of(hooks, config):
            if stage.name in declared:
                declared[stage.name].append(stage)
    for name, found in declared.items():
        if len(set(found)) != 1 or len(found) != len(configs):
            raise UserError(f"define_stages: the trials of one block differ in the stage '{name}'")
    return [found[0] for found in declared.values()]


def _fill(target: torch.Tensor, array: np.ndarray, name: str) -> None:
    if tuple(target.shape) != tuple(array.shape):
        raise UserError(f"state: '{name}' has shape {tuple(array.shape)}, expected {tuple(target.shape)}")
    target.copy_(torch.as_tensor(array))
