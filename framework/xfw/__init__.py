"""xfw: published experiments as plugins, many trials at once."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from xfw import schedules
from xfw.config.keys import key
from xfw.errors import Problem, UserError, WrongInput
from xfw.experiment import (
    SGD,
    Adam,
    AdamW,
    Analyzer,
    Array,
    Dataset,
    Group,
    Metric,
    Optimizer,
    Pass,
    Preset,
    Records,
    Stage,
    Stream,
    Variable,
)
from xfw.hookspecs import hookimpl

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.data.sources import Sources
    from xfw.engine.batches import Resident
    from xfw.engine.block import Block
    from xfw.engine.rng import Rng
    from xfw.engine.update import Updating
    from xfw.store.checkpoints import read_checkpoint
    from xfw.store.results import Results
    from xfw.store.sources import TrialSource

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Analyzer",
    "Array",
    "Block",
    "Dataset",
    "Group",
    "Metric",
    "Optimizer",
    "Output",
    "Pass",
    "Preset",
    "Problem",
    "Records",
    "Resident",
    "Results",
    "Rng",
    "Sources",
    "Stage",
    "Stream",
    "TrialSource",
    "Updating",
    "UserError",
    "Variable",
    "WrongInput",
    "hookimpl",
    "key",
    "read_checkpoint",
    "schedules",
]

_HEAVY = {
    "Block": "xfw.engine.block",
    "Output": "xfw.analysis.output",
    "Resident": "xfw.engine.batches",
    "Results": "xfw.store.results",
    "Rng": "xfw.engine.rng",
    "Sources": "xfw.data.sources",
    "TrialSource": "xfw.store.sources",
    "Updating": "xfw.engine.update",
    "read_checkpoint": "xfw.store.checkpoints",
}
"""What is imported only when it is looked up: types of what hooks receive, so that annotations cost nothing."""


def __getattr__(name: str) -> Any:
    if name not in _HEAVY:
        raise AttributeError(f"module 'xfw' has no attribute '{name}'", name=name, obj=sys.modules[__name__])
    return getattr(import_module(_HEAVY[name]), name)
