"""xfw: published experiments as plugins, many trials at once."""

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

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Analyzer",
    "Array",
    "Dataset",
    "Group",
    "Metric",
    "Optimizer",
    "Pass",
    "Preset",
    "Problem",
    "Records",
    "Stage",
    "Stream",
    "UserError",
    "Variable",
    "WrongInput",
    "hookimpl",
    "key",
]
