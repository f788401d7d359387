"""Persistent Stochastic Ablation: training as a ratchet with blind damage.

Claim (T. Cotten, *Beyond Pruning and Dropout: Evolving Robust Networks via Persistent Stochastic
Ablation*, 2025): keep the best network found so far; in every loop silence one random neuron of a copy,
train the copy for one epoch, and let it replace the best network only if it is strictly better on a
validation set. Whether that helps depends on the shape of the network: large shallow ones do not care,
small ones lose accuracy, and some deep, unstable ones escape from a state where all controls stay.

Two facts to keep in mind. The reported peak is a maximum over loops of the *validation* accuracy, so it
is optimistic and no test accuracy. And the controls are ratcheted too, with an optimizer that is reset
every epoch, so they are not ordinary training.

Reading order: ``config``, ``architecture``, ``records``, ``experiment`` (with the step), ``model``, ``ratchet``,
``ablation``, ``analysis``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import xfw

from xfw_psa import config as configuration
from xfw_psa import problems, records
from xfw_psa.config import PRESETS, Config

if TYPE_CHECKING:
    from pathlib import Path

api = 2
hooks = "xfw_psa.experiment"
analysis_hooks = "xfw_psa.analysis"


@xfw.hookimpl
def define_config() -> type:
    return Config


@xfw.hookimpl
def define_presets() -> Mapping[str, xfw.Preset]:
    return PRESETS


@xfw.hookimpl
def select_unpaired_keys(config: Config) -> Sequence[str]:
    return () if config.pair_modes else ("arch", "family", "mode")


check_config = xfw.hookimpl(problems.problems)
choose_source = xfw.hookimpl(configuration.source_index)
declare_records = xfw.hookimpl(records.declare)


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
