"""What an analyzer works on: a run or published files, and the trials and experiments asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import xfw

from xfw_neuronal_decay import published
from xfw_neuronal_decay.sample import Study, folder_of, from_results, select

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["allow_coarse_key", "available", "numbers_key", "published_key", "refuse_coarse", "study", "trials_key"]


class _Choice(Protocol):
    """The options that all analyzers have."""

    @property
    def published(self) -> str | None: ...
    @property
    def trials(self) -> tuple[int, ...] | None: ...
    @property
    def numbers(self) -> tuple[int, ...] | None: ...


def published_key() -> Any:
    """Return the option that names a folder of published files."""
    return xfw.key(None, replaces_run=True, help="folder of published result files, read instead of a run")


def trials_key() -> Any:
    """Return the option that chooses trials."""
    return xfw.key(None, help="trials to take (of published files: seeds); default: all")


def numbers_key() -> Any:
    """Return the option that chooses experiments."""
    return xfw.key(None, help="experiments to take; default: all")


def allow_coarse_key() -> Any:
    """Return the option that lets thinned records through."""
    return xfw.key(False, help="take runs with eval_every above 1, whose gaps may have been missed")


def available(results: Results) -> str:
    """Say why there is nothing to analyse; empty where there is."""
    return "" if "iteration" in results.streams() and any(results.count("iteration")) else "no iteration is stored"


def study(results: Results | None, options: _Choice) -> Study:
    """Return the samples that the options choose; raises WrongInput where there are none."""
    if options.published is not None:
        return select(published.read_folder(folder_of(options.published)), options.trials, options.numbers)
    if results is None:
        raise xfw.WrongInput("no results stored; run `xfw run neuronal_decay` first")
    found = from_results(results)
    if not found.samples:
        raise xfw.WrongInput(f"run {results.run} has no finished trial")
    return select(found, options.trials, options.numbers)


def refuse_coarse(found: Study, allowed: bool) -> None:
    """Raise WrongInput for records that were thinned, unless they are allowed: gaps last some twenty iterations."""
    thinned = [sample for sample in found.samples if sample.parameters.eval_every > 1]
    if thinned and not allowed:
        first = thinned[0]
        raise xfw.WrongInput(
            f"experiment {first.label}: eval_every={first.parameters.eval_every}, but these metrics need every record",
            hint="take them as they are: -s allow_coarse=true",
        )
