"""The quantities that are derived from what a run stored (spec section 6).

Axes: N trial of the file, R trial of a condition, G iteration, K task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray
from xfw import Metric

from xfw_neuronal_decay import gap
from xfw_neuronal_decay.config import configs_of
from xfw_neuronal_decay.sample import accuracy

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["METRICS", "measures"]

Values = NDArray[np.float64]


def measures(accuracy_RGK: Values, length: int) -> dict[str, Values]:
    """Return every number that section 6 derives from the accuracies of some trials, by name, ``(R,)`` each.

    ``_sK`` is the K-th switch (the end of task K); names without it belong to the end of the run.
    """
    tasks = accuracy_RGK.shape[2]
    found: dict[str, Values] = {}
    series = {"task1_accuracy": accuracy_RGK[:, :, 0], "average_accuracy": gap.average(accuracy_RGK, length)}
    for name, values_RG in series.items():
        found |= {f"{name}_s{k + 1}": column for k, column in enumerate(gap.before_switches(values_RG, length).T)}
    first = gap.gaps(accuracy_RGK[:, :, 0], length)
    for k in range(tasks - 1):
        found[f"gap_depth_s{k + 1}"] = first.depth[:, k]
        found[f"gap_position_s{k + 1}"] = first.position[:, k]
        found[f"recovery_s{k + 1}"] = first.recovery[:, k]
        found[f"recovery_percent_s{k + 1}"] = 100.0 * first.recovery[:, k] / length
    for task in range(2, tasks + 1):
        end = "" if task == tasks else f"_s{task}"
        at_end = attrs.asdict(gap.summary(accuracy_RGK, length, task))
        found |= {f"{name}{end}": values for name, values in at_end.items()}
        found[f"final_accuracy_task{task}"] = gap.before_switches(accuracy_RGK[:, :, task - 1], length)[:, -1]
    if tasks > 2:
        found["task2_gap_depth_s2"] = gap.gaps(accuracy_RGK[:, :, 1], length).depth[:, 1]
    return found


def _accuracies(results: Results) -> Values:
    return accuracy(results.values("iteration", "correct"), results.values("iteration", "tested"))


@lru_cache(maxsize=2)
def _measured(results: Results) -> Mapping[str, Values]:
    """Return all measures of a file, NaN where a trial has not finished or its condition does not define one.

    Thinned records (``eval_every`` above 1) leave all of them undefined: the gap lasts few iterations.
    """
    accuracy_NGK = _accuracies(results)
    complete = np.array([status == "done" for status in results.status])
    found: dict[str, Values] = {}
    for index, config in enumerate(configs_of(results.config, results.conditions)):
        rows = np.flatnonzero((results.condition == index) & complete)
        if not len(rows) or config.eval_every > 1:
            continue
        length = config.iterations_per_task
        own = accuracy_NGK[rows][:, : length * config.tasks, : config.tasks]
        for name, values in measures(own, length).items():
            found.setdefault(name, np.full(len(results.trial), np.nan))[rows] = values
    return found


def _scalar(name: str) -> Callable[[Results], Values]:
    return lambda results: _measured(results).get(name, np.full(len(results.trial), np.nan))


def _accuracy_of(task: int) -> Callable[[Results], Values]:
    def compute(results: Results) -> Values:
        found = _accuracies(results)
        return found[:, :, task] if task < found.shape[2] else np.full(found.shape[:2], np.nan)

    return compute


def _average(results: Results) -> Values:
    accuracy_NGK = _accuracies(results)
    found = np.full(accuracy_NGK.shape[:2], np.nan)
    for index, config in enumerate(configs_of(results.config, results.conditions)):
        rows = np.flatnonzero(results.condition == index)
        own = accuracy_NGK[rows][:, : config.iterations_per_task * config.tasks, : config.tasks]
        found[rows, : own.shape[1]] = gap.average(own, config.iterations_per_task)
    return found


def _recorded(variable: str) -> Callable[[Results], Values]:
    return lambda results: np.asarray(results.values("iteration", variable), np.float64)


_SCALARS = (
    *((f"task1_accuracy_s{k}", f"task-1 accuracy before switch {k}", "%") for k in (1, 2, 3)),
    *((f"average_accuracy_s{k}", f"average accuracy before switch {k}", "%") for k in (1, 2, 3)),
    *((f"gap_depth_s{k}", f"gap depth of task 1 at switch {k}, in points", "%") for k in (1, 2)),
    *((f"gap_position_s{k}", f"iterations from switch {k} to the minimum of task 1", "1") for k in (1, 2)),
    *((f"recovery_s{k}", f"iterations to recover after switch {k}", "1") for k in (1, 2)),
    *((f"recovery_percent_s{k}", f"time to recover after switch {k}, of a task's length", "%") for k in (1, 2)),
    *(
        (f"{name}{end}", f"{text}{where}", unit)
        for end, where in (("", ""), ("_s2", " at the end of task 2"))
        for name, text, unit in (
            ("min_acc", "mean minimum of the old tasks (min-ACC)", "%"),
            ("wc_acc", "worst-case accuracy (WC-ACC)", "%"),
            ("wf10", "windowed forgetting over 10 records, in points", "%"),
            ("wf100", "windowed forgetting over 100 records, in points", "%"),
            ("anytime_accuracy", "mean average accuracy over all records", "%"),
        )
    ),
    ("task2_gap_depth_s2", "gap depth of task 2 at switch 2, in points", "%"),
    ("final_accuracy_task2", "accuracy of task 2 before the end", "%"),
    ("final_accuracy_task3", "accuracy of task 3 before the end", "%"),
)

METRICS = (
    *(Metric(name, text, unit, _scalar(name)) for name, text, unit in _SCALARS),
    *(
        Metric(f"accuracy_task{task + 1}", f"test accuracy of task {task + 1}", "%", _accuracy_of(task), "iteration")
        for task in range(3)
    ),
    Metric("average_accuracy", "average test accuracy of the tasks begun", "%", _average, "iteration"),
    Metric("loss", "training loss in nats, penalty included", "1", _recorded("loss"), "iteration"),
    Metric("loss_ce", "training cross-entropy in nats", "1", _recorded("loss_ce"), "iteration"),
    Metric("penalty", "decay term of the loss, in nats", "1", _recorded("penalty"), "iteration"),
)
