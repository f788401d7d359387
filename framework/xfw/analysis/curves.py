"""The shared analyzer ``curves``: every series metric against its coordinate, a mean with a band per condition.

One swept key chooses the colour and marker, another one the line, the others the panel. Axes: ``_TE`` trial and row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.analysis import figures, statistics
from xfw.analysis.conditions import Group, Values, confidence_key, groups_of, metric_key, only_key, said
from xfw.analysis.output import Output
from xfw.analysis.tables import Column, Table
from xfw.config.keys import key
from xfw.experiment import Metric
from xfw.store.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curve", "Layout", "Options", "analyse", "curves_of", "draw", "layout_of", "limits"]

FEW = 4
"""With fewer trials the interval says little, and the trials are drawn too."""

MARKS = 8
SIZES = (4.0, 5.5, 7.0)
"""Hollow markers of unequal size: of curves that lie on each other all can be seen."""
COLUMNS = 4
CURVES = 12
"""The most curves of a panel that two keys tell apart."""

PANELS = 36
"""The most panels of a figure; the numbers of all conditions are in the table."""


@attrs.frozen
class Options:
    """What is drawn, and what the band means."""

    metric: tuple[str, ...] | None = metric_key("series metrics to draw")
    only: tuple[str, ...] | None = only_key()
    band: str = key("ci", choices=("ci", "sd", "sem", "range", "none"), help="what the band around the mean shows")
    confidence: float = confidence_key(", for band=ci")
    log: bool = key(False, help="draw the coordinate on a logarithmic scale")


@attrs.frozen(eq=False)
class Curve:
    """One condition of one metric along the coordinate: its trials, and their number, mean and band at every row."""

    group: Group
    x_E: NDArray[Any]
    values_TE: NDArray[np.float64]
    n_E: NDArray[np.int64]
    mean_E: NDArray[np.float64]
    low_E: NDArray[np.float64]
    high_E: NDArray[np.float64]

    @property
    def few(self) -> bool:
        """Say whether the trials are drawn one by one."""
        return 1 < int(self.n_E.max(initial=0)) < FEW


def analyse(results: Results, options: Options, output: Output, values: Values) -> None:
    """Write a figure and its numbers for every series metric."""
    groups = groups_of(results, options.only)
    for metric in values.chosen(results, options.metric, series=True):
        name = f"curves-{metric.name}"
        with output.attempt(name):
            curves = curves_of(results, metric, groups, options, values)
            output.data(name, _table(results, metric, curves))
            output.figure(name, draw(results, metric, curves, options))
            for note in _notes(name, curves):
                output.say(note)


def curves_of(
    results: Results, metric: Metric, groups: Sequence[Group], options: Options, values: Values
) -> list[Curve]:
    """Return the curve of every condition."""
    values_TE = values.of(results, metric)
    x_E = results.coordinate(metric.series)
    found = []
    for group in groups:
        own_TE = values_TE[group.positions]
        n, mean, low, high = _band(own_TE, options)
        found.append(Curve(group, x_E, own_TE, n, mean, low, high))
    return found


def _band(values_TE: NDArray[np.float64], options: Options) -> tuple[NDArray[Any], ...]:
    from scipy import stats

    n, mean, sd = statistics.moments(values_TE)
    if options.band == "range":
        there = np.isfinite(values_TE)
        low = np.where(n > 0, np.where(there, values_TE, np.inf).min(axis=0), np.nan)
        return n, mean, low, np.where(n > 0, np.where(there, values_TE, -np.inf).max(axis=0), np.nan)
    factor: Any = 1.0
    if options.band in ("ci", "sem"):
        factor = 1.0 / np.sqrt(np.maximum(n, 1))
    if options.band == "ci":
        factor = factor * stats.t.ppf(0.5 + options.confidence / 2, np.maximum(n - 1, 1))
    half = np.full(mean.shape, np.nan) if options.band == "none" else factor * sd
    return n, mean, mean - half, mean + half


# --- what stands where -----------------------------------------------------------------------------------


@attrs.frozen
class Layout:
    """Which swept keys choose the colour, the line and the panel, each with its values in their order."""

    colour: tuple[str, ...] = ()
    line: tuple[str, ...] = ()
    panel: tuple[str, ...] = ()
    values: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    def place(self, group: Group, keys: Sequence[str]) -> int:
        """Return the number of the group's values among all combinations of some keys' values."""
        number = 0
        for name in keys:
            number = number * len(self.values[name]) + self.values[name].index(said(group.values[name]))
        return number


def layout_of(groups: Sequence[Group]) -> Layout:
    """Return how to tell conditions apart: the key with most values by colour, the next by line, the others by panel.

    A key of many values that are no numbers gets panels, since no palette has that many colours.
    """
    values = {name: tuple(dict.fromkeys(said(group.values[name]) for group in groups)) for name in groups[0].values}
    values = {name: _ordered(texts) for name, texts in values.items() if len(texts) > 1}
    keys = sorted(values, key=lambda name: -len(values[name]))
    colour = next((name for name in keys if len(values[name]) <= len(figures.STYLES) or _numeric(values[name])), None)
    room = CURVES // len(values[colour]) if colour else CURVES
    line = next((name for name in keys if name != colour and len(values[name]) <= min(room, len(figures.DASHES))), None)
    panel = tuple(name for name in values if name not in (colour, line))
    return Layout((colour,) if colour else (), (line,) if line else (), panel, values)


def _numeric(texts: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[-+0-9.e]*[0-9]", text) for text in texts)


def _ordered(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=float)) if _numeric(texts) else texts


def limits(curves: Sequence[Curve]) -> tuple[float, float, bool]:
    """Return the ends of the axis and whether bands reach beyond them.

    The axis follows the means, and the trials that are drawn; bands may make it twice as long, no longer: the
    interval of two trials would else press all curves flat.
    """
    drawn = np.concatenate([curve.mean_E for curve in curves] + [c.values_TE.ravel() for c in curves if c.few])
    bands = np.concatenate([end for curve in curves for end in (curve.low_E, curve.high_E)])
    drawn, bands = drawn[np.isfinite(drawn)], bands[np.isfinite(bands)]
    if not len(drawn):
        return 0.0, 1.0, False
    low, high = float(drawn.min()), float(drawn.max())
    bottom, top = min(low, float(bands.min(initial=low))), max(high, float(bands.max(initial=high)))
    span = (high - low) or 2 * (top - bottom)
    ends = max(bottom, low - span / 2), min(top, high + span / 2)
    cut = ends != (bottom, top)
    margin = 0.05 * (ends[1] - ends[0]) or 0.05 * abs(high) or 0.5
    return ends[0] - margin, ends[1] + margin, cut


# --- drawing ---------------------------------------------------------------------------------------------


def draw(results: Results, metric: Metric, curves: Sequence[Curve], options: Options) -> Figure:
    """Draw all curves of a metric, in panels where their keys ask for it."""
    layout = layout_of([curve.group for curve in curves])
    panels: dict[int, list[Curve]] = {}
    for curve in curves:
        panels.setdefault(layout.place(curve.group, layout.panel), []).append(curve)
    shown = [panels[place] for place in sorted(panels)][:PANELS]
    columns = min(len(shown), COLUMNS, max(2, math.ceil(math.sqrt(len(shown)))))
    rows = math.ceil(len(shown) / columns)
    width, height = (6.4, 4.0) if len(shown) == 1 else (0.6 + 2.7 * columns, 0.6 + 2.1 * rows)
    colours = layout.values[layout.colour[0]] if layout.colour else ("",)
    styles = figures.styles(len(colours))
    bottom, top, cut = limits([curve for panel in shown for curve in panel])
    with figures.styled():
        handles = _legend_handles(layout, colours, styles)
        legend_rows = math.ceil(len(handles) / figures.legend_columns([str(h.get_label()) for h in handles], width))
        figure, grid = figures.new_panels(width, height + 0.2 * legend_rows, rows, columns, share=True)
        places = [axes for row in grid for axes in row]
        for axes in places[len(shown) :]:
            axes.set_axis_off()
        for axes, panel in zip(places, shown, strict=False):
            shade = 0.15 if len(panel) < 5 else 0.06
            for curve in panel:
                colour, line = layout.place(curve.group, layout.colour), layout.place(curve.group, layout.line)
                _draw_curve(axes, curve, styles[colour], figures.DASHES[line], SIZES[colour % len(SIZES)], shade)
            if layout.panel:
                named = {name: said(panel[0].group.values[name]) for name in layout.panel}
                names = [figures.shortened(f"{name}={value}") for name, value in named.items()]
                axes.set_title("\n".join(names) if len(shown) > 1 else ", ".join(names), fontsize=8, loc="left")
        _scale(places[0], curves, options, (bottom, top))
        unit = f" ({metric.unit})" if metric.unit not in ("", "1") else ""
        for number, axes in enumerate(places[: len(shown)]):
            if number + columns >= len(shown):
                axes.set_xlabel(results.coordinate_name(metric.series))
                axes.tick_params(labelbottom=True)
        figure.supylabel(f"{metric.long_name}{unit}", fontsize=9)
        hidden = len(panels) - len(shown)
        figure.suptitle(_title(results, curves, options, cut, hidden), x=0.01, ha="left", fontsize=9)
        if len(curves) > 1 and handles:
            figures.legend_below(figure, handles, width)
    return figure


def _scale(axes: Axes, curves: Sequence[Curve], options: Options, ends: tuple[float, float]) -> None:
    axes.set_ylim(*ends)
    if options.log:
        axes.set_xscale("log")
    elif all(float(x).is_integer() for curve in curves for x in curve.x_E[[0, -1]] if len(curve.x_E)):
        axes.locator_params(axis="x", integer=True)
    axes.margins(x=0.01)


def _draw_curve(axes: Axes, curve: Curve, style: figures.LineStyle, dashes: Any, size: float, shade: float) -> None:
    marks = np.unique(np.linspace(0, len(curve.x_E) - 1, MARKS).round().astype(int)).tolist()
    if curve.few:
        axes.plot(curve.x_E, curve.values_TE.T, color=style.colour, linestyle=dashes, linewidth=0.5, alpha=0.6)
    axes.plot(
        curve.x_E,
        curve.mean_E,
        color=style.colour,
        linestyle=dashes,
        marker=style.marker,
        markersize=size,
        markerfacecolor="none",
        markevery=marks,
    )
    if np.isfinite(curve.low_E).any():
        axes.fill_between(curve.x_E, curve.low_E, curve.high_E, color=style.colour, alpha=shade, linewidth=0)


def _legend_handles(layout: Layout, colours: Sequence[str], styles: Sequence[figures.LineStyle]) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    if layout.colour:
        some = np.unique(np.linspace(0, len(colours) - 1, min(len(colours), 16)).round().astype(int)).tolist()
        for place in some:
            style = styles[place]
            text = figures.shortened(f"{layout.colour[0]}={colours[place]}")
            handles.append(
                Line2D(
                    [],
                    [],
                    color=style.colour,
                    marker=style.marker,
                    markersize=SIZES[place % len(SIZES)],
                    markerfacecolor="none",
                    label=text,
                )
            )
    for place, text in enumerate(layout.values[layout.line[0]] if layout.line else ()):
        label = figures.shortened(f"{layout.line[0]}={text}")
        handles.append(Line2D([], [], color="0.35", linestyle=figures.DASHES[place], label=label))
    return handles


def _title(results: Results, curves: Sequence[Curve], options: Options, cut: bool, hidden: int) -> str:
    meaning = {
        "ci": f"{100 * options.confidence:g} % CI",
        "sd": "SD (divisor n - 1)",
        "sem": "SEM",
        "range": "range",
        "none": "",
    }[options.band]
    most = sorted({int(curve.n_E.max(initial=0)) for curve in curves})
    n = f"n = {most[0]}" if len(most) == 1 else f"n = {most[0]} to {most[-1]}"
    if most[-1] < 2:
        return f"{results.experiment}: {n}"
    parts = [f"{results.experiment}: mean and {meaning}, {n}" if meaning else f"{results.experiment}: mean, {n}"]
    parts += ["trials thin"] if any(curve.few for curve in curves) else []
    parts += ["bands are cut at the axis"] if cut else []
    parts += [f"{hidden} more panels are in the table alone (choose with -s only=)"] if hidden else []
    return "; ".join(parts)


def _notes(name: str, curves: Sequence[Curve]) -> list[str]:
    """Return what is left out: values that are missing in rows that other trials of the condition have."""
    found = []
    for curve in curves:
        holes = ~np.isfinite(curve.values_TE) & (curve.n_E > 0)
        # Trials of unequal length end earlier; what they have recorded ends with their last finite value.
        reached = np.cumsum(np.isfinite(curve.values_TE)[:, ::-1], axis=1)[:, ::-1] > 0
        trials = int((holes & reached).any(axis=1).sum())
        if trials:
            count = f"{trials} of {len(curve.values_TE)} trials"
            found.append(f"{name}: {count} of {curve.group.label} have values that are not finite; they are left out")
    return found


def _table(results: Results, metric: Metric, curves: Sequence[Curve]) -> Table:
    coordinate = results.coordinate_name(metric.series)
    rows = [
        (curve.group.label, x, int(n), float(mean), float(low), float(high))
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
