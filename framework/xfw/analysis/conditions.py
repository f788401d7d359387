"""The trials of a run by condition, and the metrics that the shared analyzers summarise, compare and draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.config.keys import key
from xfw.config.structure import flatten
from xfw.errors import UserError, WrongInput, did_you_mean
from xfw.experiment import Metric, is_unit
from xfw.store.results import Results, label

__all__ = ["Group", "Values", "confidence_key", "generic_metrics", "groups_of", "metric_key", "only_key"]

KINDS = "biuf"


@attrs.frozen(eq=False)
class Group:
    """The trials of one condition of one run: its label, and the positions of its trials in the file.

    ``values`` holds the swept values that name the condition, by key path.
    """

    run: str
    label: str
    condition: int
    values: dict[str, Any]
    positions: NDArray[np.int64]
    trials: tuple[int, ...]
    keys: tuple[str, ...]

    @property
    def identity(self) -> tuple[tuple[str, str], ...]:
        """Return what equal conditions of different runs share."""
        return tuple((name, said(value)) for name, value in self.values.items())


def metric_key(what: str) -> Any:
    """Return the key of the metrics to work on."""
    return key(None, help=f"{what}; default: all")


def only_key() -> Any:
    """Return the key of the conditions to work on."""
    return key(None, help="conditions to keep: KEY=VALUE, several values or several keys with commas")


def confidence_key(of: str) -> Any:
    """Return the key of an interval's level."""
    return key(0.95, gt=0, lt=1, help=f"level of the interval{of}")


def groups_of(results: Results, only: Sequence[str] | None = None) -> list[Group]:
    """Return the conditions of a run that have trials and that ``only`` keeps, in their order."""
    wanted = filters(results, only or ())
    order = np.argsort(results.condition, kind="stable")
    numbers, starts = np.unique(results.condition[order], return_index=True)
    labels, names, keys = results.condition_labels(), results.telling_axes, results.key
    groups = []
    for condition, positions in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        swept = results.conditions[condition]
        if all(said(swept.get(name)) in texts for name, texts in wanted.items()):
            trials = tuple(results.trial[positions].tolist())
            own_keys = tuple(keys[position] for position in positions)
            values = {name: swept.get(name) for name in names}
            groups.append(Group(results.run, labels[condition], condition, values, positions, trials, own_keys))
    if wanted and not groups:
        raise WrongInput("$.only: no condition with trials has these values", hint=f"the run has: {some(labels)}")
    return groups


def filters(results: Results, only: Sequence[str]) -> dict[str, set[str]]:
    """Return the values to keep of each swept key, as text; a part without ``=`` is one more of the key before it."""
    wanted: dict[str, set[str]] = {}
    common, name = flatten(results.config), ""
    for part in only:
        left, sign, right = part.partition("=")
        name, text = (left.strip(), right.strip()) if sign else (name, part.strip())
        if name not in results.axes and name not in common:
            hint = did_you_mean(name, results.axes) if results.axes else "the run sweeps nothing"
            raise WrongInput(f"$.only: '{part}' names no key of the run; expected KEY=VALUE", hint=hint)
        values = [condition.get(name) for condition in results.conditions] if name in results.axes else [common[name]]
        known = list(dict.fromkeys(map(said, values)))
        value = next((other for other in known if same(other, text)), None)
        if value is None:
            raise WrongInput(f"$.only: no condition has {name}={text}", hint=f"the run has: {some(known)}")
        if name in results.axes:
            wanted.setdefault(name, set()).add(value)
    return wanted


def said(value: Any) -> str:
    """Return a swept value as it would be typed, with all digits that tell it from others."""
    text = label(value)
    return repr(value) if isinstance(value, float) and float(text) != value else text


def same(one: str, other: str) -> bool:
    """Say whether two texts stand for one value: numbers however they are written, lists with and without brackets."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one.strip("[]") == other.strip("[]")


def some(names: Sequence[str], most: int = 8) -> str:
    """Return the first of some names, and how many there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)})"


