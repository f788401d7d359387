"""How the best accuracy grows from loop to loop: from the records of a run, or from logs of the original.

Axes: ``_TE`` trial and loop, ``_E`` loop. Accuracies are percentages; NaN stands for what is missing. The
merged curves are maxima over trials: they mix trials and are not one trial's course.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import xfw
from numpy.typing import NDArray
from xfw import WrongInput
from xfw.analysis.tables import Column, Table, to_csv

from xfw_psa.analysis import cells
from xfw_psa.analysis.configurations import shape_of
from xfw_psa.config import MODES

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["ANALYZER", "Course", "from_logs", "gains", "merged", "read_log"]

JOB = re.compile(rf"psa-(?P<shape>\d+x\d+)-(?P<mode>{'|'.join(MODES)})-(?P<time>\d{{4}}(-\d{{2}}){{5}}-\d{{3}})")
"""Directory of one job: network, mode, and the time of its start to the millisecond."""
LOOP = re.compile(r"Loop\s+(?P<loop>\d+)\s*/\s*\d+.*?Current:\s*(?P<val>[\d.]+)\s*%.*?LKG:\s*(?P<lkg>[\d.]+)\s*%")
TRIAL = re.compile(r"\btrial (\d+) \|")


@attrs.frozen(eq=False)
class Course:
    """The loops of all trials of one network and mode, and the mean test accuracy where it is known."""

    architecture: str
    mode: str
    val_TE: NDArray[np.float64]
    lkg_TE: NDArray[np.float64]
    test_T: NDArray[np.float64]
    first_loop: int = 1

    @property
    def file_text(self) -> str:
        """Return the network as names of files have it."""
        shape = shape_of(self.architecture)
        return self.architecture if shape is None else shape.file_text


def merged(values_TE: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the maximum over trials for every loop; NaN for a loop that no trial has."""
    there = np.isfinite(values_TE)
    highest = np.where(there, values_TE, -np.inf).max(axis=0, initial=-np.inf)
    return np.where(there.any(axis=0), highest, np.nan)


