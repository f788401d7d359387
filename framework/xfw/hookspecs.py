"""The contract between xfw and a paper plugin, on one page.

A plugin is a module that states ``api = 2`` and implements some of these hooks with ``@xfw.hookimpl``. Hooks are
called with keywords; an implementation names only the arguments that it uses. A specification says

* ``one``: there is exactly one answer, the experiment's; without it the hook is an observer, of which extensions may
  have one each, called in the order of registration;
* ``required``: every experiment implements it;
* ``home``: the module it belongs in. ``"plugin"`` is the module that the entry point names; it imports neither
  torch, h5py nor matplotlib, because every command imports it. ``"hooks"`` and ``"analysis_hooks"`` are the modules
  that the first one names in variables of these names; they are imported when models are built, or results analysed.
  A plugin that names none keeps all hooks in one module; one that names no ``analysis_hooks`` has those in ``hooks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import pluggy

if TYPE_CHECKING:
    import numpy as np
    import torch

    from xfw.data.sources import Sources
    from xfw.engine.batches import Resident
    from xfw.engine.block import Block
    from xfw.engine.rng import Rng
    from xfw.engine.update import Updating
    from xfw.errors import Problem
    from xfw.experiment import Analyzer, Dataset, Metric, Optimizer, Pass, Preset, Records, Stage
    from xfw.schedules import Schedule
    from xfw.store.results import TrialSource
    from xfw.tracking.protocol import Tracker

API = 2
"""The hook interface this version of xfw speaks; a plugin states the one it was written for as ``api``."""

HOMES = ("plugin", "hooks", "analysis_hooks")

Function = TypeVar("Function", bound=Callable[..., Any])

hookimpl = pluggy.HookimplMarker("xfw")


@attrs.frozen
class Contract:
    """What a specification says of its hook beside arguments and answer."""

    one: bool
    required: bool
    home: str


def hookspec(home: str, *, one: bool = False, required: bool = False) -> Callable[[Function], Function]:
    """Mark a function as the specification of a hook."""

    def mark(function: Function) -> Function:
        function.xfw_contract = Contract(one, required, home)  # type: ignore[attr-defined]
        return pluggy.HookspecMarker("xfw")(function, firstresult=one)

    return mark


# --- configuration: called by every command, must be light ----------------------------------------------


@hookspec("plugin", one=True, required=True)
def define_config() -> type:
    """Return the attrs class of the experiment's configuration, made with ``xfw.key``."""


@hookspec("plugin", one=True)
def define_presets() -> Mapping[str, Preset]:
    """Return the named configurations; ``quick`` is the one used by default. Default: none."""


@hookspec("plugin", one=True)
def check_config(config: Any, given: frozenset[str]) -> Sequence[Problem]:
    """Return the problems that bounds of single keys cannot express. Default: none.

    ``given`` holds the key paths that the user set. A problem of level ``"warning"`` does not stop the run:
    it is printed once, and only if every condition of the run has it.
    """


@hookspec("plugin", one=True)
def choose_source(config: Any, stored: Sequence[Mapping[str, Any]]) -> int:
    """Return which condition of ``--from RUN`` a condition starts from, as an index into ``stored``.

    ``stored`` holds RUN's whole configuration of each of its conditions, nested by key. Called while the
    run is planned and again when a block starts; raises ``UserError`` where none fits. Default: RUN's only
    condition, else the one that is equal in every key that RUN swept.
    """


@hookspec("plugin", one=True)
def select_unpaired_keys(config: Any) -> Sequence[str]:
    """Return the key paths whose values enter the random keys. Default: none.

    Without them equal trial indices of all conditions share their random streams (paired comparison).
    """


@hookspec("plugin", one=True, required=True)
def declare_records(config: Any) -> Records:
    """Declare the streams and arrays that the experiment stores."""


@hookspec("plugin", one=True)
def define_stages(config: Any) -> Sequence[Stage]:
    """Return the parts of the pipeline, in order; equal for all conditions. Default: ``train`` alone."""


# --- one model: called once per trial or per block, in the process that trains ---------------------------


@hookspec("hooks", one=True, required=True)
def load_data(config: Any, sources: Sources) -> Mapping[str, Dataset]:
    """Return the data sets by name; called once per block, on the CPU."""


@hookspec("hooks", one=True, required=True)
def build_model(config: Any) -> torch.nn.Module:
    """Return one trial's network.

    Called once per trial on the CPU with the global generator seeded from the trial's ``init`` key (and
    restored afterwards). Numbers that differ between trials belong into buffers of the module.
    """


@hookspec("hooks", one=True)
def build_optimizer(config: Any, model: torch.nn.Module) -> Optimizer | Any:
    """Return the optimizer of one trial. Default: none, so that only ``train_step`` itself changes the model.

    An ``xfw.Optimizer``, or an ordinary optimizer over ``model.parameters()``. Where ``train_step`` names the argument
    ``optimizer`` (or ``optimizers``), it gets what is returned here, one or a mapping of several, and steps it itself.
    """


