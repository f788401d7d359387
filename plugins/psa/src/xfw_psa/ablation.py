"""Which neuron is silenced, and which entries of the network become zero."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from xfw_psa.architecture import LinearMap
from xfw_psa.config import Config

__all__ = ["Target", "draw", "hidden_maps", "zeroed"]


@attrs.frozen
class Target:
    """A unit of a linear map, counted in computing order; ``column`` also cuts the unit from the next map."""

    layer: int
    unit: int
    column: bool = False


def hidden_maps(config: Config, maps: Sequence[LinearMap]) -> range:
    """Return the maps whose units mode ``hidden`` may choose.

    The residual original did not count its first map among the hidden blocks, whatever that map is.
    """
    first = 1 if config.family == "resmlp" and config.hidden_scope == "inner" else 0
    return range(first, len(maps) - 1)


def draw(config: Config, maps: Sequence[LinearMap], random: np.random.Generator) -> Target | None:
    """Return the neuron to silence, or None where the mode is a control or has no target."""
    if config.mode == "output":
        return Target(len(maps) - 1, int(random.integers(maps[-1].outputs)))
    if config.mode == "full" and config.full_sampling == "layer":
        layer = int(random.integers(len(maps)))
        return Target(layer, int(random.integers(maps[layer].outputs)))
    if config.mode == "full":
        return Target(*_uniform(range(len(maps)), maps, random))
    if config.mode == "hidden" and len(scope := hidden_maps(config, maps)):
        return Target(*_uniform(scope, maps, random), column=True)
    return None


def _uniform(scope: range, maps: Sequence[LinearMap], random: np.random.Generator) -> tuple[int, int]:
    ends = np.cumsum([maps[layer].outputs for layer in scope])
    position = int(random.integers(ends[-1]))
    found = int(np.searchsorted(ends, position, side="right"))
    return scope[found], position - (int(ends[found - 1]) if found else 0)


def zeroed(target: Target, maps: Sequence[LinearMap]) -> list[tuple[str, tuple[int | slice, ...]]]:
    """Return parameter names with the index of what becomes zero there."""
    name = maps[target.layer].name
    entries: list[tuple[str, tuple[int | slice, ...]]] = [
        (f"{name}.weight", (target.unit,)),
        (f"{name}.bias", (target.unit,)),
    ]
    if target.column:
        entries.append((f"{maps[target.layer + 1].name}.weight", (slice(None), target.unit)))
    return entries
