"""The analyzer ``convergence``: validation accuracy loop by loop, one panel per network.

Axes: ``_TE`` trial and loop, ``_E`` loop. Accuracies are percentages; NaN stands for what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np
import xfw
from numpy.typing import NDArray
from xfw.analysis import figures, statistics
from xfw.analysis.output import Output
from xfw.analysis.tables import Column, Table

from xfw_psa.analysis import cells, palette, plane, regimes
from xfw_psa.analysis.cells import Cell, Study
from xfw_psa.analysis.configurations import shape_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xfw.store.results import Results

__all__ = ["ANALYZER", "ORDER", "Line", "Options", "draw", "limits", "lines_of", "run", "tick_step"]

ORDER = ("none", "decay", "dropout", "hidden", "output", "full")
"""The order of the modes in the legend."""
NAMES = {"val": "Plot_Convergence", "lkg": "Plot_Late_Breakthroughs"}
DEFAULTS = {"val": ("1*1024", "18*18"), "lkg": ("18*18", "17*17", "10*10", "4*2")}
"""The networks of the paper's figures, by curve."""
WITHOUT_DEFAULTS = 2
"""How many networks of a run are shown that has none of these."""
PANEL = (12.0, 6.0)


@attrs.frozen
class Options:
    """Which networks, which curve, and which trials."""

    targets: tuple[str, ...] | None = xfw.key(
        None, help="networks, one panel each; default: those of the paper's figure that the run has, else its first two"
    )
    curve: str = xfw.key(
        "val", choices=tuple(NAMES), help="val: the accuracy of every loop, accepted or not; lkg: the best so far"
    )
    trials: str = xfw.key(
        "best", choices=("all", "best", "mean"), help="the trial with the largest peak, every trial, or their mean"
    )
    rules: str = xfw.key("final", choices=regimes.RULE_SETS, help="rules of the regimes in the panels")
    family: str | None = cells.family_key()
    only: tuple[str, ...] | None = cells.only_key()


@attrs.frozen(eq=False)
class Line:
    """One drawn curve: its mode, its trial (None for the mean), and the accuracy of every loop."""

    mode: str
    trial: int | None
    values_E: NDArray[np.float64]


def run(results: Results | None, options: Options, output: Output) -> None:
    """Write the figure and its numbers; raises ``UserError`` where the run has none of the networks."""
    assert results is not None  # it needs a run, which none of its options replaces
    study = cells.of_run(results, options)
    targets = [_name(text) for text in options.targets] if options.targets else _default_targets(study, options.curve)
    known = {name for name in targets if any(_has_loops(cell) for cell in study.modes(name).values())}
    if not known:
        raise xfw.UserError(
            f"{study.origin}: no loops of {', '.join(targets) or 'any network'}: nothing was drawn",
            hint=f"the run has: {', '.join(study.architectures)}",
        )
    for name in targets:
        if name not in known:
            output.say(f"warning: {study.origin} has no loops of '{name}'; its panel stays empty")
    name = f"{study.title}_{NAMES[options.curve]}"
    output.figure(name, draw(study, targets, options))
    output.data(name, _table(study, targets, options))


def _name(text: str) -> str:
    shape = shape_of(text)
    return text.strip() if shape is None else shape.text


def _default_targets(study: Study, curve: str) -> list[str]:
    there = [name for name in DEFAULTS[curve] if study.modes(name)]
    return there or list(study.architectures[:WITHOUT_DEFAULTS])


def _has_loops(cell: Cell) -> bool:
    return bool(np.isfinite(cell.val_TE).any())


# --- what is drawn ---------------------------------------------------------------------------------------


def lines_of(cell: Cell, mode: str, options: Options) -> list[Line]:
    """Return the curves of one mode that the options ask for."""
    values_TE = _values(cell, options.curve)
    if options.trials == "mean":
        return [Line(mode, None, statistics.moments(values_TE)[1])]
    if options.trials == "all":
        return [Line(mode, trial, values_E) for trial, values_E in enumerate(values_TE) if np.isfinite(values_E).any()]
    return [] if cell.best_trial is None else [Line(mode, cell.best_trial, values_TE[cell.best_trial])]


def _values(cell: Cell, curve: str) -> NDArray[np.float64]:
    return cell.lkg_TE if curve == "lkg" else cell.val_TE


def _drawable(study: Study, name: str) -> Iterator[tuple[str, Cell]]:
    modes = study.modes(name)
    for mode in ORDER:
        if mode in modes and _has_loops(modes[mode]):
            yield mode, modes[mode]


def limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the limits of the accuracy's axis from all values of all trials and modes."""
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (highest - lowest) or 0.5
    return max(1.0, lowest - margin), min(100.0, highest + margin)


def tick_step(span: float) -> float:
    """Return the distance between ticks for this distance between the limits."""
    if span > 50:
        return 10.0
    if span > 20:
        return 5.0
    return 2.0 if span >= 3 else 0.5


