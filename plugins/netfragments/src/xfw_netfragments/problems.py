"""Find what bounds of single keys cannot express (spec 10): what, where, found and expected, what to do."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from xfw import Problem, UserError

from xfw_netfragments import schedules
from xfw_netfragments.config import Config
from xfw_netfragments.points import FIXED_SETS, settings

__all__ = ["problems"]

MULTIPLE = 16
"""The autoencoder halves the image four times."""


def problems(config: Config, given: frozenset[str]) -> list[Problem]:
    """Return errors and warnings of one configuration."""
    return [*_powers(config), *_images(config, given), *_training(config), *_files(config), *_idle(config, given)]


def _powers(config: Config) -> Iterator[Problem]:
    steps = config.s2.timesteps
    if config.model == "autoencoder":
        return
    if len(config.s2.power) < steps:
        yield Problem("$.s2.power", _short(steps, len(config.s2.power)), "give one for each of s2.timesteps")
        return
    for setting in settings(config):
        power = setting.dynamics.power
        if len(power) < steps:
            yield Problem("$.evaluate.power", f"'{setting.power}': {_short(steps, len(power))}")
        elif min(power) <= 0:
            yield Problem("$.evaluate.power", f"'{setting.power}': power factors must be > 0, got {min(power):g}")


def _short(steps: int, found: int) -> str:
    return f"{steps} time steps need {steps} power factors, got {found}"


def _images(config: Config, given: frozenset[str]) -> Iterator[Problem]:
    evaluate, path = config.evaluate, "$.evaluate.line_interrupt"
    longest = max(evaluate.line_interrupt, default=0)
    if evaluate.images != "straight":
        if "evaluate.line_interrupt" in given and longest > 0:
            yield Problem(
                path,
                f"found {longest} with evaluate.images={evaluate.images}, expected 0",
                "only straight lines can be interrupted (the original ignores it in silence)",
            )
        if evaluate.grid == "published":
            yield Problem("$.evaluate.grid", f"published needs evaluate.images=straight, found {evaluate.images}")
    elif longest > (lit := config.data.size - 3) - 2:
        yield Problem(
            path, f"{longest} is more than a line of {lit} pixels can lose; two of them stay", level="warning"
        )
    known = FIXED_SETS.get(evaluate.images)
    if known is not None and "evaluate.samples" in given and evaluate.samples > known:
        yield Problem(
            "$.evaluate.samples", f"there are {known} {evaluate.images}; all of them are used", level="warning"
        )


def _training(config: Config) -> Iterator[Problem]:
    train = config.train
    if config.model == "autoencoder":
        if config.data.size % MULTIPLE:
            yield Problem("$.data.size", f"found {config.data.size}, expected a multiple of {MULTIPLE}")
        if config.s1.activation == "bernoulli":
            yield Problem("$.s1.activation", "the autoencoder needs features that are the same in every presentation")
    elif train.batch_size > 1 and config.s2.alternatives > 1:
        yield Problem(
            "$.train.batch_size",
            f"found {train.batch_size} with s2.alternatives={config.s2.alternatives}, expected 1",
            "an image's winners depend on all updates before it, and its update on its own maximum",
        )
    if train.start_epoch and config.weights is None:
        yield Problem("$.train.start_epoch", "counts the epochs of a file of weights, and none is given")
    if config.kernel == "numba" and importlib.util.find_spec("numba") is None:
        yield Problem("$.kernel", "numba is not installed", "pip install 'xfw-netfragments[fast]', or kernel=auto")
    if config.data.lines == "four" and config.data.size != 32:
        yield Problem("$.data.lines", f"the four lines are drawn on 32 × 32 pixels, found data.size={config.data.size}")


def _files(config: Config) -> Iterator[Problem]:
    if config.weights is None:
        return
    if config.model == "autoencoder":
        yield Problem("$.weights", "holds weights of S2, found model=autoencoder", "go on from a run: --from RUN")
        return
    from xfw_netfragments import connections

    path = Path(config.weights)
    if not os.path.isfile(path):  # noqa: PTH113
        yield Problem("$.weights", f"no file '{config.weights}'")
        return
    try:
        connections.fitting(connections.read_file(path), config.layer, config.weights)
    except UserError as error:
        yield Problem("$.weights", error.what, error.hint)


def _idle(config: Config, given: frozenset[str]) -> Iterator[Problem]:
    """Warn of keys that have no effect."""
    if config.model == "autoencoder":
        for key in sorted(given):
            if key.startswith(("s2.", "s3.", "evaluate.theta", "evaluate.power", "store.", "plot.")):
                yield Problem(f"$.{key}", "is used by model=s2 only", level="warning")
    if config.random == "keyed":
        for key in ("published_seed", "evaluate.noise_seed"):
            if key in given:
                yield Problem(f"$.{key}", "is used by random=published only", level="warning")
    random = [setting for setting in settings(config) if setting.theta == schedules.BERNOULLI]
    if config.evaluate.repeats > 1 and not random:
        yield Problem(
            "$.evaluate.repeats", "nothing is drawn with a fixed threshold; one repeat is made", level="warning"
        )
    if "data.test" in given:
        yield Problem("$.data.test", "has no effect; evaluate.samples is the number of test images", level="warning")