def gains(values_E: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0 for the first loop, and then the difference to the loop before."""
    return np.concatenate([np.zeros(min(1, len(values_E))), np.diff(values_E)])


# --- logs ------------------------------------------------------------------------------------------------


def read_log(lines: Iterable[str]) -> list[list[tuple[float, float]]]:
    """Return (accuracy, best accuracy) of every loop of every trial in a log.

    Lines that say ``trial k |`` are sorted by it; else a line of loop 1 begins a new trial.
    """
    named: dict[int, list[tuple[float, float]]] = {}
    for line in lines:
        match = LOOP.search(line)
        if match is None:
            continue
        said = TRIAL.search(line)
        current = int(said[1]) if said else max(named, default=-1) + (int(match["loop"]) == 1 or not named)
        named.setdefault(current, []).append((float(match["val"]), float(match["lkg"])))
    return [named[trial] for trial in sorted(named)]


def from_logs(folder: str | Path) -> list[Course]:
    """Return the courses of all job directories below a folder; the latest job of a network and mode counts."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise WrongInput(f"cannot read '{folder}': it is no directory")
    jobs: dict[tuple[str, str], Path] = {}
    for path in sorted(place.iterdir()):
        match = JOB.fullmatch(path.name)
        if match and path.is_dir():
            jobs[match["shape"].replace("x", "*"), match["mode"]] = path
    courses = [_course(architecture, mode, path) for (architecture, mode), path in jobs.items()]
    found = [course for course in courses if course is not None]
    if not found:
        raise WrongInput(
            f"'{folder}' holds no log with loops",
            hint="expected directories psa-LxW-MODE-YYYY-MM-DD-HH-MM-SS-mmm with text files",
        )
    return found


def _course(architecture: str, mode: str, job: Path) -> Course | None:
    files = sorted(path for path in job.rglob("*") if path.is_file())
    lines = [line for path in files for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    trials = read_log(lines)
    if not trials:
        return None
    table_TE2 = np.full((len(trials), max(map(len, trials)), 2), np.nan)
    for trial, loops in enumerate(trials):
        table_TE2[trial, : len(loops)] = loops
    return Course(architecture, mode, table_TE2[..., 0], table_TE2[..., 1], np.empty(0))


def from_study(study: cells.Study) -> list[Course]:
    """Return the courses of all networks and modes of a run."""
    return [
        Course(architecture, mode, cell.val_TE, cell.lkg_TE, cell.test_T, study.first_loop)
        for (architecture, mode), cell in study.cells.items()
        if np.isfinite(cell.val_TE).any()
    ]


# --- the analyzer ----------------------------------------------------------------------------------------


@attrs.frozen
class Options:
    """Merged over trials or trial by trial, and where the loops come from."""

    logs: str | None = xfw.key(None, replaces_run=True, help="folder with the logs of jobs, in place of a run")
    per_trial: bool | None = xfw.key(
        None, help="one row per trial, or one per network and mode; default: CSV by trial, Markdown merged"
    )
    family: str | None = cells.family_key()
    only: tuple[str, ...] | None = cells.only_key()


def analyse(results: Results | None, options: Options, output: Output) -> None:
    """Write ``growth`` and ``convergence`` as Markdown and CSV."""
    if options.logs:
        courses = from_logs(options.logs)
    elif results is not None:
        courses = from_study(cells.of_run(results, options))
    else:
        raise WrongInput("there is no run yet", hint="name a folder of logs: -s logs=FOLDER")
    first = min(course.first_loop for course in courses)
    courses.sort(key=lambda course: (course.file_text, course.mode))
    for name, variable in (("growth", "lkg_TE"), ("convergence", "val_TE")):
        if output.wants("md"):
            rows = _rows(courses, name, variable, per_trial=bool(options.per_trial))
            output.document(f"{name}.md", _markdown(rows, first, per_trial=bool(options.per_trial)))
        if output.wants("csv"):
            by_trial = options.per_trial is not False
            rows = _rows(courses, name, variable, per_trial=by_trial)
            output.document(f"{name}.csv", to_csv(_table(rows, first, per_trial=by_trial)))


Row = tuple[str, str, int, NDArray[np.float64], float]


def _rows(courses: Sequence[Course], name: str, variable: str, *, per_trial: bool) -> list[Row]:
    """Return network, mode, trial (-1: merged), values by loop and test accuracy of every row."""
    found: list[Row] = []
    for course in courses:
        values_TE: NDArray[np.float64] = getattr(course, variable)
        if per_trial:
            known = course.test_T if len(course.test_T) else np.full(len(values_TE), np.nan)
            single = zip(values_TE, known, strict=True)
            lanes = [(trial, values, float(test)) for trial, (values, test) in enumerate(single)]
        else:
            lanes = [(-1, merged(values_TE), cells.moments(course.test_T).mean)]
        for trial, values_E, test in lanes:
            shown = gains(values_E) if name == "growth" else values_E
            found.append((course.file_text, course.mode, trial, shown, test))
    return found


def _table(rows: Sequence[Row], first: int, *, per_trial: bool) -> Table:
    """Return the rows under the published headings; beyond a trial's last loop nothing is known."""
    loops = max(len(row[3]) for row in rows)
    numbers = range(first, first + loops)
    trial = (Column("trial", "Trial", form="d"),) if per_trial else ()
    columns = (
        Column("architecture", "Architecture (LxW)"),
        Column("mode", "Mode"),
        *trial,
        *(Column(f"loop_{loop}", f"Meta-Loop {loop}", form=".2f") for loop in numbers),
        Column("final_test", "Final Test", form=".2f"),
    )
    return Table(columns=columns, rows=tuple(_cells(row, loops, per_trial=per_trial) for row in rows))


def _cells(row: Row, loops: int, *, per_trial: bool) -> tuple[Any, ...]:
    architecture, mode, trial, values_E, test = row
    padded = [*values_E.tolist(), *[None] * (loops - len(values_E))]
    return (architecture, mode, *((trial,) if per_trial else ()), *padded, test)


def _markdown(rows: Sequence[Row], first: int, *, per_trial: bool) -> str:
    table = _table(rows, first, per_trial=per_trial)
    lines = [[column.header for column in table.columns], ["---"] * len(table.columns), *table.cells("N/A")]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


ANALYZER = xfw.Analyzer(
    "growth",
    "gain of the best accuracy and accuracy of every loop, from a run or from logs",
    analyse,
    options=Options,
    available=cells.available,
)
