"""The results by network and mode, from a sealed run or from the two published Markdown files.

Axes: ``_T`` trial, ``_TE`` trial and loop. Accuracies are percentages; NaN stands for what is missing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import numpy as np
import xfw
from numpy.typing import ArrayLike, NDArray
from xfw import WrongInput

from xfw_psa.analysis import dataset, published_files
from xfw_psa.analysis.configurations import Shape, in_order, published, shape_of
from xfw_psa.config import FAMILIES, MODES

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = [
    "CONTROLS",
    "Cell",
    "Moments",
    "Reading",
    "Study",
    "available",
    "moments",
    "of_run",
    "shapes",
    "study",
]

CONTROLS = ("none", "decay", "dropout")
UNDECISIVE = ("keep_weights", "num_workers", "hidden_layers")
"""Keys that may differ between conditions whose trials belong to one cell."""

_NO_VALUES: NDArray[np.float64] = np.empty(0)
_NO_LOOPS: NDArray[np.float64] = np.empty((0, 0))


class Choice(Protocol):
    """The options of every analyzer that reads a run."""

    @property
    def family(self) -> str | None: ...
    @property
    def only(self) -> tuple[str, ...] | None: ...


class Reading(Choice, Protocol):
    """The options of an analyzer that reads a run or published files."""

    @property
    def summary_file(self) -> str | None: ...
    @property
    def trials_file(self) -> str | None: ...


def summary_file_key() -> Any:
    """Return the option that names a published summary."""
    return xfw.key(None, replaces_run=True, help="published summary (Markdown) to read in place of a run")


def trials_file_key() -> Any:
    """Return the option that names a published list of trials."""
    return xfw.key(None, replaces_run=True, help="published trials (Markdown) to read in place of a run")


def family_key() -> Any:
    """Return the option that chooses one family of a run that holds both."""
    return xfw.key(None, choices=FAMILIES, help="the family to show, where the results hold or name several")


def only_key() -> Any:
    """Return the option that chooses among conditions that differ in more than network and mode."""
    return xfw.key(
        None, help="KEY=VALUE,VALUE: the conditions to show, where they differ in more than network and mode"
    )


@attrs.frozen
class Moments:
    """Size, mean, standard deviation with divisor n, and extremes of one sample."""

    n: int
    mean: float
    sd: float
    minimum: float
    maximum: float


def moments(values: ArrayLike) -> Moments:
    """Return the moments of the finite values; NaN where there is none."""
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[np.isfinite(sample)]
    if not len(sample):
        return Moments(0, np.nan, np.nan, np.nan, np.nan)
    numbers = (sample.mean(), sample.std(ddof=0), sample.min(), sample.max())
    return Moments(len(sample), *(float(number) for number in numbers))


@attrs.frozen(eq=False)
class Cell:
    """All trials of one network under one mode.

    ``peaks_T`` and ``test_T`` hold one value per trial, ``val_TE`` and ``lkg_TE`` one row per trial (without
    columns where no loops are known). ``summary`` describes the peaks, also where only a summary is known;
    ``status`` says why there is no value.
    """

    summary: Moments
    peaks_T: NDArray[np.float64] = _NO_VALUES
    test_T: NDArray[np.float64] = _NO_VALUES
    val_TE: NDArray[np.float64] = _NO_LOOPS
    lkg_TE: NDArray[np.float64] = _NO_LOOPS
    status: str = ""

    @property
    def best_trial(self) -> int | None:
        """Return the position of the trial with the largest peak, the first one on ties."""
        return int(np.nanargmax(self.peaks_T)) if np.isfinite(self.peaks_T).any() else None


@attrs.frozen(eq=False)
class Study:
    """Results by network (``L*W``, or the whole text of any other network) and mode.

    ``loops`` is the number of loops per trial (None where the files do not say), ``first_loop`` the number of
    the first one (a run that went on from another does not begin with 1), ``origin`` the run or the file.
    """

    family: str
    cells: Mapping[tuple[str, str], Cell]
    z_val: float
    loops: int | None
    origin: str
    first_loop: int = 1

    @property
    def title(self) -> str:
        """Return the family as titles and file names have it, such as ``SimpleMLP``."""
        return published_files.FAMILY_TITLES[self.family]

    @property
    def architectures(self) -> tuple[str, ...]:
        """Return the networks, those of the study in its order and then the others."""
        return tuple(in_order(dict.fromkeys(name for name, _ in self.cells), published().shapes))

    def cell(self, architecture: str, mode: str) -> Cell | None:
        """Return the cell of a network and mode if it has values."""
        found = self.cells.get((architecture, mode))
        return found if found is not None and found.summary.n else None

    def modes(self, architecture: str) -> dict[str, Cell]:
        """Return the cells of a network that have values, by mode in the order of the paper's tables."""
        found = {mode: self.cell(architecture, mode) for mode in MODES}
        return {mode: cell for mode, cell in found.items() if cell is not None}

    def trials(self) -> int:
        """Return the largest number of trials of a cell."""
        return max((cell.summary.n for cell in self.cells.values()), default=0)


