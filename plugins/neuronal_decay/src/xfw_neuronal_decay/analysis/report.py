"""The analyzer ``metrics``: the printed report of the original (spec 6.3), and the tables of section 8.

Axes: R trial, S switch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import xfw
from numpy.typing import NDArray
from xfw.analysis.tables import Column, Table

from xfw_neuronal_decay.analysis import chosen
from xfw_neuronal_decay.analysis.chosen import available
from xfw_neuronal_decay.quantities import measures
from xfw_neuronal_decay.sample import Sample, Study

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["Moments", "Options", "available", "moments", "run", "tables"]

MISSING = "—"


@attrs.frozen
class Options:
    """What is reported."""

    published: str | None = chosen.published_key()
    trials: tuple[int, ...] | None = chosen.trials_key()
    numbers: tuple[int, ...] | None = chosen.numbers_key()
    sem: bool = xfw.key(False, help="print standard errors of the mean in place of standard deviations")
    allow_coarse: bool = chosen.allow_coarse_key()


@attrs.frozen
class Moments:
    """Mean and standard deviation (divisor n - 1) of the trials where a number is defined, and how many lack it."""

    n: int
    mean: float
    sd: float
    left_out: int

    @property
    def sem(self) -> float:
        """Return the standard error of the mean."""
        return self.sd / math.sqrt(self.n) if self.n else math.nan


def moments(values_R: NDArray[np.float64]) -> Moments:
    """Return the moments of one number over trials; NaN values are left out."""
    there = values_R[np.isfinite(values_R)]
    mean = float(there.mean()) if len(there) else math.nan
    sd = float(there.std(ddof=1)) if len(there) > 1 else math.nan
    return Moments(len(there), mean, sd, len(values_R) - len(there))


Measured = Sequence[tuple[Sample, Mapping[str, Moments]]]


def run(results: Results | None, options: Options, output: Output) -> None:
    """Print the four blocks and the tables, and write the tables."""
    study = chosen.study(results, options)
    chosen.refuse_coarse(study, options.allow_coarse)
    measured = [(sample, _moments_of(sample)) for sample in study.samples]
    for note in study.notes:
        output.say(f"note: {note}")
    for line in blocks(measured, sem=options.sem):
        output.say(line)
    for name, table in tables(study, measured, sem=options.sem).items():
        output.table(name, table)
    output.table("metrics", _every_number(study, measured), shown=False)


def _moments_of(sample: Sample) -> dict[str, Moments]:
    found = measures(sample.accuracies, sample.parameters.iterations)
    return {name: moments(values) for name, values in found.items()}


# --- the printed report ----------------------------------------------------------------------------------


def blocks(measured: Measured, *, sem: bool) -> list[str]:
    """Return the lines of the report: four blocks, one line for each experiment."""
    spread = "standard errors of the mean" if sem else "standard deviations"
    titles = {
        "task1_accuracy": "Task-1 accuracy before each switch (%)",
        "average_accuracy": "Average accuracy before each switch (%)",
        "gap_depth": "Gap depth of task 1 at each switch (pp)",
        "recovery_percent": "Time to recover after each switch (% of the first task), trials left out",
    }
    lines = []
    for name, title in titles.items():
        lines += [f"{title}: means, {spread}", *(_line(sample, found, name, sem) for sample, found in measured), ""]
    return lines


def _line(sample: Sample, found: Mapping[str, Moments], name: str, sem: bool) -> str:
    own = [found[f"{name}_s{k}"] for k in range(1, sample.parameters.tasks + 1) if f"{name}_s{k}" in found]
    if not own:
        return f"{sample.label}  not defined with one task"
    spreads = [each.sem if sem else each.sd for each in own]
    line = f"{sample.label}  {_vector([each.mean for each in own])}  {_vector(spreads)}"
    if name == "recovery_percent":
        return f"{line}  [{' '.join(str(each.left_out) for each in own)}]"
    return f"{line}  n = {own[0].n}"


def _vector(values: Sequence[float]) -> str:
    return f"[{' '.join(f'{value:7.3f}' if math.isfinite(value) else f'{MISSING:>7}' for value in values)}]"


# --- tables ----------------------------------------------------------------------------------------------


def tables(study: Study, measured: Measured, *, sem: bool) -> dict[str, Table]:
    """Return the tables of section 8: accuracies, gaps, and the additional measures."""
    switches = max(sample.parameters.tasks for sample, _ in measured)
    whole = range(1, switches + 1)
    accuracies = {f"task1_accuracy_s{k}": f"task 1, S{k}" for k in whole}
    accuracies |= {f"average_accuracy_s{k}": f"average, S{k}" for k in whole if k > 1}
    shown = {"accuracies": accuracies}
    if switches > 1:
        gaps = {"gap_depth": "depth", "recovery": "recover", "gap_position": "position"}
        shown["gaps"] = {f"{name}_s{k}": f"{text} {k}" for name, text in gaps.items() for k in whole[:-1]}
        shown["additional"] = _additional(switches)
        for task in whole[1:-1]:
            shown[f"additional-s{task}"] = _additional(task, f"_s{task}")
    return {name: _table(study, measured, name, columns, sem) for name, columns in shown.items()}


def _additional(tasks: int, end: str = "") -> dict[str, str]:
    named = {"min_acc": "min-ACC", "wc_acc": "WC-ACC", "wf10": "WF10", "wf100": "WF100", "anytime_accuracy": "mean Ā"}
    found = {f"{name}{end}": text for name, text in named.items()}
    if not end and tasks > 2:
        found["task2_gap_depth_s2"] = "task-2 depth at S2"
    return found | ({f"final_accuracy_task{task}": f"final A{task}" for task in range(2, tasks + 1)} if not end else {})


def _table(study: Study, measured: Measured, name: str, columns: Mapping[str, str], sem: bool) -> Table:
    rows = [
        (sample.label, str(len(sample.trials)), *(_cell(found.get(key), key, sem) for key in columns))
        for sample, found in measured
    ]
    captions = {
        "accuracies": "task-1 accuracy and average accuracy before the switches (%)",
        "gaps": "gap depth (pp), time to recover (iterations; trials where it is defined), position of the minimum",
        "additional": "additional measures at the end of the run (%, pp)",
    }
    caption = captions.get(name, f"additional measures at the end of task {name[-1]} (%, pp)")
    spread = "SEM" if sem else "SD with divisor n - 1"
    return Table(
        columns=(
            Column("experiment", "experiment"),
            Column("n", "n"),
            *(Column(key, text) for key, text in columns.items()),
        ),
        rows=tuple(rows),
        caption=f"{study.title}: {caption}",
        label=f"tab:neuronal_decay-{name}",
        notes=(f"Mean ± {spread} over trials.",),
    )


def _cell(found: Moments | None, name: str, sem: bool) -> str | None:
    if found is None:
        return None
    counted = f" ({found.n})" if name.startswith("recovery") else ""
    if not found.n:
        return f"{MISSING}{counted}"
    spread = found.sem if sem else found.sd
    return f"{found.mean:.4f}{f' ± {spread:.4f}' if math.isfinite(spread) else ''}{counted}"


def _every_number(study: Study, measured: Measured) -> Table:
    """Return all moments, one row for each experiment and measure."""
    rows = [
        (sample.label, name, each.n, each.left_out, each.mean, each.sd, each.sem)
        for sample, found in measured
        for name, each in found.items()
    ]
    return Table(
        columns=(
            Column("experiment", "experiment"),
            Column("metric", "metric"),
            Column("n", "n", form="d"),
            Column("left_out", "left out", form="d"),
            *(Column(name, text, form=".4f") for name, text in (("mean", "mean"), ("sd", "SD"), ("sem", "SEM"))),
        ),
        rows=tuple(rows),
        caption=f"{study.title}: all measures",
        label="tab:neuronal_decay-metrics",
    )
