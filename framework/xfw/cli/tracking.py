"""``--track NAME``: find the tracker among the extensions, read its options, and ask whether it can work."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from xfw.config.keys import split_points
from xfw.config.points import read_options
from xfw.errors import UserError, nearest

if TYPE_CHECKING:
    from xfw.experiment import Experiment
    from xfw.store.rundir import RunDir
    from xfw.tracking.protocol import Tracker
    from xfw.tracking.session import Chosen

__all__ = ["chosen_trackers", "track_option", "tracked"]

track_option = click.option(
    "--track", "trackers", multiple=True, metavar="NAME[:KEY=VALUE,…]", help="Send records and metrics to a service."
)


def chosen_trackers(experiment: Experiment, texts: Sequence[str]) -> list[Chosen]:
    """Return the trackers that are asked for; raise UserError where one is unknown or cannot work here."""
    if not texts:
        return []
    from xfw.tracking.session import Chosen

    known: dict[str, type[Tracker]] = {
        each.name: each for found in experiment.hooks.register_trackers() for each in found or ()
    }
    chosen = []
    for text in texts:
        name, _, given = text.partition(":")
        if name not in known:
            raise unknown_tracker(name, list(known))
        options = read_options(
            known[name].Options, split_points(given) if given else (), f"--track {name}: wrong options"
        )
        known[name].check(options)
        chosen.append(Chosen(known[name], options))
    return chosen


def tracked(run: RunDir, trackers: Sequence[Chosen], experiment: Experiment) -> AbstractContextManager[Any]:
    """Return a context in which the trackers follow a run."""
    if not trackers:
        return nullcontext()
    from xfw.tracking.session import Tracking

    return Tracking(run, trackers, experiment.hooks.define_metrics())


def unknown_tracker(name: str, known: Sequence[str]) -> UserError:
    """Return the error of a tracker that no installed extension has, with what to install."""
    close = nearest(name, known, count=1)
    hint = f"did you mean '{close[0]}'?" if close else f"install its extension: pip install xfw-{name}"
    installed = f"   installed: {', '.join(known)}" if known and not close else ""
    return UserError(f"--track {name}: no installed extension has this tracker", hint=hint + installed, exit_code=2)
