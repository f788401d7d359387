"""Measure one trial of a shape without training it: its network's work, its passes, its data, its strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from xfw.data.sources import Sources
from xfw.experiment import Experiment, Pass
from xfw.manifest import Execution

if TYPE_CHECKING:
    from xfw.data.images import ImageData
    from xfw.plan.estimate import Estimate, Work

__all__ = ["OnceOnly", "Shape", "estimated", "measure"]

T = TypeVar("T")
ITEM_SIZES = {"float32": 4, "float64": 8}


@attrs.frozen
class Shape:
    """What the trials of one shape have in common: strategy, work, passes, and the length of each data set."""

    strategy: str
    work: Work
    epochs: tuple[Pass, ...]
    lengths: Mapping[str, int]


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
        found: T = self._derived[name]
        return found


def measure(experiment: Experiment, config: Any, execution: Execution, sources: Sources) -> Shape:
    """Build one network and load the data; the global random generator stays as it was.

    So data are found, downloaded where allowed, and verified before anything is computed. Raises
    ``UserError`` for data that are missing or damaged, and for a strategy that the device does not have.
    """
    import torch

    from xfw.engine.batches import check_epochs
    from xfw.engine.strategy import choose
    from xfw.plan.estimate import work_of

    datasets = experiment.hooks.load_data(config=config, sources=sources)
    epochs = tuple(experiment.hooks.plan_passes(config=config))
    lengths = {name: len(dataset) for name, dataset in datasets.items()}
    check_epochs(epochs, lengths)
    with torch.random.fork_rng(devices=[]):
        model = experiment.hooks.build_model(config=config)
    return Shape(
        strategy=choose(model, execution.device, execution.strategy),
        work=work_of(model),
        epochs=epochs,
        lengths=lengths,
    )


def estimated(shape: Shape, width: int, execution: Execution) -> Estimate:
    """Return the steps, memory and time of a block of ``width`` trials."""
    from xfw.plan.estimate import estimate

    size = ITEM_SIZES[execution.dtype]
    return estimate(shape.work, shape.epochs, shape.lengths, width, execution.device, size)
