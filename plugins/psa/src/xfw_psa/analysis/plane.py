"""The depth-width plane in which the study's figures stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xfw.analysis import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DPI", "SIZE", "new_plane"]

SIZE = (12.0, 10.0)
DPI = 300


def new_plane(title: str, *, limit: float) -> tuple[Figure, Axes]:
    """Return a figure of depth against width, both logarithmic from 0.8 to ``limit``; call it in ``styled()``."""
    from matplotlib.ticker import FuncFormatter

    figure, axes = figures.new_figure(*SIZE, dpi=DPI)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.8, limit)
    axes.set_ylim(0.8, limit)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("Depth (# of layers)", fontsize=12)
    axes.set_ylabel("Width (neurons per layer)", fontsize=12)
    axes.set_title(title, fontsize=14)
    axes.tick_params(labelsize=10)
    axes.set_axisbelow(True)
    return figure, axes
