"""The analyzer ``plots``: draw the ten figures of the paper, from a run or from published files (spec 7.4).

Axes: G iteration, X iteration at which a curve has a value.
"""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import xfw
from numpy.typing import NDArray

from xfw_neuronal_decay.analysis import chosen
from xfw_neuronal_decay.analysis.figures import AVERAGE, PLOTS, Curve, Plot
from xfw_neuronal_decay.sample import Parameters, Sample, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["Line", "Options", "draw", "line_of", "run"]

FORMS = ("pdf", "svg", "png")
SIZE = (10.0, 5.0)
INSET_LEFT, INSET_BOTTOM, INSET_WIDTH, INSET_HEIGHT = (0.173, 0.568), 1.08, 0.293, 0.32
BEFORE, AFTER = 10, 100
ZOOM_LOW, HIGH = 80.0, 100.0
GREY = "0.5"
IMAGES = 60_000
"""Training images of the published study, whose axes are fixed; those of other data reach down to the curves."""

SETTINGS: Any = {
    "font.family": "serif",
    "font.serif": ["STIXGeneral", "DejaVu Serif"],
    "mathtext.fontset": "stix",
    "text.parse_math": True,
    "axes.grid": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": False,
    "savefig.bbox": "tight",
    "legend.frameon": True,
    "legend.fancybox": True,
    "legend.facecolor": "0.92",
    "legend.fontsize": 16,
    "axes.labelsize": 18,
    "xtick.labelsize": 16,
    "ytick.labelsize": 22,
}


@attrs.frozen
class Options:
    """What is drawn, and how it is written."""

    published: str | None = chosen.published_key()
    trials: tuple[int, ...] | None = chosen.trials_key()
    numbers: tuple[int, ...] | None = chosen.numbers_key()
    allow_coarse: bool = chosen.allow_coarse_key()
    usetex: bool = xfw.key(False, help="set the text in LaTeX, which must be installed")
    format: str | None = xfw.key(None, choices=FORMS, help="pdf, svg or png; default: pdf, or what --format says")


@attrs.frozen(eq=False)
class Line:
    """The points of one curve: mean, and standard deviation (divisor n - 1; NaN for a single trial)."""

    x_X: NDArray[np.int64]
    mean_X: NDArray[np.float64]
    sd_X: NDArray[np.float64]


def run(results: Results | None, options: Options, output: Output) -> None:
    """Write every figure whose experiments are there; name those that are left out."""
    study = chosen.study(results, options)
    chosen.refuse_coarse(study, options.allow_coarse)
    if options.usetex and shutil.which("latex") is None:
        raise xfw.WrongInput("$.usetex: there is no program 'latex'", hint="leave it out: usetex=false")
    for note in study.notes:
        output.say(f"note: {note}")
    forms = [options.format] if options.format else _forms(output)
    samples = _by_number(study)
    for plot in PLOTS if forms else ():
        missing = [number for number in plot.numbers if number not in samples]
        if missing:
            output.warn(f"warning: '{plot.name}' is left out: no results for {_named(missing)}")
            continue
        with styled(usetex=options.usetex):
            figure = draw(plot, samples, output)
            for form in forms:
                output.file(f"{plot.name}.{form}", _rendered(figure, form), exact=True)


def _named(numbers: Sequence[int]) -> str:
    return f"experiment{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _forms(output: Output) -> list[str]:
    """Return the formats that were asked for, PDF where none was."""
    wanted = [form for form in FORMS if output.wants(form)]
    return ["pdf"] if len(wanted) == len(FORMS) else wanted


def _by_number(study: Study) -> dict[int, Sample]:
    """Return the samples by number; refuse two of one number, whose trials must not be averaged."""
    found: dict[int, Sample] = {}
    for sample in study.samples:
        if sample.number in found:
            raise xfw.WrongInput(
                f"experiment {sample.number} has several conditions: {found[sample.number].label}; {sample.label}",
                hint="a figure shows one: draw a run that holds one of them",
            )
        found[sample.number] = sample
    return found


@contextmanager
def styled(*, usetex: bool = False) -> Iterator[None]:
    """Draw in the paper's style, whatever the user's own matplotlib configuration says."""
    import matplotlib as mpl
    from xfw.analysis.figures import styled as neutral

    with neutral():
        mpl.rcParams.update(SETTINGS)
        if usetex:
            mpl.rcParams.update({"text.usetex": True, "font.serif": ["Times"]})
        yield


def _rendered(figure: Figure, form: str) -> bytes:
    from xfw.analysis.figures import METADATA

    file = io.BytesIO()
    figure.savefig(file, format=form, metadata=dict(METADATA[form]))
    return file.getvalue()


# --- one figure ------------------------------------------------------------------------------------------


