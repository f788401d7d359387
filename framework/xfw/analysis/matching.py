"""Find the stored trials that a published number speaks of: those whose whole configuration is the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis.conditions import Values
from xfw.analysis.targets import Target, Targets
from xfw.config.keys import schema_of
from xfw.config.named import NamedRun
from xfw.config.resolve import resolve
from xfw.config.structure import canonical, flatten, nested, structure, unstructure
from xfw.errors import Problem, UserError, WrongInput, did_you_mean
from xfw.experiment import Metric
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir

if TYPE_CHECKING:
    from xfw.experiment import Experiment

__all__ = ["Published", "Sample", "Stored", "published"]

CLOSE = 1e-9
"""How far a recorded number may lie from one of ``at``."""

COUNTED = ("done", "diverged")
"""How a trial has ended that is measured; others may have stopped anywhere."""


@attrs.frozen(eq=False)
class Published:
    """A target, its metric, and the configurations (values by key path) of each of its groups of trials."""

    target: Target
    metric: Metric
    groups: tuple[tuple[Mapping[str, Any], ...], ...]


@attrs.frozen(eq=False)
class Sample:
    """The finite values of the trials of one group, how many trials had none, and the runs they come from."""

    values: NDArray[np.float64]
    missing: int
    runs: tuple[str, ...]


# --- what the targets ask for ----------------------------------------------------------------------------


def published(experiment: Experiment, targets: Targets) -> list[Published]:
    """Return every target with its metric and configurations; raise ``WrongInput`` with all mistakes."""
    metrics = {metric.name: metric for metric in experiment.hooks.define_metrics() or ()}
    schema = schema_of(experiment.config_class)
    groups = sorted({path.partition(".")[0] for path in schema.keys if "." in path})
    known: dict[str, tuple[tuple[Mapping[str, Any], ...], list[Problem]]] = {}
    found: list[Published] = []
    problems: list[Problem] = []
    for target in targets.targets:
        path = targets.places[target.name]
        metric = metrics.get(target.metric)
        if metric is None:
            hint = did_you_mean(target.metric, metrics)
            problems.append(Problem(f"{path}.metric", f"unknown metric '{target.metric}'", hint))
        for key in target.ignore:
            if key not in schema.keys and key not in groups:
                hint = did_you_mean(key, [*schema.keys, *groups])
                problems.append(Problem(f"{path}.ignore", f"unknown key '{key}'", hint))
        spanned: list[tuple[Mapping[str, Any], ...]] = []
        wrong: list[Problem] = []
        for number, selection in enumerate(target.selections):
            question = canonical([target.preset, selection])
            if question not in known:
                known[question] = resolved(experiment, target.preset, selection)
            place = f"{path}.wheres[{number}]" if target.wheres else f"{path}.where"
            spanned.append(known[question][0])
            wrong += [attrs.evolve(each, path=f"{place}{each.path.removeprefix('$')}") for each in known[question][1]]
        problems += wrong
        if metric is not None and not wrong:
            problems += row_problems(target, metric, experiment, spanned, path)
            found.append(Published(target, metric, tuple(spanned)))
    if problems:
        raise WrongInput(f"experiment '{experiment.name}': wrong targets.toml", list(dict.fromkeys(problems)))
    return found


def resolved(
    experiment: Experiment, preset: str, selection: Mapping[str, Any]
) -> tuple[tuple[Mapping[str, Any], ...], list[Problem]]:
    """Return the configurations that a preset with some values on top stands for, and the mistakes in them."""
    values = {name: value for name, value in selection.items() if name != "preset"}
    run = NamedRun("target", experiment.name, Path(), str(selection.get("preset", preset)), values)
    try:
        configs = resolve(experiment, named=run, folder=Path()).configs
    except UserError as error:
        problems = list(error.problems) if isinstance(error, WrongInput) else []
        return (), problems or [Problem("$", error.what, error.hint)]
    return tuple(flatten(unstructure(config)) for config in configs), []


def row_problems(
    target: Target,
    metric: Metric,
    experiment: Experiment,
    groups: Sequence[Sequence[Mapping[str, Any]]],
    path: str,
) -> list[Problem]:
    """Return what is wrong with ``at``: it goes with a series, and names what the stream of the series stores."""
    if not metric.series:
        message = f"'{metric.name}' has one value per trial, so there is no row to choose"
        return [Problem(f"{path}.at", message)] if target.at else []
    if not target.at:
        return [Problem(f"{path}.at", f"missing: '{metric.name}' is a series along '{metric.series}'")]
    config: Any = structure(experiment.config_class, nested(groups[0][0]))
    streams = {stream.name: stream for stream in experiment.hooks.declare_records(config=config).streams}
    stream = streams.get(metric.series)
    if stream is None:
        return [Problem(f"{path}.metric", f"its stream '{metric.series}' is not recorded by this configuration")]
    known = [stream.coordinate, *(variable.name for variable in stream.variables if not variable.axes)]
    return [
        Problem(f"{path}.at.{name}", f"unknown variable '{name}' of stream '{stream.name}'", did_you_mean(name, known))
        for name in target.at
        if name not in known
    ]


# --- what is stored --------------------------------------------------------------------------------------


class Stored:
    """The sealed runs that are measured, newest first; what is read of them is read once.

    A context manager: only runs with matching conditions are opened, and closed in the end.
    """

    def __init__(self, experiment: Experiment, runs: Sequence[RunDir]) -> None:
        self._runs = runs
        self._configs = [configurations(experiment, run) for run in runs]
        self._opened: dict[int, Results] = {}
        self._places: dict[tuple[str, ...], dict[str, list[tuple[int, int]]]] = {}
        self._values = Values(None)
        self._rows: dict[tuple[int, str, str], NDArray[np.int64]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for results in self._opened.values():
            results.close()

    def _results(self, run: int) -> Results:
        if run not in self._opened:
            self._opened[run] = open_run(self._runs[run])
        return self._opened[run]

    def samples(self, wanted: Published) -> list[Sample]:
        """Return the values of every group of a target's trials."""
        return [self._sample(wanted, group) for group in wanted.groups]

    def _sample(self, wanted: Published, configs: Sequence[Mapping[str, Any]]) -> Sample:
        target = wanted.target
        values: list[float] = []
        missing = 0
        runs: set[int] = set()
        for places in self._matching(target, configs):
            by_key: dict[str, float] = {}
            for run, condition in places:
                for key, value in self._trials(wanted, run, condition):
                    if not np.isfinite(by_key.get(key, np.nan)):
                        by_key[key] = value
                        runs.add(run)
            values += [value for value in by_key.values() if np.isfinite(value)]
            missing += sum(not np.isfinite(value) for value in by_key.values())
        names = tuple(self._runs[run].id for run in sorted(runs))
        return Sample(np.array(values, np.float64), missing, names)

    def _matching(self, target: Target, configs: Sequence[Mapping[str, Any]]) -> list[list[tuple[int, int]]]:
        """Return for each configuration the (run, condition) pairs that have it, ignored keys apart."""
        ignore = tuple(sorted(target.ignore))
        if ignore not in self._places:
            self._places[ignore] = {}
            for run, conditions in enumerate(self._configs):
                for condition, config in enumerate(conditions):
                    self._places[ignore].setdefault(identity(config, ignore), []).append((run, condition))
        known = self._places[ignore]
        distinct = dict.fromkeys(identity(config, ignore) for config in configs)
        return [known.get(each, []) for each in distinct]

    def _trials(self, wanted: Published, run: int, condition: int) -> list[tuple[str, float]]:
        """Return key and value of the finished trials of one condition; nothing where the run lacks the metric.

        A trial that went on from another run is left out: its configuration says how long it trained there.
        """
        results, target = self._results(run), wanted.target
        values = self._measured(wanted, run)
        if values is None:
            return []
        status, trials, first = results.status, results.trial, results.first_epoch
        return [
            (results.key[place], float(values[place]))
            for place in np.flatnonzero(results.condition == condition).tolist()
            if status[place] in COUNTED
            and not first[place]
            and (target.trials is None or trials[place] in target.trials)
        ]

    def _measured(self, wanted: Published, run: int) -> NDArray[np.float64] | None:
        """Return the metric of every trial of a run, of a series the row that ``at`` chooses."""
        metric = wanted.metric
        try:
            values = self._values.of(self._results(run), metric)
        except UserError:
            return None
        if not metric.series:
            return values
        question = (run, metric.series, canonical(wanted.target.at))
        if question not in self._rows:
            self._rows[question] = chosen_rows(self._results(run), metric.series, wanted.target)
        rows = self._rows[question]
        return np.where(rows >= 0, values[np.arange(len(rows)), np.maximum(rows, 0)], np.nan)


