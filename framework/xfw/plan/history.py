"""Predict a block's time from what blocks of the same work took before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from xfw.config.identity import canonical
from xfw.config.resolve import condition_configs
from xfw.config.structure import unstructure
from xfw.errors import UserError
from xfw.experiment import Epoch
from xfw.plan.manifest import BlockPlan, Execution, Manifest
from xfw.plan.shape import Shape, estimated
from xfw.plugins.registry import Experiment

if TYPE_CHECKING:
    from xfw.engine.estimate import Work

__all__ = ["History", "Timed", "history_of"]

SHORTEST, FEWEST = 10.0, 200
"""Seconds and steps below which a block's time says more about its start than about its steps."""


class Timed(Protocol):
    """A finished block of an earlier run and the seconds it took."""

    @property
    def manifest(self) -> Manifest: ...
    @property
    def block(self) -> BlockPlan: ...
    @property
    def seconds(self) -> float: ...


@attrs.frozen
class Entry:
    """One measured block: its work and passes, how it ran, and the seconds it took."""

    work: Work
    epochs: tuple[Epoch, ...]
    steps: int
    width: int
    strategy: str
    manner: tuple[Any, ...]
    seconds: float


def _manner(execution: Execution) -> tuple[Any, ...]:
    """Return what of an execution decides how fast a block is."""
    return execution.device.partition(":")[0], execution.dtype, execution.allow_tf32, execution.threads


@attrs.frozen
class History:
    """Measured blocks, the newest first."""

    entries: tuple[Entry, ...] = ()

    def seconds(self, shape: Shape, width: int, execution: Execution) -> float | None:
        """Return the expected seconds of a block of this shape, or None where none like it was measured.

        The measured time of the block of nearest width (of those the one with most steps) is scaled to
        this width and number of steps as the model of ``engine/estimate`` scales.
        """
        alike = [entry for entry in self.entries if self._alike(entry, shape, execution)]
        if not alike or not shape.epochs:
            return None
        best = min(alike, key=lambda entry: (abs(math.log(entry.width / width)), -entry.steps))
        before = estimated(attrs.evolve(shape, epochs=best.epochs), best.width, execution).seconds
        return best.seconds * estimated(shape, width, execution).seconds / before

    def _alike(self, entry: Entry, shape: Shape, execution: Execution) -> bool:
        if entry.work != shape.work or entry.strategy != shape.strategy or entry.manner != _manner(execution):
            return False
        if set(entry.epochs) != set(shape.epochs):
            return False
        return entry.steps == estimated(attrs.evolve(shape, epochs=entry.epochs), 1, execution).steps


def history_of(experiment: Experiment, timed: Iterable[Timed]) -> History:
    """Return the history that finished blocks make; those of another version of the configuration are left out."""
    entries: list[Entry] = []
    configs: dict[str, Sequence[Any]] = {}
    known: dict[str, Work] = {}
    for each in timed:
        if each.seconds < SHORTEST or each.block.steps < FEWEST:
            continue
        if each.manifest.run not in configs:
            configs[each.manifest.run] = _configs(experiment, each.manifest)
        if configs[each.manifest.run]:
            entries.append(_entry(experiment, configs[each.manifest.run], each, known))
    return History(tuple(entries))


def _configs(experiment: Experiment, manifest: Manifest) -> Sequence[Any]:
    try:
        return condition_configs(manifest, experiment.config_class)
    except UserError:
        return ()


def _entry(experiment: Experiment, configs: Sequence[Any], timed: Timed, known: dict[str, Work]) -> Entry:
    block, manifest = timed.block, timed.manifest
    config = configs[block.members[0].condition]
    text = canonical(unstructure(config))
    if text not in known:
        known[text] = _work(experiment, config)
    epochs = tuple(experiment.hooks.epochs(config=config))
    manner = _manner(manifest.execution)
    return Entry(known[text], epochs, block.steps, block.width, block.strategy, manner, timed.seconds)


def _work(experiment: Experiment, config: Any) -> Work:
    import torch

    from xfw.engine.estimate import work_of

    with torch.random.fork_rng(devices=[]):
        return work_of(experiment.hooks.build_model(config=config))
