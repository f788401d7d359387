"""Draw the digits and objects of the evaluation, 64 × 64 pixels.

Axes: N image, H row (y, downwards), W column (x).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xfw_netfragments.rasters import sign

__all__ = ["DIGITS", "DIGIT_ORDER", "OBJECTS", "digits", "objects"]

SIZE = 64
DIGIT_SCALE = 2
LARGEST_SCALE = 6

DIGIT_ORDER = "1234567890"

# Segments (x1, y1, x2, y2) of the published digits and objects (P. Sager, net-fragments code, 2024).
DIGITS: dict[str, tuple[tuple[int, int, int, int], ...]] = {
    "0": ((0, 0, 10, 0), (0, 0, 0, 18), (10, 0, 10, 18), (0, 18, 10, 18)),
    "1": ((0, 0, 0, 18),),
    "2": ((0, 0, 10, 0), (10, 0, 10, 9), (0, 9, 10, 9), (0, 9, 0, 18), (0, 18, 10, 18)),
    "3": ((0, 0, 10, 0), (10, 0, 10, 18), (0, 9, 10, 9), (0, 18, 10, 18)),
    "4": ((0, 0, 0, 9), (0, 9, 10, 9), (10, 0, 10, 18)),
    "5": ((10, 0, 0, 0), (0, 0, 0, 9), (0, 9, 10, 9), (10, 9, 10, 18), (0, 18, 10, 18)),
    "6": ((10, 0, 0, 0), (0, 0, 0, 18), (0, 9, 10, 9), (10, 9, 10, 18), (0, 18, 10, 18)),
    "7": ((0, 0, 10, 0), (10, 0, 10, 18)),
    "8": ((0, 0, 10, 0), (0, 0, 0, 18), (10, 0, 10, 18), (0, 9, 10, 9), (0, 18, 10, 18)),
    "9": ((0, 18, 10, 18), (10, 0, 10, 18), (0, 9, 10, 9), (0, 0, 0, 9), (0, 0, 10, 0)),
}

# Objects: four numbers are a line (x1, y1, x2, y2), three a circle (x, y, radius).
OBJECTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "triangle": (
        (0, 10, 5, 0),
        (5, 0, 10, 10),
        (10, 10, 0, 10),
    ),
    "circle": ((5, 5, 5),),
    "house": (
        (0, 10, 0, 5),
        (0, 5, 5, 1),
        (5, 1, 10, 5),
        (10, 5, 10, 10),
        (0, 10, 10, 10),
    ),
    "star": (
        (5, 0, 6, 4),
        (6, 4, 10, 4),
        (10, 4, 7, 6),
        (7, 6, 8, 10),
        (8, 10, 5, 7),
        (5, 7, 2, 10),
        (2, 10, 3, 6),
        (3, 6, 0, 4),
        (0, 4, 4, 4),
        (4, 4, 5, 0),
    ),
    "letter_A": (
        (0, 10, 5, 0),
        (5, 0, 10, 10),
        (2, 6, 8, 6),
    ),
    "arrow": (
        (2, 0, 2, 10),
        (2, 0, 0, 3),
        (2, 0, 4, 3),
    ),
    "smile": (
        (0, 4, 6, 4),
        (0, 4, 1, 6),
        (1, 6, 5, 6),
        (5, 6, 6, 4),
        (1, 0, 1, 1),
        (5, 0, 5, 1),
    ),
    "sun": (
        (5, 0, 5, 2),
        (5, 8, 5, 10),
        (0, 5, 2, 5),
        (8, 5, 10, 5),
        (2, 2, 8, 8),
        (2, 8, 8, 2),
    ),
    "umbrella": (
        (4, 0, 0, 5),
        (4, 0, 8, 5),
        (0, 5, 8, 5),
        (4, 5, 4, 10),
        (3, 10, 4, 10),
    ),
    "clock2": (
        (4, 4, 4),
        (4, 4, 4, 1),
        (4, 4, 6, 4),
    ),
    "submarine": (
        (3, 0, 3, 2),
        (3, 2, 1, 3),
        (1, 3, 0, 5),
        (0, 5, 1, 7),
        (1, 7, 3, 8),
        (3, 8, 7, 8),
        (7, 8, 9, 5),
        (9, 5, 7, 2),
        (7, 2, 3, 2),
        (7, 4, 7, 6),
    ),
    "face": (
        (5, 5, 5),
        (3, 4, 2),
        (7, 4, 2),
        (3, 7, 7, 7),
    ),
    "flower": (
        (4, 4, 3),
        (1, 1, 1),
        (7, 1, 1),
        (1, 7, 1),
        (7, 7, 1),
    ),
    "wheel": (
        (4, 4, 4),
        (4, 4, 2),
        (4, 0, 4, 8),
        (0, 4, 8, 4),
        (1, 1, 7, 7),
        (1, 7, 7, 1),
    ),
    "target": (
        (6, 6, 6),
        (6, 6, 4),
        (6, 6, 2),
    ),
    "sun_with_rays": (
        (5, 5, 3),
        (5, 0, 5, 2),
        (5, 8, 5, 10),
        (0, 5, 2, 5),
        (8, 5, 10, 5),
        (1, 1, 3, 3),
        (7, 7, 9, 9),
        (1, 9, 3, 7),
        (7, 3, 9, 1),
    ),
    "magnifying_glass": (
        (4, 4, 3),
        (0, 0, 3, 3),
    ),
    "planet_with_moons": (
        (4, 4, 4),
        (7, 4, 2),
        (1, 5, 1),
    ),
}


def digits() -> NDArray[np.uint8]:
    """Return the ten digits in the order 1 … 9, 0 (spec 3.3)."""
    return np.stack([_digit(DIGITS[name]) for name in DIGIT_ORDER])


def objects() -> NDArray[np.uint8]:
    """Return the eighteen objects in the order of their table (spec 3.3)."""
    return np.stack([_object(parts) for parts in OBJECTS.values()])


def _digit(segments: tuple[tuple[int, int, int, int], ...]) -> NDArray[np.uint8]:
    scaled = DIGIT_SCALE * np.array(segments)
    left, top = (_offset(scaled[:, axis::2]) for axis in (0, 1))
    return _image([pixel for x1, y1, x2, y2 in scaled.tolist() for pixel in _line(y1, x1, y2, x2)], left, top)


def _offset(extent: NDArray[np.int64]) -> int:
    return max(0, SIZE // 2 - int(extent.max() - extent.min()) // 2)


def _object(parts: tuple[tuple[int, ...], ...]) -> NDArray[np.uint8]:
    for scale in range(LARGEST_SCALE, 0, -1):
        scaled = [tuple(scale * number for number in part) for part in parts]
        left, top = (_offset(_extent(scaled, axis)) for axis in (0, 1))
        pixels = [pixel for part in scaled for pixel in _part(part)]
        # The minimum is not subtracted from the offset, so large drawings end at a smaller scale (as published).
        if max(max(y + top, x + left) for y, x in pixels) < SIZE:
            return _image(pixels, left, top)
    raise ValueError("the drawing fits at no scale")


def _extent(parts: list[tuple[int, ...]], axis: int) -> NDArray[np.int64]:
    found: list[int] = []
    for part in parts:
        if len(part) == 3:
            found += [part[axis] - part[2], part[axis] + part[2]]
        else:
            found += [part[axis], part[axis + 2]]
    return np.array(found)


def _part(part: tuple[int, ...]) -> list[tuple[int, int]]:
    if len(part) == 3:
        return _circle(*part)
    x1, y1, x2, y2 = part
    return _line(y1, x1, y2, x2)


def _image(pixels: list[tuple[int, int]], left: int, top: int) -> NDArray[np.uint8]:
    image = np.zeros((SIZE, SIZE), np.uint8)
    for y, x in pixels:
        image[y + top, x + left] = 1
    return image


def _line(r0: int, c0: int, r1: int, c1: int) -> list[tuple[int, int]]:
    """Return the pixels (row, column) of a line with both ends."""
    dr, dc = abs(r1 - r0), abs(c1 - c0)
    if dr > dc:
        walked = _steps(r0, c0, dr, dc, sign(r1 - r0), sign(c1 - c0))
    else:
        walked = [(r, c) for c, r in _steps(c0, r0, dc, dr, sign(c1 - c0), sign(r1 - r0))]
    return [*walked, (r1, c1)]


def _steps(major: int, minor: int, long: int, short: int, forward: int, sideways: int) -> list[tuple[int, int]]:
    error = 2 * short - long
    found = []
    for _ in range(long):
        found.append((major, minor))
        while error >= 0:
            minor += sideways
            error -= 2 * long
        major += forward
        error += 2 * short
    return found


def _circle(x: int, y: int, radius: int) -> list[tuple[int, int]]:
    """Return the pixels (row, column) of a midpoint circle."""
    c, r, d = 0, radius, 3 - 2 * radius
    found = []
    while r >= c:
        found += [(y + i, x + j) for i, j in _octants(r, c)]
        if d < 0:
            d += 4 * c + 6
        else:
            d += 4 * (c - r) + 10
            r -= 1
        c += 1
    return found


def _octants(r: int, c: int) -> list[tuple[int, int]]:
    return [(a * i, b * j) for i, j in ((r, c), (c, r)) for a in (1, -1) for b in (1, -1)]
