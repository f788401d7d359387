"""A loaded experiment, and the values that its hooks return. Imports neither torch, h5py nor matplotlib."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from xfw.errors import UserError, WrongInput
from xfw.schedules import Schedule

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = [
    "SGD",
    "TRAIN",
    "Adam",
    "AdamW",
    "Analyzer",
    "Array",
    "Dataset",
    "Experiment",
    "Metric",
    "Optimizer",
    "Pass",
    "Preset",
    "Records",
    "Stage",
    "Stream",
    "Variable",
    "is_unit",
    "stages_of",
]

PREFIXED = "m|s|g|A|K|mol|Hz|N|Pa|J|W|C|V|F|ohm|S|Wb|T|H|lm|lx|Bq|Gy|Sv|eV"
PLAIN = "cd|L|bar|min|h|d|day|degC|degree|rad|sr|bit|byte|percent|%"
ONE_UNIT = rf"(?:(?:[YZEPTGMkhdcmuµnpfa]|da)?(?:{PREFIXED})|{PLAIN})(?:\^-?[1-9])?"
UNIT = re.compile(rf"1|(?:1/)?{ONE_UNIT}(?:[ */]{ONE_UNIT})*")
"""What both UDUNITS and pint read, and read alike; neither knows images, epochs or nats."""

WORDS = {
    "second": "s",
    "sec": "s",
    "minute": "min",
    "hour": "h",
    "pp": "%",
    "percentage point": "%",
    "": "1",
    "none": "1",
}


def is_unit(text: str) -> bool:
    """Say whether readers of units understand a unit: ``1``, ``%``, ``s``, ``m/s``, ``J s``, ``m^2``."""
    return UNIT.fullmatch(text) is not None


def _check_unit(declared: Any, _: Any, unit: str) -> None:
    if is_unit(unit):
        return
    known = WORDS.get(unit.strip().lower().removesuffix("s"))
    hint = f"write '{known}'" if known else "where things are counted, write '1' and say in long_name what is counted"
    kind = type(declared).__name__.lower()
    raise WrongInput(
        f"unit '{unit}' of {kind} '{declared.name}' is not one that readers of units understand "
        "(UDUNITS, pint): expected 1, %, s, or a product such as m/s, J s, m^2",
        hint=hint,
    )


@attrs.frozen
class Preset:
    """Name a configuration: values by key path (text with commas sweeps), a default number of trials and precision."""

    values: Mapping[str, Any]
    help: str
    trials: int | None = None
    dtype: str = attrs.field(default="float32", validator=attrs.validators.in_(("float32", "float64", "bfloat16")))


@attrs.frozen(eq=False)
class Dataset:
    """Hold a set of examples as stored: tensors that share their first axis, kept on the device in their own type.

    ``prepare`` turns the gathered tensors of one batch into what ``train_step`` and ``evaluate_step``
    receive (for images: bytes to normalised floats). It must be pure in tensors.
    """

    tensors: tuple[torch.Tensor, ...]
    prepare: Callable[..., tuple[torch.Tensor, ...]] | None = None

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])


@attrs.frozen
class Pass:
    """Describe one pass of training: which data set, batch size, order and number of steps.

    ``order`` is ``"shuffled"`` (a fresh keyed permutation for this epoch), ``"sequential"``, or ``"given"``: the hook
    ``sample_order`` then says which ``examples`` of the data set each trial visits. The last, shorter batch is kept.
    ``steps`` other than the number of batches walks through the same batches again from the start (wrap-around),
    without reshuffling. ``label`` is a name of the plugin's own, for passes that are alike otherwise. In every
    ``observe_every``-th step from the first on, and in the last one, ``observe_step`` is asked what it measures;
    ``observed`` counts the examples that it looks at, for estimates of time and memory.
    """

    batch_size: int
    dataset: str = "train"
    order: str = "shuffled"
    steps: int | None = None
    examples: int | None = None
    label: str = ""
    observed: int = 0
    observe_every: int = 1


@attrs.frozen
class Stage:
    """Name a part of an experiment's pipeline: training (``cells`` None), or ``cells`` pieces of other work.

    Each piece is computed for all trials of a block by the hook ``run_cell``; commits fall between pieces.
    ``given`` says that the configuration names what the stage would make (a file of weights): a later
    stage that is asked for by ``--stage`` then does without it.
    """

    name: str
    help: str
    cells: int | None = None
    given: bool = False


TRAIN = Stage("train", "train the network")


@attrs.frozen(init=False)
class Group:
    """Give some parameters values of their own within an ``Optimizer``.

    They are those whose name fits a pattern (``"*.bias"``, or several), or for which a function of the name and of the
    module that has the parameter is true. A parameter belongs to the first group that fits.
    """

    where: str | tuple[str, ...] | Callable[[str, nn.Module], bool]
    values: Mapping[str, Any]

    def __init__(self, where: str | Sequence[str] | Callable[[str, nn.Module], bool], /, **values: Any) -> None:
        patterns = where if callable(where) or isinstance(where, str) else tuple(where)
        self.__attrs_init__(patterns, values)


@attrs.frozen(init=False)
class Optimizer:
    """Name an optimizer that treats every entry of the parameters by itself, with its arguments.

    ``kind`` is a name of ``torch.optim`` (``"RMSprop"``), a subclass of ``torch.optim.Optimizer``, or a function
    ``f(parameter, gradient, state, step, *, lr, ...)`` which returns what one update adds to one trial's entries.
    A value is a number, a truth value, a pair of numbers, or a schedule; it may differ between the trials of a block.
    ``groups`` give some parameters other values.

    ``clip_value`` bounds every gradient, ``clip_norm`` their norm over all of a trial's parameters. ``accumulate``
    updates once in so many steps, by the mean gradient of their examples. ``average`` is the decay of a moving average
    of the parameters, which the block holds as its snapshot ``"average"``.
    """

    kind: str | type | Callable[..., Any]
    values: Mapping[str, Any]
    groups: tuple[Group, ...]
    clip_norm: float | Schedule | None
    clip_value: float | Schedule | None
    accumulate: int
    average: float | Schedule | None

    def __init__(
        self,
        kind: str | type | Callable[..., Any],
        /,
        *,
        groups: Sequence[Group] = (),
        clip_norm: float | Schedule | None = None,
        clip_value: float | Schedule | None = None,
        accumulate: int = 1,
        average: float | Schedule | None = None,
        **values: Any,
    ) -> None:
        self.__attrs_init__(kind, values, tuple(groups), clip_norm, clip_value, accumulate, average)


class AdamW(Optimizer):
    """Adam with decoupled weight decay, by default none (``torch.optim.AdamW``, whose own default is 0.01)."""

    def __init__(self, lr: Any, **values: Any) -> None:
        super().__init__("AdamW", lr=lr, **({"weight_decay": 0.0} | values))


class Adam(Optimizer):
    """Adam (``torch.optim.Adam``); ``weight_decay`` is added to the gradient."""

    def __init__(self, lr: Any, **values: Any) -> None:
        super().__init__("Adam", lr=lr, **values)


class SGD(Optimizer):
    """Stochastic gradient descent (``torch.optim.SGD``)."""

    def __init__(self, lr: Any, **values: Any) -> None:
        super().__init__("SGD", lr=lr, **values)


@attrs.frozen
class Variable:
    """Declare one recorded quantity of a stream: a value (of shape ``axes``) per trial and row."""

    name: str
    dtype: str = attrs.field(validator=attrs.validators.in_(("int64", "float32", "float64", "bool", "text")))
    long_name: str
    unit: str = attrs.field(default="1", validator=_check_unit)
    axes: tuple[str, ...] = ()


@attrs.frozen
class Stream:
    """Declare a stream of records: one row per epoch, step or other coordinate, for every trial.

    ``first`` is the coordinate of the first row, ``schema`` the version of the list of variables. With
    ``each="step"`` the core itself stores one row per training step; every variable is then a quantity that
    ``train_step`` returned, of the declared axes.
    """

    name: str
    coordinate: str
    variables: tuple[Variable, ...]
    first: int = 0
    schema: int = 1
    each: str = attrs.field(default="record", validator=attrs.validators.in_(("record", "step")))


@attrs.frozen
class Array:
    """Declare a quantity that a trial has once, at its end (or a stage's end), of shape ``axes``."""

    name: str
    dtype: str = attrs.field(validator=attrs.validators.in_(("int64", "float32", "float64", "bool", "text")))
    long_name: str
    unit: str = attrs.field(default="1", validator=_check_unit)
    axes: tuple[str, ...] = ()


@attrs.frozen
class Records:
    """Declare everything that an experiment stores beside its configuration; ``default`` is plotted first."""

    streams: tuple[Stream, ...] = ()
    arrays: tuple[Array, ...] = ()
    default: str = ""


@attrs.frozen
class Metric:
    """Derive a reported quantity from a run's records.

    ``compute`` receives the sealed results and returns one value per trial (``series`` empty), or one row
    per trial along the coordinate of the stream ``series`` (NaN where a trial has no record).
    """

    name: str
    long_name: str
    unit: str = attrs.field(validator=_check_unit)
    compute: Callable[[Results], np.ndarray]
    series: str = ""


@attrs.frozen
class Analyzer:
    """Make tables or figures: ``run(results, options, output)`` writes into ``output`` only.

    ``options`` is an attrs class of keys (given as ``-s key=value``) or None. ``available`` says in one
    line why the analyzer cannot work on these results, or returns an empty string. An analyzer with
    ``needs_run=False`` works with the experiment's name alone and then gets ``results=None``.
    """

    name: str
    help: str
    run: Callable[[Results | None, Any, Output], None]
    options: type | None = None
    needs_run: bool = True
    available: Callable[[Results], str] = lambda _results: ""


@attrs.frozen(eq=False)
class Experiment:
    """A loaded experiment: its hooks together with those of the extensions, and its configuration class."""

    name: str
    version: str
    module: Any
    hooks: Any
    config_class: type

    def presets(self) -> Mapping[str, Preset]:
        """Return the named configurations; none where the plugin declares none."""
        return self.hooks.define_presets() or {}


def stages_of(hooks: Any, config: Any) -> tuple[Stage, ...]:
    """Return the stages of an experiment, in order; ``train`` alone where it names none."""
    stages = tuple(hooks.define_stages(config=config) or (TRAIN,))
    names = [stage.name for stage in stages]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(
            f"define_stages: {', '.join(names)}: '{repeated[0]}' is named twice",
            hint="give each stage a name of its own",
        )
    uncounted = [stage.name for stage in stages if stage.cells is None and stage.name != TRAIN.name]
    if uncounted:
        raise UserError(
            f"define_stages: stage '{uncounted[0]}' has no number of cells, which only '{TRAIN.name}' may leave out",
            hint=f"say how often run_cell is called: xfw.Stage({uncounted[0]!r}, ..., cells=N)",
        )
    return stages