# --- drawing ---------------------------------------------------------------------------------------------


def draw(study: Study, targets: Sequence[str], options: Options) -> Figure:
    """Draw one panel per network, from top to bottom."""
    width, height = PANEL
    with figures.styled():
        figure, rows = figures.new_panels(width, height * len(targets), len(targets), dpi=plane.DPI)
        for (axes,), name in zip(rows, targets, strict=True):
            drawn = list(_drawable(study, name))
            if drawn:
                _draw_panel(axes, study, name, drawn, options)
            else:
                _draw_empty(axes, name)
    return figure


def _draw_empty(axes: Axes, name: str) -> None:
    axes.set_axis_off()
    axes.set_title(f"Architecture {name}", fontsize=14)
    axes.text(0.5, 0.5, f"no results for {name}", transform=axes.transAxes, ha="center", va="center", fontsize=14)


def _draw_panel(axes: Axes, study: Study, name: str, drawn: Sequence[tuple[str, Cell]], options: Options) -> None:
    every = np.concatenate([_values(cell, options.curve).ravel() for _, cell in drawn])
    longest = max(cell.val_TE.shape[1] for _, cell in drawn)
    for mode, cell in drawn:
        for position, line in enumerate(lines_of(cell, mode, options)):
            _draw_line(axes, study, line, named=position == 0, thin=options.trials == "all")
    low, high = limits(every)
    if low <= study.z_val <= high:
        axes.axhline(study.z_val, color=palette.BLACK, linestyle="--", linewidth=1.2, label="ZeroR Baseline", zorder=4)
    else:
        place = "below" if study.z_val < low else "above"
        said = f"ZeroR Baseline {study.z_val:.2f} %, {place} this axis"
        axes.text(0.985, 0.03, said, transform=axes.transAxes, ha="right", fontsize=10, zorder=10)
    axes.set_xlim(study.first_loop - 0.5, study.first_loop + longest - 0.5)
    _scale_accuracy(axes, every)
    axes.grid(True, alpha=0.3)
    axes.set_title(f"Architecture {name}", fontsize=14)
    axes.set_xlabel("Meta-Loop", fontsize=12)
    said = "Validation Accuracy (%)" if options.curve == "val" else "Best Validation Accuracy so far (%)"
    axes.set_ylabel(said, fontsize=12)
    axes.tick_params(labelsize=10)
    # Beside the panel's lower right corner: inside it would hide late improvements.
    axes.legend(loc="lower left", bbox_to_anchor=(1.0, 0.0), fontsize=10)
    _draw_regime(axes, regimes.classify(study, options.rules, [name])[name].regime)


def _draw_line(axes: Axes, study: Study, line: Line, *, named: bool, thin: bool) -> None:
    from matplotlib import patheffects

    width = 1.0 if thin else 2.0
    # A thin grey rim keeps yellow legible on white.
    rim = [patheffects.Stroke(linewidth=width + 0.6, foreground="#757575", alpha=0.35), patheffects.Normal()]
    axes.plot(
        study.first_loop + np.arange(len(line.values_E)),
        line.values_E,
        color=palette.MODE_COLOURS[line.mode],
        linewidth=width,
        alpha=0.8,
        label=palette.MODE_TITLES[line.mode] if named else None,
        path_effects=rim,
        zorder=3,
    )


def _scale_accuracy(axes: Axes, values: NDArray[np.float64]) -> None:
    from matplotlib.ticker import FormatStrFormatter, MultipleLocator

    low, high = limits(values)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(MultipleLocator(tick_step(high - low)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%.1f%%"))


def _draw_regime(axes: Axes, regime: str) -> None:
    from matplotlib.colors import to_rgba

    axes.text(
        0.015,
        0.97,
        palette.REGIME_TITLES[regime],
        transform=axes.transAxes,
        ha="left",
        va="top",
        fontsize=11,
        zorder=10,
        bbox={
            "boxstyle": "round",
            "facecolor": to_rgba(palette.REGIME_COLOURS[regime], 0.25),
            "edgecolor": palette.REGIME_COLOURS[regime],
        },
    )


def _table(study: Study, targets: Sequence[str], options: Options) -> Table:
    rows = [
        (name, mode, line.trial, study.first_loop + loop, value)
        for name in targets
        for mode, cell in _drawable(study, name)
        for line in lines_of(cell, mode, options)
        for loop, value in enumerate(line.values_E.tolist())
        if np.isfinite(value)
    ]
    described = (
        Column("architecture", "architecture"),
        Column("mode", "mode"),
        Column("trial", "trial", form="d"),
        Column("loop", "loop", form="d"),
        Column("accuracy", "accuracy", "%", ".2f"),
    )
    return Table(described, tuple(rows))


ANALYZER = xfw.Analyzer(
    "convergence",
    "validation accuracy loop by loop, one panel per network, with its regime",
    run,
    options=Options,
    available=cells.available,
)
