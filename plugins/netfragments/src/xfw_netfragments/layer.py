"""What fixes the lateral layer: its shape, its dynamics and its learning rule; the symbols are those of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EPSILON", "FEATURES", "Dynamics", "Layer", "Learning", "initial_weights", "median_rank"]

FEATURES = 4
"""F, the feature channels of S1: vertical, rising, horizontal, falling."""

EPSILON = 1e-10
"""Keeps every normalisation of the paper's code from dividing by zero."""


@frozen
class Layer:
    """The shape of S2: A alternative cells a feature, L the reach of lateral connections, ρ the support factor."""

    alternatives: int = 10
    locality: int = 5
    support_factor: float = 1.3

    @property
    def channels(self) -> int:
        """C = F·A; the channel of alternative a of feature f is f·A + a."""
        return FEATURES * self.alternatives

    @property
    def inputs(self) -> int:
        """F + C input channels: the features, then the outputs of the step before."""
        return FEATURES + self.channels

    @property
    def side(self) -> int:
        """K, the side of a cell's neighbourhood."""
        return 2 * self.locality + 1

    @property
    def area(self) -> int:
        """K², the places of a cell's neighbourhood."""
        return self.side**2

    @property
    def limit(self) -> float:
        """λ = ρ·K: support beyond it inhibits."""
        return self.support_factor * self.side

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of W."""
        return self.channels, self.inputs, self.side, self.side


@frozen
class Dynamics:
    """How activity settles: the threshold θ (None: Bernoulli cells) and one power factor γ for each time step."""

    theta: float | None
    power: tuple[float, ...]

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.power)

    @property
    def cuts(self) -> NDArray[np.float32]:
        """Return θ^(1/γ) for every step: v̂^γ ≥ θ where v̂ reaches it."""
        import numpy as np

        assert self.theta is not None
        return np.array([self.theta ** (1.0 / power) for power in self.power], np.float32)


@frozen
class Learning:
    """The Hebbian rule: learning rate η, and whether disagreement counts against a connection."""

    rate: float = 0.2
    negative_correlation: bool = True


def median_rank(timesteps: int) -> int:
    """Return in how many of the steps a cell must fire for the lower median to be 1 (spec 2.4)."""
    return timesteps - (timesteps - 1) // 2


def initial_weights(layer: Layer, self_connection: bool = True) -> NDArray[np.float32]:
    """Return the weights before training: each cell is connected to its own feature, and to itself (spec 2.2)."""
    import numpy as np

    weights = np.zeros(layer.shape, np.float32)
    centre = layer.locality
    for channel in range(layer.channels):
        weights[channel, channel // layer.alternatives, centre, centre] = 1
        if self_connection:
            weights[channel, FEATURES + channel, centre, centre] = 1
    return weights
