"""What a sealed file says of every trial, and what it is made from: a run's own blocks, or other sealed files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Content", "Placed", "TrialColumns"]


@attrs.frozen(eq=False)
class Placed:
    """Values of some trials at their positions on the trial axis: the first axis runs over ``places``."""

    places: tuple[int, ...]
    values: NDArray[Any]


@attrs.frozen(eq=False)
class TrialColumns:
    """One value per trial, in file order. ``origin`` is the run that trained the trial, ``seed`` that run's seed.

    ``first_epoch`` counts the epochs that the trial had behind it when that run began, beyond the run's own.
    """

    trial: Sequence[int]
    condition: Sequence[int]
    seed: Sequence[int]
    key: Sequence[str]
    origin: Sequence[str]
    first_epoch: Sequence[int]
    status: Sequence[str]
    attempts: Sequence[int]
    strategy: Sequence[str]
    wall_time: Sequence[float]


class Content(Protocol):
    """The records and arrays of all trials, read piece by piece; ``size`` is the number of trials."""

    @property
    def size(self) -> int: ...

    def streams(self) -> list[str]:
        """Return the names of the recorded streams, in the order in which they appear."""

    def variables(self, stream: str) -> list[str]:
        """Return the names of the variables that any trial has in a stream."""

    def placed(self, stream: str, variable: str) -> list[Placed]:
        """Return the values of a variable as (trial, row, ...), in pieces of equal numbers of rows."""

    def counts(self, stream: str) -> NDArray[np.int64]:
        """Return the number of rows of each trial."""

    def array_names(self) -> list[str]:
        """Return the names of the arrays that any trial has."""

    def shapes(self, name: str) -> Mapping[int, tuple[int, ...]]:
        """Return the shape of an array by position on the trial axis."""

    def element(self, name: str) -> np.dtype[Any]:
        """Return the stored element type of an array."""

    def array(self, name: str, places: Sequence[int]) -> list[NDArray[Any]]:
        """Return the values of an array at some positions."""
