"""The contract between xfw and a paper plugin, on one page.

A plugin is a module that states ``api = 1`` and implements some of these hooks with ``@xfw.hookimpl``.
Hooks are called with keywords; an implementation names only the arguments that it uses. Kinds:
*one* (exactly one answer; required, or with a default) and *all* (observers, in registration order).
No hook module may import torch, h5py or matplotlib at its top: the hooks do, when called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import numpy as np
    import torch

    from xfw.data.sources import Sources
    from xfw.engine.batches import Resident
    from xfw.engine.block import Block
    from xfw.engine.rng import Rng
    from xfw.errors import Problem
    from xfw.experiment import Analyzer, Dataset, Epoch, Metric, Optimizer, Preset, Records, Stage
    from xfw.store.results import TrialSource
    from xfw.tracking.protocol import Tracker

API = 1
"""The hook interface this version of xfw speaks; a plugin states the one it was written for as ``api``."""

hookspec = pluggy.HookspecMarker("xfw")
hookimpl = pluggy.HookimplMarker("xfw")


# --- configuration: called by every command, must be light ----------------------------------------------


@hookspec(firstresult=True)
def configuration() -> type:
    """Return the attrs class of the experiment's configuration, made with ``xfw.key``. Kind: one, required."""


@hookspec(firstresult=True)
def presets() -> Mapping[str, Preset]:
    """Return the named configurations; ``quick`` is the one used by default. Kind: one, default none."""


@hookspec(firstresult=True)
def check_configuration(config: Any, given: frozenset[str]) -> Sequence[Problem]:
    """Return the problems that bounds of single keys cannot express. Kind: one, default none.

    ``given`` holds the key paths that the user set. A problem whose message starts with ``warning:`` does
    not stop the run: it is printed once, and only if every condition of the run has it.
    """


@hookspec(firstresult=True)
def choose_source(config: Any, stored: Sequence[Mapping[str, Any]]) -> int:
    """Return which condition of ``--from RUN`` a condition starts from, as an index into ``stored``. Kind: one.

    ``stored`` holds RUN's whole configuration of each of its conditions, nested by key. Called while the
    run is planned and again when a block starts; raises ``UserError`` where none fits. Default: RUN's only
    condition, else the one that is equal in every key that RUN swept.
    """


@hookspec(firstresult=True)
def independent_keys(config: Any) -> Sequence[str]:
    """Return the key paths whose values enter the random keys. Kind: one, default none.

    Without them equal trial indices of all conditions share their random streams (paired comparison).
    """


@hookspec(firstresult=True)
def records(config: Any) -> Records:
    """Declare the streams and arrays that the experiment stores. Kind: one, required."""


# --- one model: called once per trial or per block, in the process that trains ---------------------------


@hookspec(firstresult=True)
def load_data(config: Any, sources: Sources) -> Mapping[str, Dataset]:
    """Return the data sets by name. Kind: one, required; called once per block, on the CPU."""


@hookspec(firstresult=True)
def build_model(config: Any) -> torch.nn.Module:
    """Return one trial's network. Kind: one, required.

    Called once per trial on the CPU with the global generator seeded from the trial's ``init`` key (and
    restored afterwards). Numbers that differ between trials belong into buffers of the module.
    """


@hookspec(firstresult=True)
def optimizer(config: Any) -> Optimizer:
    """Return the optimizer of one trial. Kind: one; without it nothing but ``train_step`` changes the model."""


@hookspec(firstresult=True)
def epochs(config: Any) -> Sequence[Epoch]:
    """Return the passes of training, in order. Kind: one, required; called once per block."""


@hookspec(firstresult=True)
def draw_order(config: Any, trial: int, generator: np.random.Generator, number: int, count: int) -> np.ndarray:
    """Return which examples one trial visits in a pass whose order is ``"given"``. Kind: one.

    ``count`` indices into the data set, in order; repetition is allowed. ``number`` counts the passes of the
    trial's whole life, also over ``--from``; ``generator`` is keyed by trial and number. Called again on resume,
    where it must return the same.
    """


@hookspec(firstresult=True)
def train_step(
    model: torch.nn.Module,
    batch: tuple[torch.Tensor, ...],
    rng: Rng,
    epoch: Epoch,
    data: Mapping[str, Resident],
    due: bool,
) -> Any:
    """Return the loss of one model on one batch, or ``(loss, metrics)``. Kind: one, required.

    Written for a single model and pure in tensors (no ``.item()``, no Python branch on a value). The core
    takes gradients and steps the optimizer. An update that is not gradient descent happens here, in
    place, and only ``metrics`` is returned: a mapping of 0-d tensors, or of the axes that a step stream declares.
    ``epoch`` is the pass that the step belongs to (plain values: a branch on them is fine), ``data`` holds the
    data sets on the device: ``data[name].take(index)`` returns examples as a batch. ``due`` is true in the steps that
    ``Epoch.every`` names: a plain value, for what shall not happen in every step.
    """


@hookspec(firstresult=True)
def evaluate_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    """Return sums over one batch (for example the number of correct predictions). Kind: one.

    Called without gradients and in evaluation state by ``block.evaluate(name)``, which adds the batches up.
    """


@hookspec(firstresult=True)
def stages(config: Any) -> Sequence[Stage]:
    """Return the parts of the pipeline, in order. Kind: one, default ``train`` alone; equal for all conditions."""


# --- the block: observers, called for all trials of a block at once --------------------------------------


@hookspec
def on_start(block: Block, source: Sequence[TrialSource] | None) -> None:
    """Prepare a block's trials before their first epoch. Kind: all.

    ``source`` holds, for each trial in order, what ``--from RUN`` stored for the trial of equal index.
    Not called on resume: everything set here is part of the committed state.
    """


@hookspec
def on_epoch_start(block: Block) -> None:
    """Act before the first step of an epoch. Kind: all."""


@hookspec
def on_epoch_end(block: Block, metrics: Mapping[str, torch.Tensor]) -> None:
    """Act after the last step of an epoch. Kind: all.

    ``metrics`` holds the epoch's mean of every quantity that ``train_step`` returned (``loss``
    included), each a tensor with one value per trial.
    """


@hookspec
def on_end(block: Block) -> None:
    """Act after training (a final evaluation, final arrays), before later stages. Kind: all."""


@hookspec
def run_cell(block: Block, stage: str, cell: int) -> None:
    """Compute one cell of a stage that does not train, for all trials of the block. Kind: all.

    A resume repeats cells that were not committed: what a cell stores must follow from the state before it.
    """


@hookspec(firstresult=True)
def describe_record(config: Any, trial: int, row: Mapping[str, Any], last: int, debug: bool) -> str:
    """Return the line of the block's log for one record of the default stream. Kind: one, default ``key=value``."""


# --- results: called by analyze, in a process without training -------------------------------------------


@hookspec(firstresult=True)
def metrics() -> Sequence[Metric]:
    """Return the derived quantities that summaries, comparisons and targets speak of. Kind: one, default none."""


@hookspec(firstresult=True)
def analyze() -> Sequence[Analyzer]:
    """Return the experiment's own tables and figures. Kind: one, default none."""


# --- services: called in the process that supervises a run -----------------------------------------------


@hookspec
def trackers() -> Sequence[type[Tracker]]:
    """Return what ``--track NAME`` can send a run to. Kind: all; must import no service's package."""
