"""The heat maps that show a number: baseline performance, instability, and numbers of parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from xfw.analysis import figures
from xfw.analysis.tables import Column, Table

from xfw_psa.analysis import configurations, heat_points, labels, palette
from xfw_psa.analysis.cells import Study
from xfw_psa.analysis.configurations import Shape
from xfw_psa.analysis.heat_points import AREA, COLUMNS, EDGED, SPAN, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["baseline_performance", "count_ticks", "instability", "marker_areas", "parameter_matching"]

WORST = 5.0
"""The standard deviation, in points, at which the scale of instability ends."""
BASELINE_STEPS, STEPS = 100, 256


def baseline_performance(study: Study, shapes: Sequence[Shape]) -> tuple[Figure, Table]:
    """Colour every network by the mean of the undamaged control."""
    found = heat_points.points(study, shapes)
    values = [each.modes["none"].summary.mean if "none" in each.modes else math.nan for each in found]
    with figures.styled():
        figure, axes = heat_points.new_map(study, "Baseline Performance")
        limits = (study.z_val, 100.0)
        shown = _shade(axes, found, values, palette.PERFORMANCE, limits, BASELINE_STEPS)
        heat_points.colour_bar(figure, axes, shown, "Baseline Accuracy (%)")
        _finish(axes, shapes)
    return figure, _table(found, values, "baseline_accuracy", "%")


def instability(study: Study, shapes: Sequence[Shape]) -> tuple[Figure, Table]:
    """Colour every network by the largest standard deviation over trials that any mode has."""
    found = heat_points.points(study, shapes)
    values = [max((cell.summary.sd for cell in each.modes.values()), default=math.nan) for each in found]
    with figures.styled():
        figure, axes = heat_points.new_map(study, "Instability")
        shown = _shade(axes, found, values, palette.INSTABILITY, (0.0, WORST), STEPS)
        heat_points.colour_bar(figure, axes, shown, "Max Standard Deviation (%)", extend="max")
        _finish(axes, shapes)
    return figure, _table(found, values, "max_sd", "%")


def _shade(
    axes: Axes,
    found: Sequence[Point],
    values: Sequence[float],
    colours: Sequence[str],
    limits: tuple[float, float],
    steps: int,
) -> Any:
    """Set all marks; return the colour scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    scale = ScalarMappable(Normalize(*limits, clip=True), LinearSegmentedColormap.from_list("scale", colours, steps))
    pairs = list(zip(found, values, strict=True))
    known = [(each, value) for each, value in pairs if math.isfinite(value) and not each.untrainable]
    heat_points.no_data(axes, [each for each, value in pairs if not math.isfinite(value) and not each.untrainable])
    heat_points.untrainable(axes, [each for each, _ in pairs if each.untrainable], alpha=0.7)
    coloured = scale.to_rgba(np.array([value for _, value in known]), alpha=0.7)
    heat_points.marks(axes, [each for each, _ in known], "_values", c=coloured, s=50, linewidths=0)
    return scale


def _finish(axes: Axes, shapes: Sequence[Shape]) -> None:
    labels.draw(axes, labels.place(shapes, labels.BESIDE), labels.BESIDE)
    heat_points.legend(axes, order=("Untrainable", "No data"))


def _table(found: Sequence[Point], values: Sequence[float], name: str, unit: str) -> Table:
    state = {True: "untrainable", False: "trainable"}
    rows = [
        (*each.row, value, state[each.untrainable] if each.modes else "no data")
        for each, value in zip(found, values, strict=True)
    ]
    return Table((*COLUMNS, Column(name, name, unit, ".2f"), Column("category", "category")), tuple(rows))


# --- numbers of parameters -------------------------------------------------------------------------------


def parameter_matching(
    study: Study, shapes: Sequence[Shape], formula: str, asymmetric: frozenset[Shape]
) -> tuple[Figure, Table]:
    """Show numbers of parameters by colour and area, and by the mark which networks have a partner of equal size."""
    found = heat_points.points(study, shapes)
    counts = [configurations.parameters(shape, formula, study.family) for shape in shapes]
    areas = marker_areas(counts)
    with figures.styled():
        figure, axes = heat_points.new_map(study, "Parameter Matching")
        heat_points.diagonal(axes)
        scale = _parameter_scale(counts)
        for name, marker, asymmetry in (("Matched", "o", False), ("Asymmetric", "^", True)):
            chosen = [index for index, shape in enumerate(shapes) if (shape in asymmetric) == asymmetry]
            colours, sizes = scale.to_rgba(np.array(counts)[chosen]), [areas[index] for index in chosen]
            heat_points.marks(axes, [found[i] for i in chosen], name, marker=marker, c=colours, **{**EDGED, "s": sizes})
        bar = heat_points.colour_bar(figure, axes, scale, "Parameter Count (Logarithmic)")
        ticks = count_ticks(min(counts), max(counts))
        bar.set_ticks(list(ticks), labels=list(ticks.values()))
        bar.ax.minorticks_off()
        labels.draw(axes, labels.place(shapes, labels.AROUND, _reach(areas)), labels.AROUND)
        for mark in heat_points.legend(axes, "Parameter Matching"):
            mark.set_facecolor("white")
    return figure, _parameter_table(found, counts, areas, asymmetric)


def _parameter_scale(counts: Sequence[int]) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    norm = LogNorm(min(counts), max(max(counts), min(counts) + 1))
    return ScalarMappable(norm, LinearSegmentedColormap.from_list("parameters", palette.PARAMETERS, STEPS))


def _parameter_table(
    found: Sequence[Point], counts: Sequence[int], areas: Sequence[float], asymmetric: frozenset[Shape]
) -> Table:
    rows = [
        (*each.row, count, "Asymmetric" if each.shape in asymmetric else "Matched", area)
        for each, count, area in zip(found, counts, areas, strict=True)
    ]
    described = (
        Column("parameters", "parameters", form="d"),
        Column("matching", "parameter matching"),
        Column("area", "marker area", "pt²", ".1f"),
    )
    return Table((*COLUMNS, *described), tuple(rows))


def marker_areas(counts: Sequence[int]) -> list[float]:
    """Return areas in square points that grow with the logarithm of a count."""
    logs = [math.log10(count) for count in counts]
    least, span = min(logs), max(logs) - min(logs)
    return [AREA + SPAN * ((each - least) / span if span else 0.0) for each in logs]


def _reach(areas: Sequence[float]) -> list[float]:
    radii = [math.sqrt(area) for area in areas]
    least, span = min(radii), max(radii) - min(radii)
    return [(each - least) / span if span else 0.0 for each in radii]


def count_ticks(least: int, most: int) -> dict[float, str]:
    """Return the ticks of the scale of parameters with their names."""
    ticks = {
        float(value): name for value, name in ((1000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"))
    }
    inside = {value: name for value, name in ticks.items() if least <= value <= most}
    lower = {float(least): str(least)} if least < 1000 else {}
    upper = {float(most): f"{most / 1e6:.1f}M"} if most > 1_000_000 else {}
    return lower | inside | upper
