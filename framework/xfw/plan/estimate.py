"""Measure one trial of a shape without training it, and predict a block's steps, memory and time.

The rates are round numbers below what was measured (docs/performance.md), for the work that the core itself does.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import torch
from torch import nn

from xfw.data.sources import Sources
from xfw.engine.batches import check_epochs, count_of, steps_of
from xfw.engine.manual import check_steps
from xfw.engine.settings import check_names, spec_of
from xfw.engine.step import steps_itself
from xfw.engine.steppers import STREAMS
from xfw.engine.strategy import choose
from xfw.engine.work import Work, work_of
from xfw.errors import UserError
from xfw.experiment import Experiment, Pass
from xfw.manifest import Execution

if TYPE_CHECKING:
    from xfw.data.images import ImageData

__all__ = ["Estimate", "OnceOnly", "Shape", "estimate", "estimated", "measure"]

T = TypeVar("T")
ITEM_SIZES = {"bfloat16": 4, "float32": 4, "float64": 8}


@attrs.frozen
class Shape:
    """What the trials of one shape have in common: strategy, work, how often each pass, length of each data set."""

    strategy: str
    work: Work
    passes: Mapping[Pass, int]
    lengths: Mapping[str, int]


@attrs.frozen
class Estimate:
    """Steps of one trial, memory of the block in bytes, time of the block in seconds."""

    steps: int
    memory: int
    seconds: float


class OnceOnly(Sources):
    """Sources that read every data set once, for many shapes."""

    def __init__(self, data_dir: str | None, *, download: bool = True) -> None:
        super().__init__(data_dir, download=download)
        self._read: dict[str, ImageData] = {}
        self._derived: dict[str, Any] = {}

    def load(self, name: str, **options: Any) -> ImageData:
        """Return a data set, as read before where that happened."""
        wanted = repr((name, sorted(options.items())))
        if wanted not in self._read:
            self._read[wanted] = super().load(name, **options)
        return self._read[wanted]

    def derived(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` returned when this name was first asked for."""
        if name not in self._derived:
            self._derived[name] = make()
        derived: T = self._derived[name]
        return derived


def measure(experiment: Experiment, config: Any, execution: Execution, sources: Sources) -> Shape:
    """Load the data and find out what a network costs; the global random generator stays as it was.

    So data are found, downloaded where allowed, and verified before anything is computed. Raises ``UserError`` for
    data that are missing or damaged, for a network that this machine cannot hold, and for a strategy that the device
    does not have.
    """
    hooks = experiment.hooks
    try:
        datasets = hooks.load_data(config=config, sources=sources)
        passes = Counter(hooks.plan_passes(config=config))
        lengths = {name: len(dataset) for name, dataset in datasets.items()}
        check_epochs(list(passes), lengths)
        model = outline(lambda: hooks.build_model(config=config))
    except (MemoryError, OverflowError) as error:
        raise UserError(
            f"experiment '{experiment.name}': the plan does not fit into memory, since a size is too large",
            hint=f"all keys with their values: xfw config {experiment.name}",
            exit_code=2,
        ) from error
    # Parameters, gradients and the best network so far, of one trial, in all of this machine's memory.
    needed = 3 * sum(parameter.numel() for parameter in model.parameters()) * ITEM_SIZES[execution.dtype]
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UserError(
            f"experiment '{experiment.name}': training one network takes at least {needed / 2**30:,.0f} GiB, "
            f"and this machine has {there / 2**30:,.0f}",
            hint="choose a smaller network",
            exit_code=2,
        )
    seen = next((datasets[spec.dataset] for spec in passes), None)
    sides = [] if seen is None else [tensor.shape[1:] for tensor in seen.tensors]
    # Shapes that differ in other things than their network, such as its passes, share one measurement.
    work = sources.derived(f"work {sides} {model}", lambda: work_of(model, seen))
    alone = steps_itself(hooks)
    optimizer = hooks.build_optimizer(config=config, model=model)
    check_steps(optimizer, manual=alone)
    if optimizer is not None and not alone:
        check_names(spec_of(optimizer, model), model)
    strategy = choose(model, execution.device, execution.strategy, alone=alone)
    return Shape(strategy, work, passes, lengths)


