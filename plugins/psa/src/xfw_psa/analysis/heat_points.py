"""What all heat maps share: the networks to draw with their results, and how marks are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from xfw.analysis.tables import Column

from xfw_psa.analysis import palette, plane
from xfw_psa.analysis.cells import Cell, Study
from xfw_psa.analysis.configurations import Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["AREA", "COLUMNS", "EDGED", "LIMIT", "SPAN", "Point"]
__all__ += ["colour_bar", "diagonal", "legend", "marks", "new_map", "no_data", "points", "untrainable"]

LIMIT = 4000.0
AREA, SPAN = 7.5, 461.5
"""The area of the smallest mark, and what the largest one has more, in square points."""
ROUNDING = 1e-9
"""The mean of ten equal percentages may miss them by the last bits; no count of images is that small."""
EDGED: Mapping[str, Any] = {"s": 120, "edgecolors": "black", "linewidths": 0.5}
"""The marks of figures that show a category."""
COLUMNS = (
    Column("architecture", "architecture"),
    Column("depth", "depth", form="d"),
    Column("width", "width", form="d"),
)


@attrs.frozen(eq=False)
class Point:
    """One network of the list with its results by mode; ``untrainable``: no mode's mean is above Z."""

    shape: Shape
    modes: Mapping[str, Cell]
    untrainable: bool

    @property
    def row(self) -> tuple[str, int, int]:
        """Return the first columns of the network's row."""
        return self.shape.text, self.shape.depth, self.shape.width


def points(study: Study, shapes: Sequence[Shape]) -> list[Point]:
    """Return the networks of a list with what the study has of them."""
    found = []
    for shape in shapes:
        modes = study.modes(shape.text)
        means = [cell.summary.mean for cell in modes.values()]
        untrainable = bool(means) and max(means) <= study.z_val + ROUNDING
        found.append(Point(shape, modes, untrainable))
    return found


def new_map(study: Study, title: str) -> tuple[Figure, Axes]:
    """Return an empty heat map; call it in ``styled()``."""
    figure, axes = plane.new_plane(f"{study.title}: {title}", limit=LIMIT)
    axes.grid(True, which="both", alpha=0.3)
    return figure, axes


def marks(axes: Axes, chosen: Sequence[Point], label: str, **drawing: Any) -> None:
    """Set one mark for each point, under one name in the legend."""
    depths, widths = [each.shape.depth for each in chosen], [each.shape.width for each in chosen]
    axes.scatter(depths, widths, label=label, **{"zorder": 3, **drawing})


def no_data(axes: Axes, chosen: Sequence[Point]) -> None:
    """Set a brown cross for each network without results; none, and no entry of the legend, where all have some."""
    if chosen:
        marks(axes, chosen, "No data", c=palette.BROWN, s=35, marker="x", linewidths=1.2, zorder=2)


def untrainable(axes: Axes, chosen: Sequence[Point], **drawing: Any) -> None:
    """Set a black mark for each network that no mode trains."""
    marks(axes, chosen, "Untrainable", **{"c": palette.BLACK, "s": 50, "linewidths": 0, **drawing})


def legend(axes: Axes, title: str = "", order: Sequence[str] = ()) -> list[Any]:
    """Explain the marks that carry a name, in this order, all in one size; return the marks of the legend."""
    handles, names = axes.get_legend_handles_labels()
    named = dict(zip(names, handles, strict=True))
    places = {name: index for index, name in enumerate(order)}
    chosen = sorted(named, key=lambda name: places.get(name, len(places)))
    if not chosen:
        return []
    shown = axes.legend(
        [named[name] for name in chosen],
        chosen,
        title=title or None,
        loc="upper center",
        fontsize=10,
        title_fontsize=11,
    )
    shown.set_alignment("left")
    shown.set_zorder(30)
    shown.set_frame_on(True)
    marked: list[Any] = list(shown.legend_handles)
    for mark in marked:
        mark.set_sizes([60])
    return marked


def colour_bar(figure: Figure, axes: Axes, scale: Any, title: str, **drawing: Any) -> Any:
    """Explain a scale of colours beside the map."""
    bar = figure.colorbar(scale, ax=axes, pad=0.02, **drawing)
    bar.set_label(title, fontsize=12)
    bar.ax.tick_params(labelsize=10)
    return bar


def diagonal(axes: Axes) -> None:
    """Draw the line of square networks."""
    axes.plot(
        [0.8, LIMIT], [0.8, LIMIT], color="black", linestyle="--", linewidth=1, alpha=0.3, zorder=1, gid="diagonal"
    )
