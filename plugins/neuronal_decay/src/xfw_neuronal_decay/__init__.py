"""Neuronal decay: a penalty on hidden activations makes the stability gap shallower.

Claim (K. Zhankov, *I Fought the Low: Decreasing Stability Gap with Neuronal Decay*, thesis, TU Delft, 2025): a
network that switches to a new task loses accuracy on the old ones for a few iterations and then recovers, even when
it trains on all old data again ("perfect replay"). Penalising the squared activations of the hidden layers about
halves the depth of this gap at the first switch and leaves a third of it at the second, at a small cost in final
accuracy; without replay it does not prevent forgetting.

Two facts to keep in mind. The gap lasts some twenty iterations, so the network is tested at every iteration, on
every task seen so far, before the update. And every test is on a fresh random subset, so that minima are a
little too deep.

Reading order: ``table``, ``config``, ``rotation``, ``data``, ``model`` (with the step), ``quantities``, ``gap``,
``analysis``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xfw

from xfw_neuronal_decay.config import PRESETS, Config, problems

if TYPE_CHECKING:
    import torch
    from xfw.data.sources import Sources
    from xfw.engine.batches import Resident
    from xfw.engine.block import Block
    from xfw.engine.rng import Rng
    from xfw.store.results import TrialSource

    from xfw_neuronal_decay.model import Network

api = 1


@xfw.hookimpl
def configuration() -> type:
    return Config


@xfw.hookimpl
def presets() -> Mapping[str, xfw.Preset]:
    return PRESETS


@xfw.hookimpl
def check_configuration(config: Config, given: frozenset[str]) -> Sequence[xfw.Problem]:
    return problems(config, given)


@xfw.hookimpl
def choose_source(config: Config) -> int:
    hint = "start a new one; its length is set by rotations and iterations_per_task"
    raise xfw.WrongInput(f"--from: experiment {config.number} of neuronal_decay cannot go on from a run", hint=hint)


@xfw.hookimpl
def independent_keys(config: Config) -> Sequence[str]:
    return ("n_neurons",) if config.width_mode == "as_published" else ()


@xfw.hookimpl
def records(config: Config) -> xfw.Records:
    from xfw_neuronal_decay.quantities import declare

    return declare(config)


@xfw.hookimpl
def load_data(config: Config, sources: Sources) -> Mapping[str, xfw.Dataset]:
    from xfw_neuronal_decay.data import load

    return load(config, sources)


@xfw.hookimpl
def build_model(config: Config) -> torch.nn.Module:
    from xfw_neuronal_decay.model import build

    return build(config)


@xfw.hookimpl
def optimizer(config: Config) -> xfw.Adam:
    return xfw.Adam(lr=config.learning_rate or 0.0)


@xfw.hookimpl
def epochs(config: Config) -> Sequence[xfw.Epoch]:
    from xfw_neuronal_decay import data

    return data.epochs(config)


@xfw.hookimpl
def train_step(
    model: Network,
    batch: tuple[torch.Tensor, ...],
    rng: Rng,
    epoch: xfw.Epoch,
    data: Mapping[str, Resident],
    due: bool,
) -> Any:
    from xfw_neuronal_decay.data import Phase
    from xfw_neuronal_decay.model import step

    phase = Phase.of(epoch.phase)
    return step(model, batch, phase, rng if due else None, data["test"])


@xfw.hookimpl
def on_start(block: Block, source: Sequence[TrialSource] | None) -> None:  # noqa: ARG001
    from xfw_neuronal_decay import diary

    diary.begin(block)


@xfw.hookimpl
def on_epoch_start(block: Block) -> None:
    from xfw_neuronal_decay import diary, profiling

    diary.begin_task(block)
    if block.configs[0].profile:
        profiling.begin(block)


@xfw.hookimpl
def on_epoch_end(block: Block) -> None:
    from xfw_neuronal_decay import profiling

    if block.configs[0].profile:
        profiling.measure(block)


@xfw.hookimpl
def on_end(block: Block) -> None:
    from xfw_neuronal_decay import diary

    diary.finish(block)


@xfw.hookimpl
def describe_record(config: Config, trial: int, row: Mapping[str, Any]) -> str:
    from xfw_neuronal_decay.diary import iteration_line

    return iteration_line(config, trial, row)


@xfw.hookimpl
def metrics() -> Sequence[xfw.Metric]:
    from xfw_neuronal_decay.quantities import METRICS

    return METRICS


@xfw.hookimpl
def analyze() -> Sequence[xfw.Analyzer]:
    from xfw_neuronal_decay.analysis import ANALYZERS

    return ANALYZERS