def outline(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model whose parameters have shapes and no values, or the model itself where it cannot be made so."""
    with torch.random.fork_rng(devices=[]):
        try:
            # Reading a file of weights into parameters without values warns.
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):
                return build()
        except (RuntimeError, TypeError, ValueError):
            return build()


# --- the model of costs -----------------------------------------------------------------------------------


@attrs.frozen
class _Rates:
    """Products per second, bytes per second, seconds per small operation and per map and trial, of one process."""

    products: float
    bytes: float
    operation: float
    lane: float


CPU = _Rates(products=3e10, bytes=1e10, operation=2.5e-5, lane=0.0)
CUDA = _Rates(products=2.0e13, bytes=2.2e12, operation=3e-6, lane=1.5e-7)
"""An H100. From 64 trials of 18*18 on, a further one costs 6.7 us a step in 38 maps (docs/performance.md)."""

OPERATIONS_PER_MAP = 9
"""Forward, backward and update of one map with its activation, in kernels of a captured step."""


def estimate(
    work: Work,
    passes: Iterable[Pass],
    lengths: Mapping[str, int],
    width: int,
    device: str,
    itemsize: int = 4,
    strategy: str = "stack",
) -> Estimate:
    """Return the estimate of a block of ``width`` trials; ``lengths`` counts the examples of each data set."""
    counts = Counter(passes)
    steps = batch = rows = evaluated = examples = 0
    for spec, times in counts.items():
        of_pass = steps_of(spec, lengths[spec.dataset])
        steps += times * of_pass
        batch, rows = max(batch, spec.batch_size), max(rows, spec.batch_size, spec.observed)
        evaluated += times * -(-of_pass // spec.observe_every) * spec.observed
        examples += times * (count_of(spec, lengths[spec.dataset]) if spec.steps is None else of_pass * spec.batch_size)
    rates = CUDA if device.startswith("cuda") else CPU
    # Lanes that run one after another leave their activations to the next one; captured lanes on side streams do not.
    at_once = {"stack": width, "streams": min(width, STREAMS)}.get(strategy, 1)
    # What eager and captured steps take for each value kept: stacked steps share nothing; of those on side streams
    # VGG-16 took 1.5 to 1.9 times the kept values on an H200, 16 trials as much as 32 (64 and 128 images of 64×64).
    times_kept = 3 if strategy == "stack" else 2
    # Parameters, gradient, two moments, one snapshot; copies of three of the five while rehearsing. Measured on an
    # H100: 29.8 GiB for 256 trials of 2.9 million parameters, 29.5 predicted. Activations three times, eager and
    # captured ones not sharing memory: 120 trials of 5.8 million parameters with 9,216 tested images each needed
    # more than 73 GiB, 77 predicted.
    state = 5 * work.parameters * itemsize
    memory = int(2.0 * state * width + times_kept * rows * work.outputs * itemsize * at_once) + 200 * 2**20
    arithmetic = width * (3 * examples + evaluated) * work.products / rates.products
    traffic = steps * width * (8 * work.parameters + 4 * batch * work.outputs) * itemsize / rates.bytes
    launches = steps * work.maps * (OPERATIONS_PER_MAP * rates.operation + width * rates.lane)
    return Estimate(steps, memory, max(arithmetic, traffic) + launches)


def estimated(shape: Shape, width: int, execution: Execution) -> Estimate:
    """Return the steps, memory and time of a block of ``width`` trials."""
    size = ITEM_SIZES[execution.dtype]
    return estimate(shape.work, shape.passes, shape.lengths, width, execution.device, size, shape.strategy)
