"""The analyzer ``support``: support of active and inactive cells over the epochs (spec 6.2).

Axes: N trial, E epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import xfw
from numpy.typing import NDArray
from xfw.analysis import figures
from xfw.analysis.output import Output
from xfw.analysis.tables import Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xfw.store.results import Results

__all__ = ["ANALYZER", "Options", "run"]

TOP = 20.0
NAMES = ("support_active_mean", "support_active_min", "support_active_max", "support_inactive_mean")


@attrs.frozen
class Options:
    """What to draw."""

    trial: int | None = xfw.key(None, ge=0, help="one trial; by default the mean over the trials")
    limit: bool = xfw.key(False, help="a line at λ, beyond which support inhibits")


def available(results: Results) -> str:
    """Say why there is nothing to draw."""
    if "epoch" in results.streams() and "support_active_mean" in results.variables("epoch"):
        return ""
    return "the run has no support: it trained no lateral layer"


def run(results: Results | None, options: Options, output: Output) -> None:
    """Write the figure and its numbers, for every condition."""
    assert results is not None
    labels = results.condition_labels()
    for condition, label in enumerate(labels):
        chosen = results.condition == condition
        if options.trial is not None:
            chosen &= results.trial == options.trial
        if not chosen.any():
            continue
        prefix = f"{label}_" if len(labels) > 1 else ""
        curves = {name: _curve(results, name, chosen) for name in NAMES}
        epochs = np.asarray(results.coordinate("epoch"))[: len(curves[NAMES[0]])]
        output.data(f"{prefix}support", _table(epochs, curves))
        output.figure(f"{prefix}support", _draw(epochs, curves, _limit(results, condition) if options.limit else None))
        output.say(f"{prefix}support: {int(chosen.sum())} trials, {len(epochs)} epochs")


def _curve(results: Results, name: str, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over trials; of minima the smallest and of maxima the largest."""
    values_NE = np.asarray(results.values("epoch", name), np.float64)[chosen]
    rows = np.arange(values_NE.shape[1])[None, :]
    values_NE = np.where(rows < results.count("epoch")[chosen][:, None], values_NE, np.nan)
    reduce = {"min": np.nanmin, "max": np.nanmax}.get(name.rpartition("_")[2], np.nanmean)
    defined = np.isfinite(values_NE).any(0)
    found = np.full(values_NE.shape[1], np.nan)
    found[defined] = reduce(values_NE[:, defined], axis=0)
    return found


def _limit(results: Results, condition: int) -> float:
    from xfw.store.sources import nest

    s2 = nest(results.config, results.conditions[condition])["s2"]
    return float(s2["support_factor"]) * (2 * int(s2["locality"]) + 1)


def _table(epochs: NDArray[np.int64], curves: dict[str, NDArray[np.float64]]) -> Table:
    rows = tuple((int(epoch), *(float(curves[name][place]) for name in NAMES)) for place, epoch in enumerate(epochs))
    columns = (Column("epoch", "epoch", form="d"), *(Column(name, name, form=".3f") for name in NAMES))
    return Table(columns, rows, caption="Support strength")


def _draw(epochs: NDArray[np.int64], curves: dict[str, NDArray[np.float64]], limit: float | None) -> Figure:
    mean, low, high, silent = (curves[name] for name in NAMES)
    with figures.styled():
        figure, axes = figures.new_figure(6.0, 4.0)
        axes.plot(epochs, mean, color="tab:blue", label="active cells, mean")
        axes.fill_between(epochs, low, high, color="lightblue", alpha=0.5, linewidth=0, label="active cells, range")
        axes.plot(epochs, silent, color="tab:orange", label="inactive cells, mean")
        if limit is not None:
            axes.axhline(limit, color="tab:red", linestyle="--", label="limit λ")
        axes.set_ylim(0, TOP)
        axes.set_xlabel("Epoch")
        axes.set_ylabel("Support Strength")
        figures.legend_below(figure, axes.get_legend_handles_labels()[0], 6.0)
    return figure


ANALYZER = xfw.Analyzer("support", "support of cells over the epochs", run, options=Options, available=available)
