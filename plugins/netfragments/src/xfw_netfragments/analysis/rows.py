"""The points of an evaluation as rows: from a run, or from a file in the published layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import xfw
from numpy.typing import NDArray

from xfw_netfragments import schedules

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["MEASURES", "Row", "condition_rows", "published_rows", "schedule_of"]

MEASURES = ("noise_reduction", "accuracy", "recall", "precision", "line_reconstruction")
SILENT = "noise_reduction_silent"
DEFINED = {"noise_reduction": "noise", "line_reconstruction": "line_interrupt"}
"""Measures that are stored as 0, and drawn as 1, where nothing was corrupted in this way (spec 5.2)."""


@attrs.frozen
class Row:
    """One point: bias is 0.5 − θ (None: Bernoulli cells or the autoencoder), schedule first value and step of γ."""

    theta: float | None
    bernoulli: bool
    schedule: tuple[float, float] | None
    noise: float
    interrupt: int
    values: Mapping[str, tuple[float, float, int]] = attrs.field(eq=False)

    @property
    def label(self) -> str:
        """Return the legend's text: the activation bias of the paper."""
        if self.theta is None:
            return "Bernoulli" if self.bernoulli else "autoencoder"
        return f"b = {round(0.5 - self.theta, 2) + 0.0:g}" if self.theta != 0.5 else "b = 0.0"

    def drawn(self, measure: str) -> tuple[float, float]:
        """Return mean and standard deviation as they are drawn."""
        corruption = DEFINED.get(measure)
        if (corruption == "noise" and self.noise == 0) or (corruption == "line_interrupt" and self.interrupt == 0):
            return 1.0, 0.0
        mean, deviation, _ = self.values.get(measure, (np.nan, np.nan, 0))
        return mean, deviation


def condition_rows(results: Results, condition: int) -> list[Row]:
    """Return the points of one condition of a run, each the mean over its trials and repeats."""
    chosen = np.flatnonzero(results.condition == condition)
    counts = np.asarray(results.count("evaluation"))[chosen]

    def column(name: str) -> NDArray[Any]:
        return np.concatenate(
            [results.values("evaluation", name)[place][:count] for place, count in zip(chosen, counts, strict=True)]
        )

    names = ("theta", "bernoulli", "gamma_start", "gamma_step", "noise", "line_interrupt")
    keys = list(zip(*(column(name).tolist() for name in names), strict=True))
    measured = {name: column(name) for name in (*MEASURES, SILENT)}
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(tuple(str(part) for part in key), []).append(place)
    return [_row(keys[places[0]], measured, places) for places in groups.values()]


def _row(key: tuple[Any, ...], measured: Mapping[str, NDArray[np.float64]], places: Sequence[int]) -> Row:
    theta, bernoulli, start, step, noise, interrupt = key
    if np.isfinite(start) and not np.isfinite(step):
        raise xfw.UserError("robustness: a power schedule of the run is not of the form a + b·t", exit_code=2)
    values = {name: _summary(column[list(places)]) for name, column in measured.items()}
    return Row(
        None if np.isnan(theta) else float(theta),
        bool(bernoulli),
        (float(start), float(step)) if np.isfinite(start) else None,
        float(noise),
        int(interrupt),
        values,
    )


def _summary(values: NDArray[np.float64]) -> tuple[float, float, int]:
    defined = values[np.isfinite(values)]
    if not len(defined):
        return np.nan, np.nan, 0
    return float(defined.mean()), float(defined.std(ddof=1)) if len(defined) > 1 else 0.0, len(defined)


def published_rows(path: Path) -> list[Row]:
    """Return the points of a file in the published layout: an object with ``rows``, a list, or one row a line."""
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise xfw.UserError(f"published: cannot read {path}: {error.strerror}", exit_code=2) from error
    try:
        found = list(_parsed(content))
        return [_published(row) for row in found]
    except (ValueError, KeyError, TypeError) as error:
        raise xfw.UserError(
            f"published: {path} is not in the published layout: {type(error).__name__} {error}",
            hint="expected rows with act_threshold, power_factors, noise, line_interrupt and the five averages",
            exit_code=2,
        ) from error


def _parsed(content: str) -> Iterable[Mapping[str, Any]]:
    try:
        whole = json.loads(content)
    except ValueError:
        return [json.loads(line) for line in content.splitlines() if line.strip()]
    if isinstance(whole, dict):
        return list(whole["rows"]) if "rows" in whole else [whole]
    return list(whole)


def _published(row: Mapping[str, Any]) -> Row:
    power = [float(value) for value in row["power_factors"]]
    line = schedule_of(power)
    random = row["act_threshold"] == schedules.BERNOULLI
    values = {name: (float(row[name]), 0.0, 1) for name in MEASURES}
    theta = None if random else float(row["act_threshold"])
    return Row(theta, random, line, float(row["noise"]), int(row["line_interrupt"]), values)


def schedule_of(power: Sequence[float]) -> tuple[float, float]:
    """Return first value and step of a schedule; UserError where it is not linear to 3 decimals."""
    line = schedules.linear(power)
    if line is None:
        text = schedules.schedule_text(power)
        raise xfw.UserError(f"robustness: the power schedule {text} is not of the form a + b·t", exit_code=2)
    return round(line[0], 3), round(line[1], 3)
