"""Find out before anything is computed whether the data and the run to start from are there."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from xfw.config.resolve import condition_configs
from xfw.data.sources import Sources
from xfw.errors import UserError
from xfw.plan.build import groups_of
from xfw.plan.manifest import Manifest, Source
from xfw.plan.source import source_condition
from xfw.plugins.registry import Experiment

if TYPE_CHECKING:
    from xfw.data.images import ImageData
    from xfw.store.rundir import RunDir

__all__ = ["check_data", "check_source", "source_of"]


class OnceOnly(Sources):
    """Sources that read every data set once."""

    def __init__(self, data_dir: str | None) -> None:
        super().__init__(data_dir)
        self._read: dict[str, ImageData] = {}

    def load(self, name: str, **options: Any) -> ImageData:
        """Return a data set, as read before where that happened."""
        wanted = repr((name, sorted(options.items())))
        if wanted not in self._read:
            self._read[wanted] = super().load(name, **options)
        return self._read[wanted]


def check_data(experiment: Experiment, manifest: Manifest) -> None:
    """Load the data sets of every shape of the plan once: found, downloaded where allowed, and verified.

    Blocks then find complete files. Raises ``UserError`` for data that are missing or damaged.
    """
    sources = OnceOnly(manifest.execution.data_dir or None)
    configs = condition_configs(manifest, experiment.config_class)
    for group in groups_of(experiment.config_class, configs):
        experiment.hooks.load_data(config=configs[group[0]], sources=sources)


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