def line_of(sample: Sample, task: int) -> Line:
    """Return the mean and the spread over trials of a task's accuracy, or of the average accuracy."""
    values_RG = sample.averages if task == AVERAGE else sample.accuracies[:, :, task - 1]
    x_X = np.flatnonzero(np.isfinite(values_RG).all(0))
    values = values_RG[:, x_X]
    sd_X = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(len(x_X), np.nan)
    return Line(x_X, values.mean(axis=0), sd_X)


def draw(plot: Plot, samples: Mapping[int, Sample], output: Output) -> Figure:
    """Return one figure; ``samples`` holds the experiments that it needs."""
    from xfw.analysis.figures import new_figure

    figure, axes = new_figure(*SIZE)
    curves = [curve for curve in plot.curves if curve.task <= samples[curve.number].parameters.tasks]
    lines = {curve: line_of(samples[curve.number], curve.task) for curve in curves}
    parameters = samples[plot.curves[0].number].parameters
    legends = {curve: curve.text(samples[curve.number].parameters) for curve in curves}
    _draw_curves(axes, plot, lines, legends)
    for place, switch in enumerate(parameters.switches[:-1]):
        label = "Task switch" if place == 0 else None
        axes.axvline(switch, color="black", alpha=0.25, linewidth=3, linestyle=":", zorder=0, label=label)
    low = _low(plot.low, parameters, lines, room=15.0)
    axes.set_ylim(low, HIGH)
    axes.set_xticks([0, *parameters.switches])
    axes.margins(x=0.02)
    axes.set_xlabel("Mini-batch index")
    axes.set_ylabel(plot.label)
    corner: Any = plot.legend
    axes.legend(loc=corner)
    if plot.zoom:
        _zoom(axes, plot, lines, parameters, _low(ZOOM_LOW, parameters, lines), output)
    return figure


def _draw_curves(
    axes: Axes, plot: Plot, lines: Mapping[Curve, Line], legends: Mapping[Curve, str] | None = None
) -> None:
    for curve, line in lines.items():
        label = legends[curve] if legends else None
        axes.plot(line.x_X, line.mean_X, color=curve.colour, linewidth=plot.width, label=label)
        if plot.bands and np.isfinite(line.sd_X).any():
            low, high = line.mean_X - line.sd_X, line.mean_X + line.sd_X
            axes.fill_between(line.x_X, low, high, color=curve.colour, alpha=0.25, linewidth=0)


def _low(fixed: float, parameters: Parameters, lines: Mapping[Curve, Line], room: float = 0.0) -> float:
    """Return the lower end of an axis: the published one, or for other data one below every dip of an old task.

    ``room`` is kept free below the curves, for the legend.
    """
    if parameters.train_images == IMAGES:
        return fixed
    lowest = fixed
    for curve, line in lines.items():
        dips = line.x_X >= parameters.iterations * max(1, curve.task)
        lowest = min([lowest, *(line.mean_X - np.nan_to_num(line.sd_X))[dips].tolist()])
    return 5.0 * math.floor(lowest / 5.0) - room


def _zoom(
    axes: Axes, plot: Plot, lines: Mapping[Curve, Line], parameters: Parameters, low: float, output: Output
) -> None:
    """Show the iterations around each switch above the main axes, at most two switches side by side."""
    switches = parameters.switches[:-1]
    if len(switches) > len(INSET_LEFT):
        output.warn(f"warning: '{plot.name}' has no insets: {len(switches)} switches do not fit side by side")
        return
    for left, switch in zip(INSET_LEFT, switches, strict=False):
        inset = axes.inset_axes((left, INSET_BOTTOM, INSET_WIDTH, INSET_HEIGHT))
        _draw_curves(inset, plot, lines)
        window = (switch - BEFORE, switch + min(AFTER, 3 * parameters.iterations // 5))
        inset.set_xlim(*window)
        inset.set_ylim(low, HIGH)
        inset.set_xticks(window)
        inset.set_yticks([low, HIGH])
        inset.xaxis.tick_top()
        inset.tick_params(labelsize=16)
        inset.set_facecolor((0.97, 0.97, 0.96))
        for side in ("left", "bottom"):
            inset.spines[side].set_color("grey")
        _mark_window(axes, inset, window, low)


def _mark_window(axes: Axes, inset: Axes, window: tuple[int, int], low: float) -> None:
    """Frame a window in the main axes and join the frame's upper corners to the inset."""
    from matplotlib.patches import ConnectionPatch, Rectangle

    style: dict[str, Any] = {"edgecolor": GREY, "linestyle": ":", "linewidth": 1.2}
    axes.add_patch(Rectangle((window[0], low), window[1] - window[0], HIGH - low, fill=False, clip_on=False, **style))
    for x, corner in zip(window, (0.0, 1.0), strict=True):
        axes.add_artist(
            ConnectionPatch(
                (x, HIGH), (corner, 0.0), coordsA=axes.transData, coordsB=inset.transAxes, clip_on=False, **style
            )
        )
