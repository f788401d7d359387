"""What a run started with ``--from`` takes: a stored condition for each of its own, and whether all of it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xfw.config.resolve import condition_configs
from xfw.config.structure import unstructure
from xfw.errors import UserError, shortened
from xfw.experiment import Experiment
from xfw.manifest import Manifest, Source, flatten, frozen, nested, show
from xfw.store.rundir import RunDir

__all__ = ["check_source", "source_condition", "source_conditions", "source_of", "stored_configs"]


def stored_configs(source: Manifest) -> list[Mapping[str, Any]]:
    """Return the whole configuration of each condition of a run, nested by key."""
    return list(map(nested, source.flat))


def source_condition(experiment: Experiment, config: Any, source: Manifest) -> int:
    """Return the index of the condition of ``source`` that a condition starts from."""
    return source_conditions(experiment, [config], source)[0]


def source_conditions(experiment: Experiment, configs: Iterable[Any], source: Manifest) -> list[int]:
    """Return for each condition the index of that of ``source`` which it starts from.

    The experiment's ``choose_source`` decides; without it the only condition is taken, or the one that is
    equal in every key that ``source`` swept. Raises ``UserError`` where none fits.
    """
    stored = stored_configs(source)
    places: dict[Any, int] = {}
    for place, values in enumerate(source.flat):
        places.setdefault(_choice(values, source.axes), place)
    found = []
    for config in configs:
        chosen = experiment.hooks.choose_source(config=config, stored=stored)
        if chosen is None and len(stored) > 1:
            mine = flatten(unstructure(config))
            chosen = places.get(_choice(mine, source.axes))
            if chosen is None:
                raise _not_stored(mine, source)
        found.append(int(chosen or 0))
    return found


def _choice(values: Mapping[str, Any], axes: Sequence[str]) -> Any:
    return tuple(frozen(values.get(path)) for path in axes)


def _not_stored(values: Mapping[str, Any], source: Manifest) -> UserError:
    wanted, *there = (
        " ".join(f"{path}={show(other.get(path))}" for path in source.axes) for other in (values, *source.flat[:20])
    )
    return UserError(
        f"--from: run {source.run} has no condition {wanted}",
        hint=shortened(f"it has: {'; '.join(there)}", 1000),
        exit_code=2,
    )


def check_source(experiment: Experiment, manifest: Manifest, source: Manifest) -> None:
    """Check that ``source`` holds the trial that every trial of the plan starts from; else raise ``UserError``."""
    stored = {(member.condition, member.trial) for member in source.members()}
    chosen = source_conditions(experiment, condition_configs(manifest, experiment.config_class), source)
    for member in manifest.members():
        condition = chosen[member.condition]
        if (condition, member.trial) not in stored:
            known = ", ".join(str(trial) for place, trial in sorted(stored) if place == condition)
            raise UserError(
                f"--from: run {source.run} has no trial {member.trial} to start from",
                hint=shortened(f"it has the trials {known}", 1000),
                exit_code=2,
            )


def source_of(run: RunDir) -> Source:
    """Return the record of a run that is read: its id, and the SHA-256 of its sealed file."""
    with run.run_file.open("rb") as file:
        return Source(run.id, hashlib.file_digest(file, "sha256").hexdigest())