@hookspec("hooks", one=True)
def build_schedules(config: Any) -> Mapping[str, Schedule]:
    """Return what changes buffers of the model with the step, by their names. Default: nothing.

    Each buffer holds one number, which ``train_step`` reads; it is set before every step.
    """


@hookspec("hooks", one=True, required=True)
def plan_passes(config: Any) -> Sequence[Pass]:
    """Return the passes of training, in order; called once per block."""


@hookspec("hooks", one=True)
def sample_order(config: Any, trial: int, generator: np.random.Generator, number: int, count: int) -> np.ndarray:
    """Return which examples one trial visits in a pass whose order is ``"given"``.

    ``count`` indices into the data set, in order; repetition is allowed. ``number`` counts the passes of the
    trial's whole life, also over ``--from``; ``generator`` is keyed by trial and number. Called again on resume,
    where it must return the same.
    """


@hookspec("hooks", one=True, required=True)
def train_step(
    model: torch.nn.Module,
    batch: tuple[torch.Tensor, ...],
    rng: Rng,
    pass_: Pass,
    data: Mapping[str, Resident],
    optimizer: Any,
    optimizers: Any,
) -> Any:
    """Return the loss of one model on one batch, or ``(loss, metrics)``.

    Written for a single model and pure in tensors (no ``.item()``, no Python branch on a value). The core
    takes gradients and steps the optimizer. An update that is not gradient descent happens here, in
    place, and only ``metrics`` is returned: a mapping of 0-d tensors, or of the axes that a step stream declares.
    ``pass_`` is the pass that the step belongs to (plain values: a branch on them is fine), ``data`` holds the
    data sets on the device: ``data[name].take(index)`` returns examples as a batch. A step that
    names ``optimizer`` or ``optimizers`` (both are what ``build_optimizer`` returned) clears, takes and uses the
    gradients itself.
    """


@hookspec("hooks", one=True)
def observe_step(
    model: torch.nn.Module, rng: Rng, pass_: Pass, data: Mapping[str, Resident]
) -> Mapping[str, torch.Tensor]:
    """Return what is measured beside a step, by name: variables of a stream of steps. Default: nothing.

    Called before the steps that ``Pass.observe_every`` names, without gradients and in evaluation state; pure in
    tensors like ``train_step``. In the other steps the stream holds what stands for a missing value: -1, False or NaN.
    """


@hookspec("hooks", one=True)
def evaluate_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    """Return sums over one batch (for example the number of correct predictions).

    Called without gradients and in evaluation state by ``block.evaluate(name)``, which adds the batches up.
    """


# --- the block: observers, called for all trials of a block at once --------------------------------------


@hookspec("hooks")
def on_start(block: Block, source: Sequence[TrialSource] | None) -> None:
    """Prepare a block's trials before their first pass.

    ``source`` holds, for each trial in order, what ``--from RUN`` stored for the trial of equal index.
    Not called on resume: everything set here is part of the committed state.
    """


@hookspec("hooks")
def on_epoch_start(block: Block) -> None:
    """Act before the first step of a pass."""


@hookspec("hooks")
def before_update(block: Block, update: Updating) -> None:
    """Look at an update, or change it: after the gradients of a step, before the parameters move.

    Part of the step, which CUDA captures: in tensors, without waiting for the device. What it keeps are tensors of
    ``block.values`` (of any type) made in ``on_start`` and written in place.
    """


@hookspec("hooks")
def on_epoch_end(block: Block, metrics: Mapping[str, torch.Tensor]) -> None:
    """Act after the last step of a pass.

    ``metrics`` holds the pass's mean of every quantity that ``train_step`` returned (``loss``
    included), each a tensor with one value per trial.
    """


@hookspec("hooks")
def on_end(block: Block) -> None:
    """Act after training (a final evaluation, final arrays), before later stages."""


@hookspec("hooks")
def run_cell(block: Block, stage: str, cell: int) -> None:
    """Compute one cell of a stage that does not train, for all trials of the block.

    A resume repeats cells that were not committed: what a cell stores must follow from the state before it.
    """


@hookspec("hooks", one=True)
def describe_record(config: Any, trial: int, row: Mapping[str, Any], last: int, debug: bool) -> str:
    """Return the line of the block's log for one record of the first stream. Default: ``key=value``.

    Not called for a stream of steps: what those returned is in ``block.steps`` at the end of a pass.
    """


# --- results: called by analyze, in a process without training -------------------------------------------


@hookspec("analysis_hooks", one=True)
def define_metrics() -> Sequence[Metric]:
    """Return the derived quantities that summaries, comparisons and targets speak of. Default: none."""


@hookspec("analysis_hooks", one=True)
def analyze() -> Sequence[Analyzer]:
    """Return the experiment's own tables and figures. Default: none."""


# --- services: called in the process that supervises a run -----------------------------------------------


@hookspec("plugin")
def register_trackers() -> Sequence[type[Tracker]]:
    """Return what ``--track NAME`` can send a run to; must import no service's package."""
