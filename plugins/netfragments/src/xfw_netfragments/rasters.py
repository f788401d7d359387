"""Draw straight and curved lines, and cut holes into straight ones.

Axes: H row (y, downwards), W column (x). An end point is (x, y); a line is a pair of end points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Line", "curve", "draw", "draw_all", "interrupt", "rotating_lines", "sign", "training_lines"]

Point = tuple[int, int]
Line = tuple[Point, Point]
Image = NDArray[np.uint8]

MARGIN = 2
"""Lines start and end this far from the border."""


def training_lines(size: int = 32) -> list[Line]:
    """Return the lines of training: first the family that starts at the left edge, then that from the top."""
    ends = range(MARGIN, size - MARGIN + 1)
    last = size - MARGIN
    left: list[Line] = [((MARGIN, y), (last, size - y)) for y in ends]
    top: list[Line] = [((x, MARGIN), (size - x, last)) for x in ends]
    return left + top


def rotating_lines(count: int, size: int = 32) -> list[Line]:
    """Return the lines of the test set: the horizontal one, turned step by step counter-clockwise."""
    line: Line = ((MARGIN, size // 2), (size - MARGIN, size // 2))
    found = []
    for _ in range(count):
        found.append(line)
        line = (_moved(line[0], size), _moved(line[1], size))
    return found


def _moved(point: Point, size: int) -> Point:
    """Return the next place of an end point on its way around the square."""
    x, y = point
    low, high = MARGIN, size - MARGIN
    if x == low:
        return (x, y + 1) if y < high else (x + 1, y)
    if x == high:
        return (x, y - 1) if y > low else (x - 1, y)
    return (x - 1, y) if y == low else (x + 1, y)


def sign(value: int) -> int:
    """Return the direction of a difference; 0 counts as forward."""
    return -1 if value < 0 else 1


def draw(line: Line, size: int = 32) -> Image:
    """Return a line of width 1 as an image; the direction of drawing matters (spec 3.1: Bresenham, both ends)."""
    (x1, y1), (x2, y2) = line
    dx, dy = abs(x2 - x1), abs(y2 - y1)
    image = np.zeros((size, size), np.uint8)
    if dx >= dy:
        for x, y in _walk(x1, y1, dx, dy, sign(x2 - x1), sign(y2 - y1)):
            image[y, x] = 1
    else:
        for y, x in _walk(y1, x1, dy, dx, sign(y2 - y1), sign(x2 - x1)):
            image[y, x] = 1
    return image


def _walk(major: int, minor: int, long: int, short: int, forward: int, sideways: int) -> list[Point]:
    error = 2 * short - long
    found = []
    for _ in range(long + 1):
        found.append((major, minor))
        if error >= 0:
            minor += sideways
            error -= 2 * long
        error += 2 * short
        major += forward
    return found


def draw_all(lines: Sequence[Line], size: int = 32) -> Image:
    """Return the images of lines, (N, H, W)."""
    return np.stack([draw(line, size) for line in lines])


def interrupt(image: Image, line: Line, length: int) -> Image:
    """Return an image with ``length`` pixels around the line's centre removed; two pixels always stay (spec 3.5).

    The pixels are counted row by row, so the hole of a rising line may have gaps, as in the original.
    """
    rows, columns = np.nonzero(image)
    (x1, y1), (x2, y2) = line
    middle = int(np.argmin(np.abs(rows - (y1 + y2) // 2) + np.abs(columns - (x1 + x2) // 2)))
    count = max(0, min(length, len(rows) - 2))
    hole = slice(middle - count // 2, middle - count // 2 + count)
    cut = image.copy()
    cut[rows[hole], columns[hole]] = 0
    return cut


def curve(heights: Sequence[int], transposed: bool, size: int = 32) -> Image:
    """Return a polyline through four heights at equal distances (spec 3.2)."""
    places = np.linspace(MARGIN, size - MARGIN, len(heights))
    y_W = np.rint(np.interp(np.arange(size), places, heights)).astype(int)
    image = np.zeros((size, size), np.uint8)
    image[y_W, np.arange(size)] = 1
    for x in range(size - 1):
        step = int(y_W[x] - y_W[x + 1])
        for j in range(1, abs(step)):
            image[y_W[x] - sign(step) * j, x] = 1
    return image.T.copy() if transposed else image
