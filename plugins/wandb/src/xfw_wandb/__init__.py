"""Weights & Biases for every experiment: ``xfw run NAME --track wandb``.

Each trial becomes one W&B run, grouped by the run of xfw that it belongs to, with its configuration, every
recorded row, and its metrics at the end; figures go to one more W&B run of the group. All of it is read from
the run's own files by the supervising process, so nothing changes where models are trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import xfw

api = 2


@xfw.hookimpl
def register_trackers() -> Sequence[type]:
    from xfw_wandb.tracker import Wandb

    return (Wandb,)
