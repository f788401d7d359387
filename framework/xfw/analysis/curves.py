"""The shared analyzer ``curves``: every series metric against its coordinate, a mean with a band per condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis import figures, samples, statistics
from xfw.analysis.output import Output
from xfw.analysis.tables import Column, Table
from xfw.config.keys import key
from xfw.experiment import Metric
from xfw.store.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "Options", "analyse", "curves_of", "draw"]

MOST = len(figures.STYLES)
WIDTH = 6.4
"""Inches."""

MARKS = 8


@attrs.frozen
class Options:
    """What is drawn, and what the band means."""

    metric: tuple[str, ...] | None = key(None, help="series metrics to draw; default: all")
    band: str = key("ci", choices=("ci", "sd", "sem", "range", "none"), help="what the band around the mean shows")
    confidence: float = key(0.95, gt=0, lt=1, help="level of the interval, for band=ci")
    log: bool = key(False, help="draw the coordinate on a logarithmic scale")


@attrs.frozen(eq=False)
class Curve:
    """One condition of one metric along the coordinate: mean, band and number of trials at every row."""

    label: str
    x_E: NDArray[Any]
    n_E: NDArray[np.int64]
    mean_E: NDArray[np.float64]
    low_E: NDArray[np.float64]
    high_E: NDArray[np.float64]


def analyse(results: Results, options: Options, output: Output, metrics: Sequence[Metric]) -> None:
    """Write a figure, or several of twelve conditions each, and its numbers for every series metric."""
    for metric in samples.chosen(samples.series(metrics), options.metric, results):
        curves = curves_of(results, metric, options)
        output.data(f"curves-{metric.name}", _table(results, metric, curves))
        parts = [curves[first : first + MOST] for first in range(0, len(curves), MOST)]
        for number, part in enumerate(parts, start=1):
            name = f"curves-{metric.name}" + (f"-{number}" if len(parts) > 1 else "")
            output.figure(name, draw(results, metric, part, options))


def curves_of(results: Results, metric: Metric, options: Options) -> list[Curve]:
    """Return the curve of every condition."""
    values_TE = np.asarray(metric.compute(results), dtype=np.float64)
    x_E = results.coordinate(metric.series)
    found = []
    for group in samples.groups_of(results):
        mine = values_TE[group.positions]
        n, mean, low, high = _band(mine, options)
        found.append(Curve(group.label, x_E, n, mean, low, high))
    return found


def _band(values_TE: NDArray[np.float64], options: Options) -> tuple[NDArray[Any], ...]:
    n, mean, sd = statistics.moments(values_TE)
    if options.band == "range":
        there = np.isfinite(values_TE)
        low = np.where(n > 0, np.where(there, values_TE, np.inf).min(axis=0), np.nan)
        return n, mean, low, np.where(n > 0, np.where(there, values_TE, -np.inf).max(axis=0), np.nan)
    half = {
        "ci": statistics.mean_interval(values_TE, confidence=options.confidence)[2],
        "sd": sd,
        "sem": sd / np.sqrt(np.maximum(n, 1)),
        "none": np.full(mean.shape, np.nan),
    }[options.band]
    return n, mean, mean - half, mean + half


def draw(results: Results, metric: Metric, curves: Sequence[Curve], options: Options) -> Figure:
    """Draw up to twelve curves in one figure."""
    with figures.styled():
        columns = legend_columns([curve.label for curve in curves])
        rows = math.ceil(len(curves) / columns)
        figure, axes = figures.new_figure(WIDTH, 4.0 + 0.2 * max(0, rows - 3))
        for curve, style in zip(curves, figures.STYLES, strict=False):
            _draw_curve(axes, curve, style)
        unit = f" ({metric.unit})" if metric.unit not in ("", "1") else ""
        axes.set_xlabel(results.coordinate_name(metric.series))
        axes.set_ylabel(f"{metric.long_name}{unit}")
        if options.log:
            axes.set_xscale("log")
        elif all(float(x).is_integer() for curve in curves for x in curve.x_E[[0, -1]]):
            axes.locator_params(axis="x", integer=True)
        axes.set_title(_title(results, curves, options), loc="left")
        axes.margins(x=0.01)
        if len(curves) > 1:
            figure.legend(loc="outside lower center", ncols=columns)
    return figure


def legend_columns(labels: Sequence[str]) -> int:
    """Return how many columns of a legend fit below a figure; characters of 0.075 inches beside a line of 0.7."""
    wide = 0.7 + 0.075 * max(map(len, labels), default=0)
    return max(1, min(2 if len(labels) < 7 else 3, int(WIDTH / wide)))


def _draw_curve(axes: Axes, curve: Curve, style: figures.LineStyle) -> None:
    marks = np.unique(np.linspace(0, len(curve.x_E) - 1, MARKS).round().astype(int)).tolist()
    axes.plot(
        curve.x_E,
        curve.mean_E,
        color=style.colour,
        linestyle=style.dashes,
        marker=style.marker,
        markersize=4,
        markevery=marks,
        label=curve.label,
    )
    if np.isfinite(curve.low_E).any():
        axes.fill_between(curve.x_E, curve.low_E, curve.high_E, color=style.colour, alpha=0.15, linewidth=0)


def _title(results: Results, curves: Sequence[Curve], options: Options) -> str:
    meaning = {
        "ci": f"{100 * options.confidence:g} % CI",
        "sd": "SD (divisor n - 1)",
        "sem": "SEM",
        "range": "range",
        "none": "",
    }[options.band]
    most = sorted({int(curve.n_E.max(initial=0)) for curve in curves})
    n = f"n = {most[0]}" if len(most) == 1 else f"n = {most[0]} to {most[-1]}"
    what = f"mean and {meaning}" if meaning and most[-1] > 1 else "mean"
    return f"{results.experiment}: {what}, {n}" if most[-1] > 1 else f"{results.experiment}: {n}"


def _table(results: Results, metric: Metric, curves: Sequence[Curve]) -> Table:
    coordinate = results.coordinate_name(metric.series)
    rows = [
        (curve.label, x, int(n), float(mean), float(low), float(high))
        for curve in curves
        for x, n, mean, low, high in zip(
            curve.x_E.tolist(), curve.n_E, curve.mean_E, curve.low_E, curve.high_E, strict=True
        )
    ]
    columns = (
        Column("condition", "condition"),
        Column(coordinate, coordinate, form="g"),
        Column("n", "n", form="d"),
        *(Column(name, name, metric.unit, ".4f") for name in ("mean", "low", "high")),
    )
    return Table(columns, tuple(rows))
