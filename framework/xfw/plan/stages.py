"""Which stages of an experiment a run goes through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xfw.errors import UserError, did_you_mean
from xfw.experiment import Stage

__all__ = ["TRAIN", "stages_of", "stages_to_run"]

TRAIN = Stage("train", "train the network")


def stages_of(hooks: Any, config: Any) -> tuple[Stage, ...]:
    """Return the stages of an experiment, in order; ``train`` alone where it names none."""
    found = tuple(hooks.stages(config=config) or (TRAIN,))
    names = [stage.name for stage in found]
    training = [stage.name for stage in found if stage.cells is None]
    if len(set(names)) != len(names) or training not in ([], [TRAIN.name]):
        raise UserError(
            f"stages: {', '.join(names)}: names must differ, and only 'train' may be without a number of cells"
        )
    return found


def stages_to_run(known: Sequence[Stage], upto: str | None, stored: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the stages to run.

    Without ``upto`` all of them. Else that one, and those before it that neither the run to start from has
    stored nor the configuration gives.
    """
    names = [stage.name for stage in known]
    if upto is None:
        return tuple(names)
    if upto not in names:
        hint = f"{did_you_mean(upto, names)}   stages: {', '.join(names)}".strip()
        raise UserError(f"--stage: unknown stage '{upto}'", hint=hint, exit_code=2)
    before = known[: names.index(upto)]
    return (*(stage.name for stage in before if not stage.given and stage.name not in stored), upto)
