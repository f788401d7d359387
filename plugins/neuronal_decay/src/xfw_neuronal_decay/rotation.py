"""Rotate images by an index map: with nearest-neighbour sampling a fixed rotation only moves pixels.

Axes: N image, P pixel (row by row), K source pixel.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

__all__ = ["SIDE", "index_map", "rotated"]

SIDE = 28


def index_map(degrees: float, side: int = SIDE) -> torch.Tensor:
    """Return the source pixel of every pixel of an image rotated anticlockwise, -1 where there is none.

    Sampled from an image of pixel numbers in the way of torchvision's ``rotate``, so that the map is its result
    for every angle, also where a coordinate lies between two pixels.
    """
    numbers = torch.arange(1, side * side + 1, dtype=torch.float32).view(1, 1, side, side)
    sampled = functional.grid_sample(numbers, _grid(degrees, side), mode="nearest", align_corners=False)
    return sampled.view(-1).to(torch.int64) - 1


def _grid(degrees: float, side: int) -> torch.Tensor:
    """Return the places ``[1, side, side, 2]`` that each pixel is read from, -1 to 1 across the image."""
    angle = math.radians(-degrees)
    theta = torch.tensor(
        [[math.cos(angle), math.sin(angle), 0.0], [-math.sin(angle), math.cos(angle), 0.0]], dtype=torch.float32
    )
    centres = torch.linspace(0.5 - side / 2, side / 2 - 0.5, steps=side)
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    places = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).view(1, side * side, 3)
    scaled = theta.t().unsqueeze(0) / torch.tensor([0.5 * side, 0.5 * side])
    return places.bmm(scaled).view(1, side, side, 2)


def rotated(images_NP: torch.Tensor, degrees: float) -> torch.Tensor:
    """Return flattened images rotated anticlockwise about their centre, zero where nothing was."""
    map_P = index_map(degrees, math.isqrt(images_NP.shape[1]))
    found = images_NP.index_select(1, map_P.clamp_min(0))
    found[:, map_P < 0] = 0
    return found
