"""Metrics by condition: what the shared analyzers compare, summarise and draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError, WrongInput, did_you_mean
from xfw.experiment import Metric

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["Group", "chosen", "condition_columns", "generic_metrics", "groups_of", "scalar", "series"]

KINDS = "biuf"


@attrs.frozen(eq=False)
class Group:
    """The trials of one condition of one run: its label, and the positions of its trials in the file."""

    run: str
    label: str
    condition: int
    positions: NDArray[np.int64]
    trials: tuple[int, ...]
    keys: tuple[str, ...]


def groups_of(results: Results) -> list[Group]:
    """Return the conditions of a run that have trials, in their order."""
    groups = []
    for index, label in enumerate(results.condition_labels()):
        positions = np.flatnonzero(results.condition == index)
        if len(positions):
            trials = tuple(int(results.trial[position]) for position in positions)
            keys = tuple(results.key[position] for position in positions)
            groups.append(Group(results.run, label, index, positions, trials, keys))
    return groups


def condition_columns(results: Results, group: Group) -> list[Any]:
    """Return the swept values of a condition, or its label where nothing is swept."""
    if not results.axes:
        return [group.label]
    return [results.conditions[group.condition].get(axis) for axis in results.telling_axes]


def scalar(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the metrics with one value per trial."""
    return [metric for metric in metrics if not metric.series]


def series(metrics: Sequence[Metric]) -> list[Metric]:
    """Return the metrics with one row per trial along a stream."""
    return [metric for metric in metrics if metric.series]


def chosen(metrics: Sequence[Metric], names: Sequence[str] | None, results: Results | None = None) -> list[Metric]:
    """Return the metrics that were asked for; by default all, of a run all that it has stored the records of.

    Raises ``WrongInput`` for an unknown name.
    """
    if not names:
        return [metric for metric in metrics if results is None or stored(metric, results)]
    known = {metric.name: metric for metric in metrics}
    for name in names:
        if name not in known:
            raise WrongInput(f"$.metric: unknown metric '{name}'", hint=did_you_mean(name, known))
    return [known[name] for name in names]


def stored(metric: Metric, results: Results) -> bool:
    """Say whether a run has what a metric is computed from: not every stage or kind of model stores everything."""
    try:
        metric.compute(results)
    except UserError:
        return False
    return True


def generic_metrics(results: Results) -> list[Metric]:
    """Return metrics for an experiment that declares none: the records as they are, and their last values."""
    found: list[Metric] = []
    for stream in results.streams():
        for variable in results.variables(stream):
            values = results.values(stream, variable)
            if values.ndim != 2 or values.dtype.kind not in KINDS:
                continue
            path = f"{stream}/{variable}"
            name, unit = results.long_name(path), results.unit(path)
            found.append(Metric(path, f"last {name}", unit, _last(stream, variable)))
            found.append(Metric(f"{path}/series", name, unit, _all(stream, variable), series=stream))
    for array in results.arrays():
        if len(results.shape(array)) == 1 and results.array(array).dtype.kind in KINDS:
            found.append(Metric(array, results.long_name(array), results.unit(array), _array(array)))
    return found


def _all(stream: str, variable: str) -> Callable[[Results], np.ndarray]:
    def compute(results: Results) -> np.ndarray:
        values = results.values(stream, variable).astype(np.float64)
        rows = np.arange(values.shape[1])[None, :]
        return np.where(rows < results.count(stream)[:, None], values, np.nan)

    return compute


def _last(stream: str, variable: str) -> Callable[[Results], np.ndarray]:
    def compute(results: Results) -> np.ndarray:
        values = results.values(stream, variable).astype(np.float64)
        last = results.count(stream) - 1
        if not values.shape[1]:
            return np.full(len(last), np.nan)
        return np.where(last >= 0, values[np.arange(len(values)), np.maximum(last, 0)], np.nan)

    return compute


def _array(name: str) -> Callable[[Results], np.ndarray]:
    return lambda results: results.array(name).astype(np.float64)
