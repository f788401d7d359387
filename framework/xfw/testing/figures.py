"""What is wrong with a drawn figure: legends over data, entries without a line, lines that look alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xfw.analysis.output import Output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Drawn", "problems_of"]

ALIKE = 12.0
"""Colours nearer than this in CIELAB look alike in one figure; 2.3 is just noticeable side by side."""

STEPS = 40
"""Points looked at on each segment of a line."""


class Drawn(Output):
    """An output that writes nothing and keeps the figures that an analyzer draws, by name."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.figures: dict[str, Figure] = {}

    def figure(self, name: str, figure: Figure) -> None:
        """Keep a figure."""
        self.figures[name] = figure

    def file(self, name: str, content: bytes, *, exact: bool = False) -> Path:  # noqa: ARG002
        """Write nothing."""
        return Path(name)


def problems_of(figure: Figure) -> list[str]:
    """Return what is wrong with a figure, one line each; it is laid out first, in few pixels."""
    figure.set_dpi(72)
    figure.canvas.draw()
    axes_list: list[Any] = [*figure.axes, *(child for axes in figure.axes for child in axes.child_axes)]
    legends: list[Any] = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    found = []
    for legend in legends:
        box = legend.get_window_extent()
        if not (box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1):
            found.append("a legend reaches beyond the figure")
        for axes in axes_list:
            for name, points in data_of(axes):
                inside = (points > (box.x0, box.y0)) & (points < (box.x1, box.y1))
                if inside.all(axis=1).any():
                    found.append(f"a legend lies over {name}")
    for axes in figure.axes:
        found += [f"'{label}' is in a legend and nowhere to be seen" for label in unseen(axes)]
        found += [f"{one} and {other} look alike" for one, other in alike(axes)]
    return list(dict.fromkeys(found))


def data_of(axes: Axes) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield what is drawn in axes, as points on the canvas within their frame."""
    frame = axes.get_window_extent()
    for line in axes.lines:
        if line.get_transform() != axes.transData:
            continue  # a guide across the axes, such as axvline draws
        path = line.get_transform().transform_path(line.get_path()).vertices
        yield f"the line '{line.get_label()}'", clipped(dense(np.asarray(path, float)), frame)
    for collection in axes.collections:
        offsets = np.asarray(collection.get_offset_transform().transform(collection.get_offsets()), float)
        if offsets.size and np.any(np.ma.getdata(collection.get_offsets()) != 0):
            yield "points", clipped(offsets.reshape(-1, 2), frame)
    for patch in axes.patches:
        corners = patch.get_window_extent().corners()
        if patch.get_visible() and patch.get_fill():
            yield "a patch", clipped(np.asarray(corners, float), frame)


def dense(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points along a path."""
    if len(path) < 2:
        return path
    share = np.linspace(0, 1, STEPS)[None, :, None]
    return np.concatenate((path[:-1, None] * (1 - share) + path[1:, None] * share).reshape(1, -1, 2))


def clipped(points: NDArray[np.float64], frame: Any) -> NDArray[np.float64]:
    """Return the finite points within a frame."""
    kept = np.isfinite(points).all(axis=1)
    points = points[kept]
    inside = (points >= (frame.x0 - 1, frame.y0 - 1)) & (points <= (frame.x1 + 1, frame.y1 + 1))
    return points[inside.all(axis=1)]


def unseen(axes: Axes) -> list[str]:
    """Return the labels of a legend's lines that have no point within the axes."""
    legend = axes.get_legend()
    named = {text.get_text() for text in legend.get_texts()} if legend else set()
    lines: dict[str, int] = {}
    for line in axes.lines:
        path = line.get_transform().transform_path(line.get_path()).vertices
        points = clipped(dense(np.asarray(path, float)), axes.get_window_extent())
        lines[str(line.get_label())] = lines.get(str(line.get_label()), 0) + len(points)
    return [label for label, points in lines.items() if label in named and not points]


def alike(axes: Axes) -> list[tuple[str, str]]:
    """Return pairs of named lines of nearly one colour, with the same dashes and marker."""
    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    return [
        (repr(one.get_label()), repr(other.get_label()))
        for one, other in itertools.combinations(named, 2)
        if (one.get_linestyle(), one.get_marker()) == (other.get_linestyle(), other.get_marker())
        and float(np.linalg.norm(lab(one.get_color()) - lab(other.get_color()))) < ALIKE
    ]


def lab(colour: Any) -> NDArray[np.float64]:
    """Return a colour in CIELAB (D65)."""
    from matplotlib.colors import to_rgb

    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
