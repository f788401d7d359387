"""The figures: measured quantities with the laws on top, the errors of the laws, and a table of both."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import xfw
from numpy.typing import NDArray
from xfw.analysis import figures
from xfw.analysis.output import Output
from xfw.analysis.tables import Column, Table

from xfw_neural_mechanics.config import LAWS
from xfw_neural_mechanics.quantities import Array, law_error, layer_error, layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ANALYZERS"]

KINDS = ("translation", "scale", "rescale")
LABELS = {
    "translation": "sum of the weights that read a feature",
    "scale": "sum of squares of a layer",
    "rescale": "sum of squares, outgoing less incoming",
}
FIRST_COLUMNS = 10
"""Features whose sums the figure of translation shows."""


@attrs.frozen
class Options:
    """What is drawn."""

    law: str | None = xfw.key(
        None, help="law drawn on top of the measurement; first_order, or oscillator with momentum"
    )
    layers: tuple[str, ...] = xfw.key((), help="layers that are drawn; all where none is given")
    channels: int | None = xfw.key(None, ge=1, help="draw so many channels of a layer instead of their sum")
    time: bool = xfw.key(False, help="draw against time (the sum of learning rates) instead of updates")
    normalise: bool = xfw.key(False, help="divide by the value at step 0")
    trial: int = xfw.key(0, ge=0, help="trial that is drawn; measurements of single trials are compared, not means")


@attrs.frozen
class ErrorOptions:
    """What is drawn."""

    trial: int = xfw.key(0, ge=0, help="trial that is drawn")


def _positions(results: xfw.Results, trial: int) -> list[int]:
    """Return where this trial of every condition stands."""
    found = [place for place, index in enumerate(results.trial) if index == trial]
    if not found:
        raise xfw.UserError(
            f"the run has no trial {trial}", hint=f"it has trials 0 to {max(results.trial)}", exit_code=2
        )
    return found


def _finite(values: Array) -> bool:
    return bool(np.isfinite(values[0]).all())


def _steps(results: xfw.Results, place: int, *, time: bool) -> NDArray[Any]:
    count = int(results.count("record")[place])
    values: NDArray[Any] = results.values("record", "time" if time else "step")[place, :count]
    return values


def _wanted(results: xfw.Results, kind: str, chosen: Sequence[str]) -> list[str]:
    known = layers(results, kind)
    wrong = [name for name in chosen if name not in known]
    if wrong:
        raise xfw.UserError(f"no {kind} groups of layer '{wrong[0]}'", hint=f"layers: {', '.join(known)}", exit_code=2)
    return [name for name in known if not chosen or name in chosen]


def _has_momentum(results: xfw.Results) -> bool:
    swept = [condition.get("optim.momentum") for condition in results.conditions]
    return any(swept) or bool(results.config.get("optim", {}).get("momentum", 0.0))


def draw_kind(results: xfw.Results | None, options: Options, output: Output, *, kind: str) -> None:
    """Draw what was measured as solid lines and the law as dashed ones on top, a panel for each condition."""
    assert results is not None
    names = _wanted(results, kind, options.layers)
    law = options.law or ("oscillator" if _has_momentum(results) else "first_order")
    if law not in LAWS or not any(f"{kind}/{name}/law/{law}" in results.variables("record") for name in names):
        known = [
            own for own in LAWS if any(f"{kind}/{name}/law/{own}" in results.variables("record") for name in names)
        ]
        raise xfw.UserError(f"no predictions of law '{law}'", hint=f"the run has {', '.join(known)}", exit_code=2)
    places = [
        place
        for place in _positions(results, options.trial)
        if any(_finite(results.values("record", f"{kind}/{name}/q")[place]) for name in names)
    ]
    with figures.styled():
        columns = min(len(places), 3)
        rows = -(-len(places) // columns)
        width = 3.4 * columns
        figure, grid = figures.new_panels(width, 2.9 * rows + 0.8, rows, columns)
        panels = [panel for row in grid for panel in row]
        for panel in panels[len(places) :]:
            panel.set_visible(False)
        handles: dict[str, Any] = {}
        for panel, place in zip(panels, places, strict=False):
            handles |= _draw_panel(panel, results, place, names, kind, law, options)
        panels[0].set_ylabel(LABELS[kind] + (", relative to step 0" if options.normalise else ""))
        figures.legend_below(figure, list(handles.values()), width)
        figure.suptitle(f"{kind}, trial {options.trial}\nmeasured broad, law {law} dashed", fontsize=9)
        output.figure(kind if not options.law else f"{kind}-{law}", figure)


def _draw_panel(
    panel: Axes, results: xfw.Results, place: int, names: Sequence[str], kind: str, law: str, options: Options
) -> dict[str, Any]:
    x = _steps(results, place, time=options.time)
    condition = results.condition_labels()[int(results.condition[place])]
    panel.set_title(condition, fontsize=8)
    panel.set_xlabel("time" if options.time else "updates")
    styles = figures.styles(len(names))
    handles: dict[str, Any] = {}
    for name, style in zip(names, styles, strict=False):
        measured = results.values("record", f"{kind}/{name}/q")[place, : len(x)]
        predicted = results.values("record", f"{kind}/{name}/law/{law}")[place, : len(x)]
        if not _finite(measured):
            continue
        if kind == "translation":
            shown = options.channels or FIRST_COLUMNS
            measured, predicted = measured[:, :shown], predicted[:, :shown]
        elif options.channels:
            measured, predicted = measured[:, : options.channels], predicted[:, : options.channels]
        else:
            measured, predicted = measured.sum(1, keepdims=True), predicted.sum(1, keepdims=True)
        if options.normalise:
            measured, predicted = measured / measured[:1], predicted / measured[:1]
        lines = panel.plot(x, measured, color=style.colour, linewidth=3, alpha=0.55, label=name)
        handles[name] = lines[0]
        panel.plot(x, predicted, color="black", linewidth=0.9, linestyle=(0, (4, 3)))
    return handles


def draw_errors(results: xfw.Results | None, options: ErrorOptions, output: Output) -> None:
    """Draw the error of every law, summed over the channels of a layer first, against updates."""
    assert results is not None
    kinds = [kind for kind in KINDS if layers(results, kind)]
    places = _positions(results, options.trial)
    with figures.styled():
        width = 3.4 * len(kinds)
        figure, (panels,) = figures.new_panels(width, 3.9, 1, len(kinds), share=True)
        handles: dict[str, Any] = {}
        for panel, kind in zip(panels, kinds, strict=True):
            panel.set_title(kind, fontsize=9)
            panel.set_yscale("log")
            panel.set_xlabel("updates")
            for law, style in zip(LAWS, figures.STYLES, strict=False):
                handles |= _draw_error(panel, results, places, kind, law, style)
        panels[0].set_ylabel("largest error over layers, relative")
        figures.legend_below(figure, list(handles.values()), width)
        figure.suptitle(f"errors of the laws; trial {options.trial} of every condition", fontsize=10)
        output.figure("error", figure)


def _draw_error(
    panel: Axes, results: xfw.Results, places: Sequence[int], kind: str, law: str, style: Any
) -> dict[str, Any]:
    errors = layer_error(results, kind, law)
    handles: dict[str, Any] = {}
    if errors is None:
        return handles
    for place in places:
        x = _steps(results, place, time=False)
        y = errors[place, : len(x)]
        if np.isfinite(y).any():
            lines = panel.plot(
                x[1:], np.maximum(y[1:], 1e-17), color=style.colour, marker=style.marker, markevery=max(1, len(x) // 8),
                markersize=3.5, fillstyle="none", linewidth=1.0, label=law,
            )  # fmt: skip
            handles[law] = lines[0]
    return handles


def errors_table(results: xfw.Results | None, _options: None, output: Output) -> None:
    """Print the error of every law for every condition: the mean over trials, with its SD and n."""
    assert results is not None
    labels = results.condition_labels()
    rows = []
    for kind in KINDS:
        if not layers(results, kind):
            continue
        for index, label in enumerate(labels):
            mine = np.flatnonzero(np.asarray(results.condition) == index)
            cells: list[Any] = [kind, label]
            numbers = [_error_of(results, kind, law)[mine] for law in LAWS]
            if not any(np.isfinite(own).any() for own in numbers):
                continue
            count = int(np.isfinite(numbers[-1]).sum())
            cells += [_cell(own) for own in numbers]
            rows.append((*cells, count))
    names = ("quantity", "condition", *LAWS, "n")
    columns = tuple(Column(name, name.replace("_", " ")) for name in names)
    note = (
        "Largest error over records and channels, relative to the magnitude; mean ± SD (divisor n - 1) over n trials."
    )
    output.table("theory-error", Table(columns, tuple(rows), "Errors of the laws", "theory-error", notes=(note,)))


def _error_of(results: xfw.Results, kind: str, law: str) -> Array:
    try:
        return law_error(results, kind, law)
    except xfw.UserError:
        return np.full(len(results.trial), np.nan)


def _cell(values: Array) -> str:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "-"
    spread = f" ± {finite.std(ddof=1):.0e}" if len(finite) > 1 else ""
    return f"{finite.mean():.2e}{spread}"


def _available(results: xfw.Results, kind: str) -> str:
    return "" if layers(results, kind) else f"the run has no {kind} groups"


ANALYZERS = (
    *(
        xfw.Analyzer(
            kind, f"{kind}: measured and predicted", functools.partial(draw_kind, kind=kind), Options,
            available=functools.partial(_available, kind=kind),
        )
        for kind in KINDS
    ),
    xfw.Analyzer("error", "errors of the laws against updates", draw_errors, ErrorOptions),
    xfw.Analyzer("theory-error", "table of the laws' errors", errors_table),
)  # fmt: skip
