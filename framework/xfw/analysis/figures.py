"""Figures that come out byte for byte the same, legible in print and for colour-blind readers."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DASHES",
    "FORMATS",
    "STYLES",
    "LineStyle",
    "legend_below",
    "legend_columns",
    "new_figure",
    "new_panels",
    "render",
    "shortened",
    "styled",
    "styles",
]

FORMATS = ("pdf", "svg", "png")


@attrs.frozen
class LineStyle:
    """Colour, dash pattern and marker of one condition; any two styles differ without colour too."""

    colour: str
    dashes: Any
    marker: str


# Okabe and Ito, "Color Universal Design", without yellow, which is too pale for a line.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "X", "v", "P", "<", ">", "p", "h", "*")

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
"""Lines that differ without colour."""

STYLES = tuple(LineStyle(colour, "-", marker) for colour, marker in zip(_COLOURS, _MARKERS, strict=False))
"""Styles of conditions that have no order: seven colours, each with its own marker."""


def styles(count: int) -> Sequence[LineStyle]:
    """Return styles for so many conditions: named colours for few, from dark to light for many in an order."""
    if count <= len(STYLES):
        return STYLES
    import matplotlib as mpl

    ramp = mpl.colormaps["viridis"].resampled(256)
    return [
        LineStyle(mpl.colors.to_hex(ramp(0.92 * place / (count - 1))), "-", _MARKERS[place % len(_MARKERS)])
        for place in range(count)
    ]


SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.dpi": 200,
    "savefig.dpi": "figure",
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
    "svg.hashsalt": "xfw",
    "svg.fonttype": "path",
    "text.parse_math": False,
}
"""Texts are drawn as they are written, since labels hold what users typed; ``parse_math=True`` of one text asks for
mathematics in it."""

METADATA: Mapping[str, Mapping[str, Any]] = {
    "pdf": {"Creator": "xfw", "Producer": None, "CreationDate": None},
    "svg": {"Creator": "xfw", "Date": None},
    "png": {"Software": None},
}
"""No dates and no versions: they would make two renderings of one run differ."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw with our settings alone, whatever the user's own matplotlib configuration or backend says."""
    mpl = matplotlib()
    with mpl.rc_context():
        # The backend stays: to set it would import it, and figures need none.
        mpl.rcParams.update({name: value for name, value in mpl.rcParamsDefault.items() if "backend" not in name})
        mpl.rcParams.update(SETTINGS)
        yield


def matplotlib() -> Any:
    """Import matplotlib, also where ``MPLBACKEND`` names a backend that is not there (a notebook passes its own on)."""
    chosen = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    finally:
        if chosen is not None:
            os.environ["MPLBACKEND"] = chosen
    return mpl


def new_figure(width: float = 6.0, height: float = 4.0, *, dpi: float = 200) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches with one pair of axes; it needs no display. ``dpi`` is that of its PNG."""
    figure, ((axes,),) = new_panels(width, height, dpi=dpi)
    return figure, axes


def new_panels(
    width: float, height: float, rows: int = 1, columns: int = 1, *, dpi: float = 200, share: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of this size in inches with rows of axes; it needs no display.

    ``dpi`` is that of its PNG. Panels that ``share`` have the same limits.
    """
    matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).tolist()


def shortened(text: str, most: int = 60) -> str:
    """Return text that fits into a legend: of a long one both ends, since swept values often begin alike."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 + 1 :]}"


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Return how many columns of a legend fit below a figure; characters of 0.075 inches beside a line of 0.7."""
    wide = 0.7 + 0.075 * max(map(len, labels), default=0)
    return max(1, min(len(labels), int(width / wide)))


def legend_below(figure: Figure, handles: Sequence[Any], width: float, **how: Any) -> None:
    """Put a legend below the panels, where it hides no data; ``how`` goes to matplotlib."""
    labels = [str(handle.get_label()) for handle in handles]
    columns = {"ncols": legend_columns(labels, width)}
    figure.legend(handles=list(handles), loc="outside lower left", **(columns | how))


def render(figure: Figure, form: str) -> bytes:
    """Return the bytes of a file of the format ``pdf``, ``svg`` or ``png``."""
    from matplotlib.ticker import LogFormatter

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter):  # writes powers of ten as mathematics
                for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                    tick.label1.set_parse_math(True)
                    tick.label2.set_parse_math(True)
    file = io.BytesIO()
    with styled():
        matplotlib().rcParams["text.parse_math"] = True  # ticks that drawing adds; all other texts are there
        figure.savefig(file, format=form, metadata=dict(METADATA[form]))
    return file.getvalue()
