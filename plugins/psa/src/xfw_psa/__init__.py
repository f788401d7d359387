"""Persistent Stochastic Ablation: training as a ratchet with blind damage.

Claim (T. Cotten, *Beyond Pruning and Dropout: Evolving Robust Networks via Persistent Stochastic
Ablation*, 2025): keep the best network found so far; in every loop silence one random neuron of a copy,
train the copy for one epoch, and let it replace the best network only if it is strictly better on a
validation set. Whether that helps depends on the shape of the network: large shallow ones do not care,
small ones lose accuracy, and some deep, unstable ones escape from a state where all controls stay.

Two facts to keep in mind. The reported peak is a maximum over loops of the *validation* accuracy, so it
is optimistic and no test accuracy. And the controls are ratcheted too, with an optimizer that is reset
every epoch, so they are not ordinary training.

Reading order: ``config``, ``architecture``, ``model``, the step below, ``ratchet``, ``ablation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xfw

from xfw_psa.config import PRESETS, Config, source_index
from xfw_psa.problems import problems

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from xfw.data.sources import Sources
    from xfw.engine.block import Block
    from xfw.store.results import TrialSource

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
def choose_source(config: Config, stored: Sequence[Mapping[str, Any]]) -> int:
    return source_index(config, stored)


@xfw.hookimpl
def independent_keys(config: Config) -> Sequence[str]:
    return () if config.pair_modes else ("arch", "family", "mode")


@xfw.hookimpl
def records(config: Config) -> xfw.Records:
    from xfw_psa.quantities import declare

    return declare(config)


@xfw.hookimpl
def load_data(config: Config, sources: Sources) -> Mapping[str, xfw.Dataset]:
    from xfw_psa.data import load

    return load(config, sources)


@xfw.hookimpl
def build_model(config: Config) -> torch.nn.Module:
    from xfw_psa.model import build

    return build(config)


@xfw.hookimpl
def optimizer(config: Config) -> xfw.AdamW:
    return xfw.AdamW(lr=config.lr, weight_decay=config.decay)


@xfw.hookimpl
def epochs(config: Config) -> Sequence[xfw.Epoch]:
    return [xfw.Epoch(batch_size=config.batch_size)] * config.meta_loops


@xfw.hookimpl
def train_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    from torch.nn import functional

    images, labels = batch
    return functional.cross_entropy(model(images), labels)


@xfw.hookimpl
def evaluate_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    import torch

    images, labels = batch
    logits = model(images)
    broken = ~torch.isfinite(logits).all(-1)
    return {"correct": (logits.argmax(-1) == labels).sum(-1), "broken": broken.sum(-1)}


@xfw.hookimpl
def on_start(block: Block, source: Sequence[TrialSource] | None) -> None:
    from xfw_psa import ratchet

    ratchet.start(block, source)


@xfw.hookimpl
def on_epoch_start(block: Block) -> None:
    from xfw_psa import ratchet

    ratchet.damage(block)


@xfw.hookimpl
def on_epoch_end(block: Block, metrics: Mapping[str, torch.Tensor]) -> None:
    from xfw_psa import ratchet

    ratchet.select(block, metrics)


@xfw.hookimpl
def on_end(block: Block) -> None:
    from xfw_psa import ratchet

    ratchet.finish(block)


@xfw.hookimpl
def describe_record(config: Config, trial: int, row: Mapping[str, Any], last: int, debug: bool) -> str:
    from xfw_psa.quantities import loop_line

    return loop_line(config, trial, row, last, debug=debug)


@xfw.hookimpl
def metrics() -> Sequence[xfw.Metric]:
    from xfw_psa.quantities import METRICS

    return METRICS


@xfw.hookimpl
def analyze() -> Sequence[xfw.Analyzer]:
    from xfw_psa.analysis import ANALYZERS

    return ANALYZERS


def get_all_regime_classifications(
    configurations: str | Path | None,
    trials: str | Path | Mapping[str, Mapping[str, Sequence[float]]],
    *,
    rules: str = "final",
    z_val: float | None = None,
) -> dict[str, str]:
    """Return the regime of every listed network; see ``xfw_psa.analysis.regimes``."""
    from xfw_psa.analysis import regimes

    return regimes.get_all_regime_classifications(configurations, trials, rules=rules, z_val=z_val)
