"""Neuronal decay: a penalty on hidden activations makes the stability gap shallower.

Claim (K. Zhankov, *I Fought the Low: Decreasing Stability Gap with Neuronal Decay*, thesis, TU Delft, 2025): a
network that switches to a new task loses accuracy on the old ones for a few iterations and then recovers, even when
it trains on all old data again ("perfect replay"). Penalising the squared activations of the hidden layers about
halves the depth of this gap at the first switch and leaves a third of it at the second, at a small cost in final
accuracy; without replay it does not prevent forgetting.

Two facts to keep in mind. The gap lasts some twenty iterations, so the network is tested at every iteration, on
every task seen so far, before the update. And every test is on a fresh random subset, so that minima are a
little too deep.

Reading order: ``table``, ``config``, ``rotation``, ``data``, ``model`` (with the step), ``experiment``,
``records``, ``quantities``, ``gap``, ``analysis``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xfw

from xfw_neuronal_decay import config as configuration
from xfw_neuronal_decay import records
from xfw_neuronal_decay.config import PRESETS, Config

api = 2
hooks = "xfw_neuronal_decay.experiment"
analysis_hooks = "xfw_neuronal_decay.analysis"


@xfw.hookimpl
def define_config() -> type:
    return Config


@xfw.hookimpl
def define_presets() -> Mapping[str, xfw.Preset]:
    return PRESETS


@xfw.hookimpl
def choose_source(config: Config) -> int:
    hint = "start a new one; its length is set by rotations and iterations_per_task"
    raise xfw.WrongInput(f"--from: experiment {config.number} of neuronal_decay cannot go on from a run", hint=hint)


@xfw.hookimpl
def select_unpaired_keys(config: Config) -> Sequence[str]:
    return ("n_neurons",) if config.width_mode == "as_published" else ()


check_config = xfw.hookimpl(configuration.problems)
declare_records = xfw.hookimpl(records.declare)
