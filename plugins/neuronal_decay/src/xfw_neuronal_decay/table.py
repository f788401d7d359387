"""The sixteen experiments of the paper (spec section 5), by number."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["BUILT_WIDTH", "EXPERIMENTS", "ROTATIONS", "Row"]

ROTATIONS = (0.0, 80.0, 160.0)
"""Angles of the three tasks, in degrees anticlockwise."""

BUILT_WIDTH = 2048
"""Width that the published code built, whatever width it declared."""


@attrs.frozen
class Row:
    """What distinguishes one experiment; ``starred`` ones follow ``default_lambda``."""

    name: str
    decay: bool = False
    decay_lambda: float = 0.0
    starred: bool = False
    replay: bool = True
    learning_rate: float = 1e-3
    n_neurons: int = 2048
    rotations: tuple[float, ...] = ROTATIONS


def _decay(name: str, **rest: object) -> Row:
    return Row(name, decay=True, decay_lambda=1e-5, starred=True, **rest)  # type: ignore[arg-type]


EXPERIMENTS: Mapping[int, Row] = {
    1: Row("baseline, replay"),
    2: Row("baseline, no replay", replay=False),
    3: _decay("ND, no replay", replay=False),
    4: _decay("ND, replay"),
    5: Row("ND, lower λ", decay=True, decay_lambda=1e-7),
    6: Row("ND, higher λ", decay=True, decay_lambda=5e-5),
    7: Row("baseline, lower learning rate", learning_rate=1e-4),
    8: _decay("ND, lower learning rate", learning_rate=1e-4),
    9: Row("baseline, higher learning rate", learning_rate=1e-2),
    10: _decay("ND, higher learning rate", learning_rate=1e-2),
    11: Row("baseline, smaller network", n_neurons=1024),
    12: _decay("ND, smaller network", n_neurons=1024),
    13: Row("baseline, larger network", n_neurons=4096),
    14: _decay("ND, larger network", n_neurons=4096),
    15: Row("baseline, profiling", rotations=(0.0,)),
    16: _decay("ND, profiling", rotations=(0.0,)),
}
