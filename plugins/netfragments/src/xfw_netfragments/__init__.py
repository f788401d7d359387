"""Net fragments: lateral connections, learned without labels, that remove noise and fill gaps.

Claim (P. J. Sager, J. M. Deriu, B. F. Grewe, T. Stadelmann, C. von der Malsburg, *The Cooperative Network
Architecture*, 2024-2025): a pattern is represented by a net, a set of active cells that support each other through
lateral connections. Nets are put together from overlapping pieces, the net fragments, that a Hebbian rule learns from
statistics alone. Activity that fits no fragment dies out within a few steps, and missing parts of a figure come back.

Two facts to keep in mind. Of the 60 straight test images 37 are training images, so the straight set measures
robustness, not generalisation. And a network that is always silent removes every false feature: read
``noise_reduction`` beside ``noise_reduction_silent``.

Reading order: ``config``, ``experiment``, ``s1``, ``layer``, ``lateral`` (the rule), ``sparse`` (the same on a CPU),
``steps``, ``training``, ``evaluation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xfw

from xfw_netfragments import problems, records
from xfw_netfragments.config import Config
from xfw_netfragments.points import cells
from xfw_netfragments.presets import PRESETS

api = 2
hooks = "xfw_netfragments.experiment"
analysis_hooks = "xfw_netfragments.analysis"


@xfw.hookimpl
def define_config() -> type:
    return Config


@xfw.hookimpl
def define_presets() -> Mapping[str, xfw.Preset]:
    return PRESETS


@xfw.hookimpl
def define_stages(config: Config) -> Sequence[xfw.Stage]:
    return [
        xfw.Stage("train", "learn lateral connections from lines", given=config.weights is not None),
        xfw.Stage("evaluate", "compare outputs for corrupted images with those for clean ones", cells(config)),
    ]


check_config = xfw.hookimpl(problems.problems)
declare_records = xfw.hookimpl(records.declare)
