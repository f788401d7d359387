"""Names of networks in the depth-width plane, placed so that none hides another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from xfw_psa.analysis.configurations import Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AROUND", "BESIDE", "WIDER", "Label", "Style", "along", "bezier", "crowded_squares", "draw", "place"]

Point = tuple[float, float]

INK = "#212121"
LEADER = "#757575"
CROWDED = 1.5
"""Squares count as crowded up to this multiple of the mean distance between neighbouring squares."""


@attrs.frozen
class Offset:
    """A factor of depth or width, and what the largest marker adds to it."""

    base: float
    gain: float = 0.0

    def of(self, reach: float) -> float:
        """Return the factor for a marker whose radius is scaled to 0 to 1."""
        return self.base + self.gain * reach


@attrs.frozen
class Style:
    """How names are written and where they stand.

    Squares have their names to the right; with ``diagonal`` all others have theirs to the upper right, without
    it wide networks above and narrow ones below. ``control`` is the control point of the curve of crowded squares,
    in multiples of the middle one's depth.
    """

    sign: str
    font: str
    sizes: tuple[float, float, float]
    right: Offset
    control: Point
    above: Offset = Offset(1.0)
    below: Offset = Offset(1.0)
    diagonal: float | None = None


BESIDE = Style("×", "sans-serif", (8, 8, 8), Offset(1.15), (4.0, 0.2), diagonal=1.1)
AROUND = Style(
    "*", "monospace", (7, 6, 6), Offset(1.025, 0.2), (4.0, 0.2), above=Offset(1.025, 0.14), below=Offset(0.975, -0.13)
)
WIDER = Style("*", "monospace", (7, 6, 6), Offset(1.15), (6.0, 0.15), above=Offset(1.15), below=Offset(0.9))
"""Three styles; where the published factors let a name touch its neighbour's marker or the axis, ours are smaller."""
CROWDED_SIZE = 6.0
BOX = 3.0
"""How many times a name is wider than it is high."""


@attrs.frozen
class Label:
    """One name: the point that it belongs to, its place and alignment; ``leader`` joins the two by a line."""

    text: str
    point: Point
    place: Point
    horizontal: str
    vertical: str
    size: float
    leader: bool = False


def crowded_squares(shapes: Sequence[Shape]) -> list[int]:
    """Return the depths of squares that have a neighbour too close for two names, the deepest first."""
    depths = sorted({shape.depth for shape in shapes if shape.depth == shape.width}, reverse=True)
    distances = [math.log10(first / second) for first, second in itertools.pairwise(depths)]
    if not distances:
        return []
    limit = CROWDED * sum(distances) / len(distances)
    near = [distance <= limit for distance in distances]
    sides = zip([False, *near], [*near, False], strict=True)
    return [depth for depth, (before, after) in zip(depths, sides, strict=True) if before or after]


def bezier(first: Point, control: Point, last: Point, parameter: float) -> Point:
    """Return the point of a quadratic Bézier curve at a parameter from 0 to 1."""
    a, b, c = (1 - parameter) ** 2, 2 * parameter * (1 - parameter), parameter**2
    return a * first[0] + b * control[0] + c * last[0], a * first[1] + b * control[1] + c * last[1]


def along(first: Point, control: Point, last: Point, count: int) -> list[Point]:
    """Return points of the curve, both ends included, whose names have equal room.

    The published figures take equidistant parameters, which lets names touch where the curve begins.
    Distances are logarithmic, as the plane is, and count less across than up, since a name is a wide box.
    """
    import numpy as np

    fine = np.linspace(0.0, 1.0, 1001)
    x, y = np.log(np.array([bezier(first, control, last, t) for t in fine.tolist()])).T
    length = np.concatenate([[0.0], np.cumsum(np.maximum(abs(np.diff(x)) / BOX, abs(np.diff(y))))])
    chosen = np.interp(np.linspace(0.0, length[-1], count), length, fine)
    return [bezier(first, control, last, t) for t in chosen.tolist()]


def place(shapes: Sequence[Shape], style: Style, reach: Sequence[float] | None = None) -> list[Label]:
    """Return one label for each network; ``reach`` holds the radii of the markers, scaled to 0 to 1."""
    radii = dict(zip(shapes, reach if reach is not None else [0.0] * len(shapes), strict=True))
    curve = _curve(shapes, style, radii)
    return [
        Label(_text(shape, style), _point(shape), curve[shape], "left", "center", CROWDED_SIZE, leader=True)
        if shape in curve
        else _single(shape, style, radii[shape])
        for shape in shapes
    ]


def _curve(shapes: Sequence[Shape], style: Style, radii: dict[Shape, float]) -> dict[Shape, Point]:
    """Return the places of crowded squares; the curve begins and ends where a lone square has its name."""
    crowded = [Shape(depth, depth) for depth in crowded_squares(shapes)]
    if len(crowded) < 3:
        return {}
    first, last = ((each.depth * style.right.of(radii[each]), float(each.width)) for each in (crowded[0], crowded[-1]))
    middle = crowded[len(crowded) // 2].depth
    control = (style.control[0] * middle, style.control[1] * middle)
    return dict(zip(crowded, along(first, control, last, len(crowded)), strict=True))


def _single(shape: Shape, style: Style, reach: float) -> Label:
    text, point = _text(shape, style), _point(shape)
    depth, width = point
    wide, narrow, square = style.sizes
    if shape.width == shape.depth:
        return Label(text, point, (depth * style.right.of(reach), width), "left", "center", square)
    if style.diagonal is not None:
        return Label(text, point, (depth * style.diagonal, width * style.diagonal), "left", "bottom", wide)
    if shape.width > shape.depth:
        return Label(text, point, (depth, width * style.above.of(reach)), "center", "bottom", wide)
    return Label(text, point, (depth, width * style.below.of(reach)), "center", "top", narrow)


def _text(shape: Shape, style: Style) -> str:
    return f"{shape.depth}{style.sign}{shape.width}"


def _point(shape: Shape) -> Point:
    return float(shape.depth), float(shape.width)


def draw(axes: Axes, labels: Sequence[Label], style: Style, *, zorder: float = 1.5) -> None:
    """Write the names, and at ``zorder`` thin grey lines to those that stand away from their markers."""
    for label in labels:
        axes.text(
            *label.place,
            label.text,
            horizontalalignment=label.horizontal,
            verticalalignment=label.vertical,
            fontsize=label.size,
            family=style.font,
            color=INK,
            alpha=0.8 if style.font == "monospace" else 1.0,
            zorder=20,
        )
    for start, end in _leaders(labels):
        axes.plot(*zip(start, end, strict=True), color=LEADER, linewidth=0.5, alpha=0.6, zorder=zorder, gid="leader")


def _leaders(labels: Sequence[Label]) -> Iterator[tuple[Point, Point]]:
    for label in labels:
        if label.leader:
            yield label.point, label.place
