"""The analyzer ``robustness``: six figures of noise and line interrupts (spec 6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import xfw
from xfw.analysis import figures
from xfw.analysis.output import Output
from xfw.analysis.tables import Column, Table

from xfw_netfragments.analysis.rows import MEASURES, SILENT, Row, condition_rows, published_rows
from xfw_netfragments.config import Config, Evaluate
from xfw_netfragments.layer import FEATURES
from xfw_netfragments.presets import NOISES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xfw.store.results import Results

__all__ = ["ANALYZER", "FIGURES", "Options", "draw", "run", "spatial"]

PANEL, HEIGHT, DPI = 13.0 / 3.0, 3.6, 300
FONT, SMALL = 14, 9
MARGIN = 0.01
NOISE_TICKS = (0.0, 0.05, 0.1, 0.15, 0.2)


@attrs.frozen
class Options:
    """What to draw."""

    published: str | None = xfw.key(
        None, replaces_run=True, help="file in the layout of the published results, drawn in place of a run"
    )


@attrs.frozen
class Figures:
    """One of the six figures: its file, measure, y label, limits (the lower one at most), and what is on the x axis."""

    name: str
    measure: str
    label: str
    limits: tuple[float, float]
    noise: bool
    titled: bool = False


FIGURES = (
    Figures("1_noise_reduction", "noise_reduction", "Noise Reduction\nRate", (0.795, 1.005), True, True),
    Figures("2_recon_recall", "recall", "Recall", (0.08, 1.02), True),
    Figures("3_recon_precision", "precision", "Precision", (0.08, 1.02), True),
    Figures(
        "4_avg_line_recon_accuracy", "line_reconstruction", "Feature Reconstruction\nRate", (-0.02, 1.02), False, True
    ),
    Figures("5_recon_recall", "recall", "Recall", (0.49, 1.01), False),
    Figures("6_recon_precision", "precision", "Precision", (0.49, 1.01), False),
)


def spatial(noise: float) -> float:
    """Return the share of positions at which feature noise flips any feature (spec 5.4)."""
    return 1.0 - (1.0 - noise) ** FEATURES


def available(results: Results) -> str:
    """Say why there is nothing to draw."""
    return "" if "evaluation" in results.streams() else "the run has no evaluation: run its stage evaluate"


def run(results: Results | None, options: Options, output: Output) -> None:
    """Write the six figures and the table of their numbers, for every condition."""
    if options.published is not None:
        _write(published_rows(Path(options.published)), "", output, _silent_of_paper())
        return
    assert results is not None
    labels = results.condition_labels()
    for condition, label in enumerate(labels):
        if (results.condition == condition).any():
            prefix = f"{label}_" if len(labels) > 1 else ""
            rows = condition_rows(results, condition)
            _write(rows, prefix, output, {row.noise: row.drawn(SILENT)[0] for row in rows if row.noise > 0})


def _write(rows: Sequence[Row], prefix: str, output: Output, silent: dict[float, float]) -> None:
    output.table(f"{prefix}robustness", _table(rows), shown=False)
    for spec in FIGURES:
        chosen = [row for row in rows if (row.interrupt == 0 if spec.noise else row.noise == 0)]
        places = {row.noise if spec.noise else row.interrupt for row in chosen}
        if len(places) < 2:
            corruption = "noises" if spec.noise else "line interrupts"
            output.say(f"{prefix}{spec.name}: left out, it needs at least two {corruption}")
            continue
        output.figure(f"{prefix}{spec.name}", draw(spec, chosen, silent))
        output.say(f"{prefix}{spec.name}: {len(chosen)} points")


def _table(rows: Sequence[Row]) -> Table:
    start = [Column("theta", "θ"), Column("gamma", "γ"), Column("noise", "noise", form=".2f")]
    start += [Column("line_interrupt", "line interrupt", form="d"), Column("n", "n", form="d")]
    columns = [
        *start,
        *(Column(f"{name}{part}", f"{name}{part}", form=".4f") for name in MEASURES for part in ("", "_sd")),
    ]
    lines = []
    for row in rows:
        head = (row.label if row.theta is None else f"{row.theta:g}", _schedule(row), row.noise, row.interrupt)
        numbers = (number for name in MEASURES for number in row.values[name][:2])
        lines.append((*head, row.values["accuracy"][2], *numbers))
    note = "Mean and standard deviation (ddof 1) over the trials and repeats, n of them."
    return Table(tuple(columns), tuple(lines), caption="Robustness", notes=(note,))


def _schedule(row: Row) -> str:
    return "" if row.schedule is None else f"{row.schedule[0]:g} + {row.schedule[1]:g}t"


def draw(spec: Figures, rows: Sequence[Row], silent: dict[float, float]) -> Figure:
    """Return one figure: a panel for each schedule, a line for each threshold."""
    known = sorted({row.schedule for row in rows if row.schedule is not None})
    panels = [*known, *([None] if any(row.schedule is None for row in rows) else [])]
    with figures.styled():
        import matplotlib as mpl

        mpl.rcParams["font.size"] = FONT
        mpl.rcParams["axes.titlesize"] = mpl.rcParams["axes.labelsize"] = FONT
        figure, (axes,) = figures.new_panels(PANEL * len(panels), HEIGHT, 1, len(panels), dpi=DPI)
        for place, schedule in enumerate(panels):
            _panel(axes[place], spec, [row for row in rows if row.schedule == schedule], silent)
            if spec.titled:
                start = "Autoencoder" if schedule is None else f"Power Factor γ = {schedule[0]:g} + {schedule[1]:g}t"
                axes[place].set_title(start)
        axes[0].set_ylabel(spec.label)
        values = [row.drawn(spec.measure) for row in rows]
        lowest = min([spec.limits[0], *(mean - spread - MARGIN for mean, spread in values if np.isfinite(mean))])
        for panel in axes:
            panel.set_ylim(lowest, spec.limits[1])
        _legend(figure, axes, _spread([row.values[spec.measure][2] for row in rows if spec.measure in row.values]))
    return figure


def _legend(figure: Figure, panels: Sequence[Axes], spread: str | None) -> None:
    """Explain the lines of all panels below them: within a panel some training would lie behind the legend."""
    handles = {str(line.get_label()): line for axes in panels for line in axes.lines}
    width, _ = figure.get_size_inches()
    columns = max(1, int(width / 1.4))
    figures.legend_below(
        figure, list(handles.values()), width, ncols=columns, title=spread, fontsize=SMALL, title_fontsize=SMALL
    )


def _panel(axes: Axes, spec: Figures, rows: Sequence[Row], silent: dict[float, float]) -> None:
    lines: dict[str, list[Row]] = {}
    for row in sorted(rows, key=_order):
        lines.setdefault(row.label, []).append(row)
    for place, (label, own) in enumerate(lines.items()):
        own = sorted(own, key=lambda row: row.noise if spec.noise else row.interrupt)
        x = np.array([row.noise if spec.noise else row.interrupt for row in own], float)
        mean, deviation = np.array([row.drawn(spec.measure) for row in own]).T
        style = figures.STYLES[place % len(figures.STYLES)]
        axes.plot(x, mean, color=style.colour, linestyle=style.dashes, marker=style.marker, markersize=3, label=label)
        if (deviation > 0).any():
            axes.fill_between(x, mean - deviation, mean + deviation, color=style.colour, alpha=0.2, linewidth=0)
    if spec.measure == "noise_reduction" and silent:
        x = np.array(sorted(silent))
        axes.plot(x, [silent[place] for place in x], color="grey", linestyle="--", linewidth=1, label="silent")
    _axes(axes, spec)


def _spread(counts: Sequence[int]) -> str | None:
    """Return what the bands are, or nothing where there are none; a measure may be undefined in some trials."""
    low, high = min(counts, default=0), max(counts, default=0)
    if high < 2:
        return None
    return f"mean ± SD, n = {high}" if low == high else f"mean ± SD, n = {low} to {high}"


def _order(row: Row) -> float:
    return np.inf if row.theta is None else 0.5 - row.theta


def _axes(axes: Axes, spec: Figures) -> None:
    if not spec.noise:
        axes.set_xlim(-0.1, 7.1)
        axes.set_xlabel("Line Interrupt")
        return
    axes.set_xlim(-0.005, 0.205)
    axes.set_xticks(NOISE_TICKS)
    axes.set_xlabel("Feature Noise")
    top = axes.twiny()
    top.grid(visible=False)
    top.spines["top"].set_visible(True)
    top.set_xlim(*axes.get_xlim())
    top.set_xticks(NOISE_TICKS, [f"{spatial(noise):.2f}" for noise in NOISE_TICKS])
    top.set_xlabel("Spatial Noise")


def _silent_of_paper() -> dict[float, float]:
    """Return the noise reduction of a silent network under the published noise; a published file does not hold it."""
    from xfw_netfragments.imagery import flipped_features, scene
    from xfw_netfragments.points import Corruption

    config = Config(random="published", evaluate=Evaluate())
    shown = scene(config, _no_key, 0)
    found = {}
    for noise in NOISES[1:]:
        _, corrupted = flipped_features(config, _no_key, shown, Corruption(noise, 0), 0)
        found[noise] = float(corrupted.values.mean())
    return found


def _no_key(purpose: str, counter: int) -> np.random.Generator:
    raise AssertionError(f"published draws need no key: {purpose} {counter}")


ANALYZER = xfw.Analyzer(
    "robustness", "noise and line interrupts: six figures", run, options=Options, available=available
)