class Values:
    """An experiment's metrics on stored runs: each metric of a run is computed once, whoever asks."""

    def __init__(self, declared: Sequence[Metric] | None) -> None:
        self._declared = declared
        self._metrics: dict[Results, list[Metric]] = {}
        self._values: dict[tuple[Results, str], NDArray[np.float64] | UserError] = {}

    def metrics(self, results: Results, *, series: bool) -> list[Metric]:
        """Return the metrics with one value per trial, or those along a stream."""
        if results not in self._metrics:
            self._metrics[results] = list(self._declared) if self._declared else generic_metrics(results)
        return [metric for metric in self._metrics[results] if bool(metric.series) == series]

    def of(self, results: Results, metric: Metric) -> NDArray[np.float64]:
        """Return the values of a metric, (N,) or (N, rows); raises ``UserError`` where the run lacks its records."""
        question = (results, metric.name)
        if question not in self._values:
            try:
                self._values[question] = computed(metric, results)
            except UserError as error:
                self._values[question] = error
        found = self._values[question]
        if isinstance(found, UserError):
            raise found
        return found

    def chosen(self, results: Results, names: Sequence[str] | None, *, series: bool) -> list[Metric]:
        """Return the metrics that were asked for; by default those that the run has stored the records of.

        Not every stage or kind of model stores everything. Raises ``WrongInput`` for an unknown name.
        """
        metrics = self.metrics(results, series=series)
        if not names:
            return [metric for metric in metrics if self._stored(results, metric)]
        known = {metric.name: metric for metric in metrics}
        for name in names:
            if name not in known:
                raise WrongInput(f"$.metric: unknown metric '{name}'", hint=did_you_mean(name, known))
        return [known[name] for name in names]

    def _stored(self, results: Results, metric: Metric) -> bool:
        """Say whether a run has what a metric rests on; one whose code fails counts, and is named when it is used."""
        try:
            self.of(results, metric)
        except UserError:
            return False
        except (Exception, SystemExit):  # noqa: BLE001  a metric is a plugin's code; `Output.attempt` reports it
            return True
        return True


def computed(metric: Metric, results: Results) -> NDArray[np.float64]:
    """Return what a metric computes, as float64 with one row per trial."""
    values = np.asarray(metric.compute(results), dtype=np.float64)
    if values.shape[:1] != (len(results.trial),) or values.ndim != (2 if metric.series else 1):
        wanted = f"({len(results.trial)}, rows)" if metric.series else f"({len(results.trial)},)"
        raise ValueError(f"metric '{metric.name}' returned the shape {values.shape}, expected {wanted}")
    return values


def generic_metrics(results: Results) -> list[Metric]:
    """Return metrics for an experiment that declares none: the records as they are, and their last values."""
    found: list[Metric] = []
    for stream in results.streams():
        for variable in results.variables(stream):
            values = results.values(stream, variable)
            if values.ndim != 2 or values.dtype.kind not in KINDS:
                continue
            path = f"{stream}/{variable}"
            name, unit = results.long_name(path), unit_of(results, path)
            found.append(Metric(path, f"last {name}", unit, _recorded(stream, variable, last=True)))
            found.append(Metric(f"{path}/series", name, unit, _recorded(stream, variable, last=False), series=stream))
    for array in results.arrays():
        if len(results.shape(array)) == 1 and results.array(array).dtype.kind in KINDS:
            found.append(Metric(array, results.long_name(array), unit_of(results, array), _array(array)))
    return found


def unit_of(results: Results, path: str) -> str:
    """Return the unit of what is stored; a file of an older version may hold one that is none."""
    unit = results.unit(path)
    return unit if is_unit(unit) else "1"


def _recorded(stream: str, variable: str, *, last: bool) -> Callable[[Results], np.ndarray]:
    def compute(results: Results) -> np.ndarray:
        values = results.values(stream, variable).astype(np.float64)
        count = results.count(stream)
        rows = np.arange(values.shape[1])
        if not last:
            return np.where(rows < count[:, None], values, np.nan)
        if not len(rows):
            return np.full(len(count), np.nan)
        return np.where(count > 0, values[np.arange(len(values)), np.maximum(count - 1, 0)], np.nan)

    return compute


def _array(name: str) -> Callable[[Results], np.ndarray]:
    return lambda results: results.array(name).astype(np.float64)
