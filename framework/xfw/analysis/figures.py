"""Figures that come out byte for byte the same, legible in print and for colour-blind readers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "STYLES", "LineStyle", "new_figure", "new_panels", "render", "styled"]

FORMATS = ("pdf", "svg", "png")


@attrs.frozen
class LineStyle:
    """Colour, dash pattern and marker of one condition; any two styles differ without colour too."""

    colour: str
    dashes: Any
    marker: str


_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")  # Okabe and Ito, "Color Universal Design"
_DASHES = ("-", (0, (4, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")

STYLES = tuple(
    LineStyle(_COLOURS[index % len(_COLOURS)], _DASHES[index // len(_COLOURS)], _MARKERS[index]) for index in range(12)
)
"""Styles of up to twelve conditions: six colours, solid and then dashed, each with its own marker."""

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
}

METADATA: Mapping[str, Mapping[str, Any]] = {
    "pdf": {"Creator": "xfw", "Producer": None, "CreationDate": None},
    "svg": {"Creator": "xfw", "Date": None},
    "png": {"Software": None},
}
"""No dates and no versions: they would make two renderings of one run differ."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw with our settings alone, whatever the user's own matplotlib configuration says."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


def new_figure(width: float = 6.0, height: float = 4.0, *, dpi: float = 200) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches with one pair of axes; it needs no display. ``dpi`` is that of its PNG."""
    figure, ((axes,),) = new_panels(width, height, dpi=dpi)
    return figure, axes


def new_panels(
    width: float, height: float, rows: int = 1, columns: int = 1, *, dpi: float = 200
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of this size in inches with rows of axes; it needs no display. ``dpi`` is that of its PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False).tolist()


def render(figure: Figure, form: str) -> bytes:
    """Return the bytes of a file of the format ``pdf``, ``svg`` or ``png``."""
    file = io.BytesIO()
    with styled():
        figure.savefig(file, format=form, metadata=dict(METADATA[form]))
    return file.getvalue()
