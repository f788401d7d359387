"""Neural mechanics: symmetries of the loss, and the laws by which real training breaks their conservation.

Claim (D. Kunin, J. Sagastuy-Brena, S. Ganguli, D. L. K. Yamins, H. Tanaka, *Neural Mechanics: Symmetry and Broken
Conservation Laws in Deep Learning Dynamics*, ICLR 2021): single weights move noisily, but some combinations of them
follow equations that can be solved exactly, on any data and for any network with the right building blocks. Softmax,
batch normalisation and homogeneous activations are symmetries of the loss; gradient flow conserves a quantity for each;
weight decay, a finite learning rate and momentum break these laws in a way that is known.

Reading order: ``groups`` (which parameters), ``laws`` (what is predicted), ``tracker`` (how both are followed),
``config``, ``experiment`` (the training), ``quantities``, ``figures``.
"""

from __future__ import annotations

from collections.abc import Mapping

import xfw

from xfw_neural_mechanics import config as configuration
from xfw_neural_mechanics.config import PRESETS, Config

api = 2
hooks = "xfw_neural_mechanics.experiment"
analysis_hooks = "xfw_neural_mechanics.analysis"


@xfw.hookimpl
def define_config() -> type:
    return Config


@xfw.hookimpl
def define_presets() -> Mapping[str, xfw.Preset]:
    return PRESETS


check_config = xfw.hookimpl(configuration.problems)


@xfw.hookimpl
def declare_records(config: Config) -> xfw.Records:
    from xfw_neural_mechanics.records import declare  # its groups are found in the network, so it needs torch

    return declare(config)