def available(results: Results) -> str:
    """Say why there are no cells in these results, or return an empty string."""
    return "" if np.any(np.asarray(results.count("epoch")) > 0) else "no trial has finished a loop"


def study(results: Results | None, options: Reading) -> Study:
    """Return the results of a run, or of the files that the options name; raises ``WrongInput``."""
    if options.summary_file or options.trials_file:
        return _from_files(options)
    if results is None:
        raise WrongInput("there is no run yet", hint="name published files: -s trials_file=FILE")
    return of_run(results, options)


# --- a sealed run ----------------------------------------------------------------------------------------


def of_run(results: Results, options: Choice) -> Study:
    """Return the results of a run, with their loops; raises ``WrongInput``."""
    chosen = _chosen(results, options)
    families = {str(values["family"]) for values in chosen.values()}
    if len(families) > 1:
        raise WrongInput(f"run {results.run} holds both families", hint="choose one: -s family=simplemlp")
    columns = _columns(results)
    groups: dict[tuple[str, str], list[int]] = {}
    for condition, values in chosen.items():
        groups.setdefault(_place(values), []).append(condition)
    _refuse_mixed(results, groups, chosen)
    cells = {place: _cell(results, columns, conditions) for place, conditions in groups.items()}
    z_val = np.asarray(results.array("z_val") if "z_val" in results.arrays() else [], dtype=np.float64)
    z_val = z_val[np.isfinite(z_val) & (z_val > 0)]
    loops = {int(values["meta_loops"]) for values in chosen.values()}
    return Study(
        family=families.pop(),
        cells=cells,
        z_val=float(z_val[0]) if len(z_val) else dataset.PUBLISHED_Z,
        loops=max(loops),
        origin=results.run,
        first_loop=_first_loop(results),
    )


def _first_loop(results: Results) -> int:
    loops = results.coordinate("epoch")
    return int(loops[0]) if len(loops) else 1


def _chosen(results: Results, options: Choice) -> dict[int, dict[str, Any]]:
    """Return the whole values of the conditions that the options ask for, by number."""
    every = {index: {**results.config, **values} for index, values in enumerate(results.conditions)}
    wanted = _assignments(options.only)
    if options.family:
        wanted["family"] = [options.family]
    chosen = {index: values for index, values in every.items() if _matches(values, wanted)}
    if not chosen:
        asked = " ".join(f"{name}={','.join(texts)}" for name, texts in wanted.items())
        labels = "; ".join(results.condition_labels())
        raise WrongInput(f"run {results.run} has no condition with {asked}", hint=f"it has: {labels}")
    return chosen


def _assignments(parts: Sequence[str] | None) -> dict[str, list[str]]:
    """Return the values to keep of each key; a part without ``=`` is one more value of the key before it."""
    wanted: dict[str, list[str]] = {}
    name = ""
    for part in parts or ():
        left, sign, right = part.partition("=")
        name, text = (left.strip(), right.strip()) if sign else (name, part.strip())
        if not name:
            raise WrongInput(f"$.only: found '{part}', expected KEY=VALUE")
        wanted.setdefault(name, []).append(text)
    return wanted


