"""The stability gap in numbers (spec section 6): functions of the test accuracies alone.

Axes: R trial, G iteration (record g: the network after g updates), K task, S switch. Accuracies are percentages, NaN
where a task was not tested. ``length`` is the number of iterations of each task; switch k falls at ``k * length``.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Gaps", "Summary", "average", "before_switches", "forgetting", "gaps", "summary"]

Array = NDArray[np.float64]


@attrs.frozen(eq=False)
class Gaps:
    """What happens to one task after each switch, ``(R, S)``; NaN where it is not defined.

    ``depth`` in percentage points, ``position`` of the minimum and ``recovery`` in iterations after the switch.
    """

    depth: Array
    position: Array
    recovery: Array


@attrs.frozen(eq=False)
class Summary:
    """The measures of De Lange et al. at the end of a task, ``(R,)`` each, in percent or percentage points."""

    min_acc: Array
    wc_acc: Array
    wf10: Array
    wf100: Array
    anytime_accuracy: Array


def average(accuracy_RGK: Array, length: int) -> Array:
    """Return the mean accuracy over the tasks that have begun, the current one included, ``(R, G)``."""
    tasks = accuracy_RGK.shape[2]
    begun_GK = np.arange(tasks)[None, :] <= (np.arange(accuracy_RGK.shape[1]) // length)[:, None]
    return np.asarray(np.where(begun_GK, accuracy_RGK, 0.0).sum(2) / begun_GK.sum(1))


def before_switches(values_RG: Array, length: int) -> Array:
    """Return the last values before each switch, ``(R, S)``; with thinned records the last that there is."""
    count = values_RG.shape[1] // length
    found = np.full((len(values_RG), count), np.nan)
    for switch in range(count):
        part = values_RG[:, switch * length : (switch + 1) * length]
        there = np.isfinite(part)
        last = part.shape[1] - 1 - there[:, ::-1].argmax(1)
        found[:, switch] = part[np.arange(len(part)), last]
    return found


def gaps(series_RG: Array, length: int) -> Gaps:
    """Return depth, position and time to recover of one task's series at every switch but the last.

    Recovery is looked for from the minimum to the end of the run, beyond the next switch.
    """
    count = series_RG.shape[1] // length
    shape = (len(series_RG), max(0, count - 1))
    found = Gaps(*(np.full(shape, np.nan) for _ in range(3)))
    before_RS = before_switches(series_RG, length)
    for switch in range(count - 1):
        start = (switch + 1) * length
        for trial, series in enumerate(series_RG):
            window, target = series[start : start + length], before_RS[trial, switch]
            if np.isnan(target) or np.isnan(window).all():
                continue
            position = int(np.nanargmin(window))
            found.depth[trial, switch] = target - window[position]
            found.position[trial, switch] = position
            recovered = np.flatnonzero(series[start + position :] >= target)
            if len(recovered):
                found.recovery[trial, switch] = position + recovered[0]
    return found


def forgetting(series_RG: Array, window: int) -> Array:
    """Return the largest fall within ``window`` consecutive records of one task's series, 0 if none falls, ``(R,)``."""
    worst = np.zeros(len(series_RG))
    for lag in range(1, min(window, series_RG.shape[1])):
        fall = series_RG[:, :-lag] - series_RG[:, lag:]
        worst = np.fmax(worst, np.fmax.reduce(fall, axis=1))
    return worst


def summary(accuracy_RGK: Array, length: int, tasks: int) -> Summary:
    """Return the measures at the end of a task, counted from 1, as if the run had ended there."""
    end = tasks * length
    seen = accuracy_RGK[:, :end, :tasks]
    last = before_switches(seen[:, :, tasks - 1], length)[:, -1]
    trials = len(seen)
    minima = [np.fmin.reduce(seen[:, (task + 1) * length :, task], axis=1) for task in range(tasks - 1)]
    min_acc = np.mean(minima, axis=0) if minima else np.full(trials, np.nan)
    own = [seen[:, task * length :, task] for task in range(tasks)]
    rest = 1.0 - 1.0 / tasks
    mean_RG = average(seen, length)
    there = np.isfinite(mean_RG)
    counted = np.maximum(there.sum(1), 1)
    return Summary(
        min_acc=min_acc,
        wc_acc=last / tasks + rest * min_acc if minima else np.full(trials, np.nan),
        wf10=np.mean([forgetting(series, 10) for series in own], axis=0),
        wf100=np.mean([forgetting(series, 100) for series in own], axis=0),
        anytime_accuracy=np.where(there.any(1), np.where(there, mean_RG, 0.0).sum(1) / counted, np.nan),
    )
