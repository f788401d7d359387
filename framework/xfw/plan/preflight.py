"""Find out before anything is computed whether the run to start from holds every trial."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from xfw.config.resolve import condition_configs
from xfw.errors import UserError
from xfw.experiment import Experiment
from xfw.manifest import Manifest, Source
from xfw.plan.source import source_condition

if TYPE_CHECKING:
    from xfw.store.rundir import RunDir

__all__ = ["check_source", "source_of"]


def check_source(experiment: Experiment, manifest: Manifest, source: Manifest) -> None:
    """Check that ``source`` holds the trial that every trial of the plan starts from; else raise ``UserError``."""
    stored = {(member.condition, member.trial) for member in source.members()}
    for index, config in enumerate(condition_configs(manifest, experiment.config_class)):
        condition = source_condition(experiment, config, source)
        trials = {member.trial for member in manifest.members() if member.condition == index}
        missing = sorted(trial for trial in trials if (condition, trial) not in stored)
        if missing:
            known = sorted(trial for place, trial in stored if place == condition)
            raise UserError(
                f"--from: run {source.run} has no trial {missing[0]} to start from",
                hint=f"it has the trials {', '.join(map(str, known))}",
                exit_code=2,
            )


def source_of(run: RunDir) -> Source:
    """Return the record of a run that is read: its id, and the SHA-256 of its sealed file."""
    with run.run_file.open("rb") as file:
        return Source(run.id, hashlib.file_digest(file, "sha256").hexdigest())
