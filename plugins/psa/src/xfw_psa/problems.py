"""What is wrong with a configuration of psa beyond the bounds of single keys."""

from __future__ import annotations

import os
from pathlib import Path

import xfw

from xfw_psa.config import Config

__all__ = ["problems"]

_FAMILY_OF = {"resmlp-preliminary": "resmlp", "simplemlp-superseded": "simplemlp"}


def problems(config: Config, given: frozenset[str]) -> list[xfw.Problem]:
    """Return what the bounds of single keys cannot express."""
    return [*_errors(config, given), *_warnings(config, given)]


def _errors(config: Config, given: frozenset[str]) -> list[xfw.Problem]:
    found: list[xfw.Problem] = []
    if config.hidden_layers is not None:
        if not config.hidden_layers:
            found.append(
                _problem("hidden_layers", "found no width, expected at least one", "for no layer: arch=linear")
            )
        if "arch" in given:
            found.append(_problem("hidden_layers", "is the short form of arch: give one of the two"))
    family = _FAMILY_OF.get(config.compat, config.family)
    if config.family != family:
        found.append(_problem("compat", f"'{config.compat}' is about family={family}, found family={config.family}"))
    if config.share_order:
        found.append(
            _problem("share_order", "is not supported by this version of xfw", "leave it out: share_order=false")
        )
    if config.init_from is not None and not os.path.isfile(config.init_from):  # noqa: PTH113
        found.append(_problem("init_from", f"no file '{config.init_from}'"))
    elif config.init_from is not None:
        found += _weight_problems(config, Path(config.init_from))
    return found


def _weight_problems(config: Config, path: Path) -> list[xfw.Problem]:
    from xfw_psa import weights  # NumPy is not needed to list the keys

    try:
        weights.check_unchanged(config)
        weights.read(path, config)
    except xfw.UserError as error:
        return [_problem("init_from", error.what, error.hint)]
    return []


def _warnings(config: Config, given: frozenset[str]) -> list[xfw.Problem]:
    found = [
        _warning(name, f"is used by mode {mode} only, and no condition has it")
        for name, mode in (("weight_decay", "decay"), ("dropout", "dropout"))
        if name in given and config.mode != mode
    ]
    if "num_workers" in given:
        found.append(_warning("num_workers", "has no effect, the data are held in memory"))
    if config.mode == "hidden" and not config.stacks:
        found.append(_warning("mode", "'hidden' has no target in a linear classifier; it trains undamaged"))
    return found


def _problem(key: str, message: str, hint: str = "") -> xfw.Problem:
    return xfw.Problem(f"$.{key}", message, hint)


def _warning(key: str, message: str) -> xfw.Problem:
    return xfw.Problem(f"$.{key}", message, level="warning")
