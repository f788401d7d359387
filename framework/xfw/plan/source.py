"""Decide which stored condition of ``--from RUN`` each condition of a new run starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xfw.config.structure import flatten, nested, unstructure
from xfw.errors import UserError
from xfw.manifest import Manifest, show

if TYPE_CHECKING:
    from xfw.experiment import Experiment

__all__ = ["source_condition", "stored_configs"]


def stored_configs(source: Manifest) -> list[Mapping[str, Any]]:
    """Return the whole configuration of each condition of a run, nested by key."""
    common = flatten(source.config)
    return [nested({**common, **condition.values}) for condition in source.conditions]


def source_condition(experiment: Experiment, config: Any, source: Manifest) -> int:
    """Return the index of the condition of ``source`` that a condition starts from.

    The experiment's ``choose_source`` decides; without it the only condition is taken, or the one that is
    equal in every key that ``source`` swept. Raises ``UserError`` where none fits.
    """
    stored = stored_configs(source)
    chosen = experiment.hooks.choose_source(config=config, stored=stored)
    if chosen is not None:
        return int(chosen)
    return 0 if len(stored) == 1 else equal_condition(config, stored, source)


def equal_condition(config: Any, stored: Sequence[Mapping[str, Any]], source: Manifest) -> int:
    """Return the stored condition with the same values of the swept keys."""
    mine = flatten(unstructure(config))
    flat = [flatten(values) for values in stored]
    matching = [
        index for index, other in enumerate(flat) if all(other.get(path) == mine.get(path) for path in source.axes)
    ]
    if matching:
        return matching[0]
    wanted = " ".join(f"{path}={show(mine.get(path))}" for path in source.axes)
    there = "; ".join(" ".join(f"{path}={show(other.get(path))}" for path in source.axes) for other in flat)
    raise UserError(f"--from: run {source.run} has no condition {wanted}", hint=f"it has: {there}", exit_code=2)