def _matches(values: Mapping[str, Any], wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(any(_same(values.get(name), text) for text in texts) for name, texts in wanted.items())


def _same(value: Any, text: str) -> bool:
    from xfw.manifest import show

    if isinstance(value, float | int) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    shape = shape_of(text)
    return text in (show(value), _short(str(value))) or (shape is not None and shape == shape_of(str(value)))


def _short(architecture: str) -> str:
    """Return ``L*W`` for a network of one width, and the whole text of any other."""
    shape = shape_of(architecture)
    return architecture if shape is None else shape.text


def _place(values: Mapping[str, Any]) -> tuple[str, str]:
    return _short(str(values["arch"])), str(values["mode"])


def _refuse_mixed(
    results: Results, groups: Mapping[tuple[str, str], Sequence[int]], chosen: Mapping[int, Mapping[str, Any]]
) -> None:
    """Refuse conditions of one cell whose trials do not belong together."""
    for (architecture, mode), conditions in groups.items():
        for one, other in itertools.pairwise(conditions):
            keys = [axis for axis in results.axes if axis not in UNDECISIVE]
            differing = [axis for axis in keys if chosen[one].get(axis) != chosen[other].get(axis)]
            if set(differing) - {"arch"}:
                name = differing[0]
                raise WrongInput(
                    f"run {results.run}: the conditions of {architecture} {mode} differ in {', '.join(differing)}",
                    hint=f"choose: -s only={name}={chosen[one].get(name)}",
                )


def _columns(results: Results) -> dict[str, NDArray[np.float64]]:
    """Return peaks, test accuracies and curves of all trials; NaN for trials that did not end well."""
    from xfw_psa.quantities import METRICS

    compute = {metric.name: metric.compute for metric in METRICS}
    whole = np.asarray([status in ("done", "diverged") for status in results.status])
    found = {}
    for name in ("val_peak", "test_accuracy", "val_accuracy", "lkg_accuracy"):
        values = np.array(compute[name](results), dtype=np.float64)
        values[~whole] = np.nan
        found[name] = values
    return found


def _cell(results: Results, columns: Mapping[str, NDArray[np.float64]], conditions: Sequence[int]) -> Cell:
    positions = np.flatnonzero(np.isin(results.condition, conditions))
    peaks_T = columns["val_peak"][positions]
    return Cell(
        summary=moments(peaks_T),
        peaks_T=peaks_T,
        test_T=columns["test_accuracy"][positions],
        val_TE=columns["val_accuracy"][positions],
        lkg_TE=columns["lkg_accuracy"][positions],
        status="" if np.isfinite(peaks_T).any() else published_files.INCOMPLETE,
    )


# --- published files -------------------------------------------------------------------------------------


def _from_files(options: Reading) -> Study:
    trials = published_files.read_trials(options.trials_file) if options.trials_file else None
    summary = published_files.read_summary(options.summary_file) if options.summary_file else None
    if options.only:
        raise WrongInput("$.only: chooses among the conditions of a run, and published files are read")
    cells: dict[tuple[str, str], Cell] = {}
    if summary is not None:
        cells |= {place: _summed(entry) for place, entry in summary.cells.items()}
    if trials is not None:
        cells |= {place: _listed(values, cells.get(place)) for place, values in trials.cells.items()}
    family = options.family or (trials.family if trials else "") or (summary.family if summary else "")
    origin = ", ".join(name for name in (options.summary_file, options.trials_file) if name)
    if not cells:
        raise WrongInput(f"{origin}: holds no results")
    return Study(family=family or "simplemlp", cells=cells, z_val=dataset.zero_r(), loops=None, origin=origin)


def _summed(entry: published_files.Entry) -> Cell:
    numbers = Moments(entry.n, entry.mean, entry.sd, entry.minimum, entry.maximum)
    return Cell(summary=numbers, status=entry.status)


def _listed(values: Sequence[float], known: Cell | None) -> Cell:
    peaks_T = np.asarray(values, dtype=np.float64)
    summary = moments(peaks_T)
    if not summary.n and known is not None:
        return known
    return Cell(summary=summary, peaks_T=peaks_T, status="" if summary.n else published_files.EMPTY)


def shapes(found: Study) -> dict[str, Shape]:
    """Return the shapes of the networks of one width, by name."""
    named = {name: shape_of(name) for name in found.architectures}
    return {name: shape for name, shape in named.items() if shape is not None}
