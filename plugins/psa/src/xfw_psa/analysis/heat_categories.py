"""The heat maps that show a category: effects of ablation, winning modes, and regimes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xfw.analysis import figures
from xfw.analysis.tables import Column, Table

from xfw_psa.analysis import effects, heat_points, labels, palette, regimes
from xfw_psa.analysis.cells import Study
from xfw_psa.analysis.configurations import Shape
from xfw_psa.analysis.effects import Effect
from xfw_psa.analysis.heat_points import AREA, COLUMNS, EDGED, SPAN, Point
from xfw_psa.config import MODES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ablation_effects", "regime_map", "winner", "winning_strategy"]

WINNERS = ("none", "dropout", "decay", "full", "output", "hidden")
"""The order of drawing, from back to front, after the untrainable ones."""
REGIMES = ("untrainable", "beneficial-regularization", "optimally-sized", "chaotic-optimization", "unknown")
"""The order of drawing of the regimes, from back to front."""


# --- effects of ablation ---------------------------------------------------------------------------------


def ablation_effects(study: Study, shapes: Sequence[Shape], mode: str, test: str) -> tuple[Figure, Table]:
    """Show for every network whether damage changes the peak significantly, and by how many standard deviations."""
    found = heat_points.points(study, shapes)
    measured = [effects.effect_of(study, each.shape.text, mode) for each in found]
    named = [_effect_category(each, effect, test) for each, effect in zip(found, measured, strict=True)]
    with figures.styled():
        figure, axes = heat_points.new_map(study, f"Effects of Ablation ({_effect_title(mode)} − Control)")
        heat_points.no_data(axes, [each for each, name in zip(found, named, strict=True) if name == "No data"])
        heat_points.untrainable(axes, [each for each in found if each.untrainable])
        for order, (name, colour) in enumerate(palette.EFFECTS.items()):
            chosen = [index for index, each in enumerate(named) if each == name]
            areas = [_area(measured[index]) for index in chosen]
            group = [found[index] for index in chosen]
            heat_points.marks(
                axes,
                group,
                name,
                c=colour,
                s=areas,
                alpha=0.8,
                edgecolors="black",
                linewidths=0.3,
                zorder=5 - order / 10,
            )
        labels.draw(axes, labels.place(shapes, labels.BESIDE), labels.BESIDE)
        kind = "paired by index" if test == "paired" else "Welch"
        title = f"Effect (t-test, {kind}, p < {effects.LEVEL})\nArea: |mean difference| / SD"
        heat_points.legend(axes, title, (*palette.EFFECTS, "Untrainable", "No data"))
    return figure, _effect_table(found, measured, named)


def _effect_title(mode: str) -> str:
    return "Best Ablative Mode" if mode == "best" else palette.MODE_TITLES[mode]


def _effect_category(point: Point, effect: Effect | None, test: str) -> str:
    if point.untrainable:
        return "Untrainable"
    return "No data" if effect is None else effect.category(test)


def _area(effect: Effect | None) -> float:
    return AREA + SPAN * (effect.size if effect is not None else 0.0)


def _effect_table(found: Sequence[Point], measured: Sequence[Effect | None], named: Sequence[str]) -> Table:
    rows = []
    for point, effect, name in zip(found, measured, named, strict=True):
        numbers = (
            (None,) * 7
            if effect is None
            else (effect.mode, effect.n, effect.mean, effect.sd, effect.p_paired, effect.difference, effect.p_welch)
        )
        rows.append((*point.row, *numbers, name.lower(), None if effect is None else _area(effect)))
    described = (
        Column("mode", "mode"),
        Column("pairs", "pairs", form="d"),
        Column("mean_of_differences", "mean of differences", "%", ".3f"),
        Column("sd_of_differences", "SD of differences (ddof 0)", "%", ".3f"),
        Column("p_paired", "p (paired)", form=".3g"),
        Column("difference_of_means", "difference of means", "%", ".3f"),
        Column("p_welch", "p (Welch)", form=".3g"),
        Column("category", "category"),
        Column("area", "marker area", "pt²", ".1f"),
    )
    return Table((*COLUMNS, *described), tuple(rows))


# --- winning modes ---------------------------------------------------------------------------------------


def winning_strategy(study: Study, shapes: Sequence[Shape], by: str) -> tuple[Figure, Table]:
    """Colour every network by the mode that wins, by the best single trial (``max``) or by the mean."""
    found = heat_points.points(study, shapes)
    won = [winner(each, by) for each in found]
    with figures.styled():
        figure, axes = heat_points.new_map(study, "Winning Strategy")
        heat_points.no_data(axes, [each for each in found if not each.modes])
        heat_points.untrainable(axes, [each for each in found if each.untrainable], **EDGED)
        for order, mode in enumerate(WINNERS):
            chosen = [each for each, name in zip(found, won, strict=True) if name == mode and not each.untrainable]
            heat_points.marks(
                axes, chosen, palette.MODE_TITLES[mode], c=palette.MODE_COLOURS[mode], zorder=4 + order, **EDGED
            )
        labels.draw(axes, labels.place(shapes, labels.BESIDE), labels.BESIDE)
        titles = [*palette.MODE_TITLES.values(), "Untrainable", "No data"]
        heat_points.legend(axes, "Winning Mode" if by == "max" else "Winning Mode (by mean)", titles)
    rows = [
        (*each.row, name or None, _score(each, name, by), "untrainable" if each.untrainable else name or "no data")
        for each, name in zip(found, won, strict=True)
    ]
    described = (Column("winner", "winner"), Column(by, by, "%", ".2f"), Column("category", "category"))
    return figure, Table((*COLUMNS, *described), tuple(rows))


def winner(point: Point, by: str) -> str:
    """Return the mode with the largest value, the first one on ties; empty where there is none."""
    rounded = {mode: round(_score(point, mode, by), 9) for mode in MODES if mode in point.modes}
    return max(rounded, key=lambda mode: rounded[mode]) if rounded else ""


def _score(point: Point, mode: str, by: str) -> float:
    if mode not in point.modes:
        return math.nan
    summary = point.modes[mode].summary
    return summary.maximum if by == "max" else summary.mean


# --- regimes ---------------------------------------------------------------------------------------------


def regime_map(study: Study, shapes: Sequence[Shape], rules: str) -> tuple[Figure, Table]:
    """Colour every network by its regime."""
    found = heat_points.points(study, shapes)
    verdicts = regimes.classify(study, rules, [shape.text for shape in shapes])
    with figures.styled():
        title = "Training Regimes" if rules == "final" else f"Training Regimes (rules {rules})"
        figure, axes = heat_points.new_map(study, title)
        heat_points.diagonal(axes)
        for order, regime in enumerate(REGIMES):
            chosen = [each for each in found if verdicts[each.shape.text].regime == regime]
            colour = palette.REGIME_COLOURS[regime]
            if not chosen and regime == regimes.UNKNOWN:
                continue
            heat_points.marks(axes, chosen, palette.REGIME_TITLES[regime], c=colour, zorder=4 + order, **EDGED)
        labels.draw(axes, labels.place(shapes, labels.WIDER), labels.WIDER)
        heat_points.legend(axes, "Training Regime", list(palette.REGIME_TITLES.values()))
    rows = [(*each.row, verdicts[each.shape.text].regime, verdicts[each.shape.text].rule) for each in found]
    return figure, Table((*COLUMNS, Column("regime", "regime"), Column("rule", "rule")), tuple(rows))