def configurations(experiment: Experiment, run: RunDir) -> list[Mapping[str, Any]]:
    """Return the whole configuration of each condition, by key path; keys that are new have their default."""
    common = flatten(run.manifest.config)
    return [completed(experiment.config_class, {**common, **each.values}) for each in run.manifest.conditions]


def completed(kind: type, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a stored configuration as this version of the plugin would store it."""
    try:
        return flatten(unstructure(structure(kind, nested(values))))
    except WrongInput:  # a key of another version: the stored values stand as they are
        return values


def identity(config: Mapping[str, Any], ignore: Sequence[str]) -> str:
    """Return a text that equal configurations share, ignored keys apart."""
    kept = {path: value for path, value in config.items() if not ignored(path, ignore)}
    return canonical({path: value for path, value in kept.items() if value is not None})


def ignored(path: str, ignore: Sequence[str]) -> bool:
    """Say whether a key path, or a table it lies in, is ignored."""
    return any(path == each or path.startswith(f"{each}.") for each in ignore)


def chosen_rows(results: Results, stream: str, target: Target) -> NDArray[np.int64]:
    """Return the row that ``at`` chooses for each trial, -1 where it has none; two rows raise ``UserError``."""
    count = np.asarray(results.count(stream))
    rows = len(results.coordinate(stream))
    fits = np.arange(rows)[None, :] < count[:, None]
    for name, wanted in target.at.items():
        fits &= equal(column(results, stream, name), wanted)
    if (fits.sum(axis=1) > 1).any():
        found = int(fits.sum(axis=1).max())
        raise UserError(
            f"target '{target.name}': `at` fits {found} rows of stream '{stream}' in run {results.run}",
            hint="name more of its variables in `at`, so that one row is left",
            exit_code=2,
        )
    return np.where(fits.any(axis=1), fits.argmax(axis=1), -1)


def column(results: Results, stream: str, name: str) -> NDArray[Any]:
    """Return a variable or the coordinate as (N, rows), or (1, rows) where all trials share it."""
    if name != results.coordinate_name(stream):
        return results.values(stream, name)
    own = f"trial_{name}"
    return results.values(stream, own) if own in results.variables(stream) else results.coordinate(stream)[None]


def equal(values: NDArray[Any], wanted: Any) -> NDArray[np.bool_]:
    """Return where values are the wanted one: numbers up to rounding, texts and truth values exactly."""
    if isinstance(wanted, bool | str) or values.dtype.kind not in "iuf":
        return np.asarray(values == wanted, np.bool_)
    return np.asarray(np.abs(values - wanted) <= CLOSE, np.bool_)
