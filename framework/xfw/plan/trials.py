"""Choose the trials of a run: the ``--only`` filters, and the random key of each trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from xfw import seeds
from xfw.config.keys import Key, KeyInfo, Schema, split_points
from xfw.config.points import collect
from xfw.config.structure import canonical
from xfw.errors import Problem, UserError, WrongInput, did_you_mean, shortened
from xfw.manifest import Member, frozen, show

__all__ = ["Only", "kept_conditions", "kept_trials", "members_of", "read_only"]

TRIAL = Key("trial", int, KeyInfo(help="trial", ge=0), 0)


@attrs.frozen
class Only:
    """What ``--only`` keeps: values by key path, and trial indices (None: all)."""

    values: Mapping[str, tuple[Any, ...]] = attrs.field(factory=dict)
    trials: tuple[int, ...] | None = None


def read_only(texts: Sequence[str], schema: Schema) -> Only:
    """Return the filters of the ``--only`` texts; raise ``WrongInput`` with every problem found.

    ``KEY=VALUE,VALUE`` keeps several values of a key; ``KEY=VALUE,KEY=VALUE`` asks for both.
    """
    values: dict[str, tuple[Any, ...]] = {}
    problems: list[Problem] = []
    for name, text in filters_of(texts):
        key = TRIAL if name == "trial" else schema.find(name)
        if key is None:
            hint = did_you_mean(name, [*schema.names(), "trial"])
            problems.append(Problem(f"--only {shortened(name)}", "unknown key", hint))
            continue
        points, wrong = collect(key, text, Path.cwd())
        values[key.path] = (*values.get(key.path, ()), *points)
        problems += [attrs.evolve(problem, path=f"--only {key.path}") for problem in wrong]
    if problems:
        raise WrongInput("wrong filter", problems)
    return Only(values={path: points for path, points in values.items() if path != "trial"}, trials=values.get("trial"))


def filters_of(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the two sides of every ``KEY=VALUE``; a part without ``=`` is one more value of the key before it."""
    for text in texts:
        name, values = "", list[str]()
        for part in split_points(text):
            left, sign, right = part.partition("=")
            if sign:
                if name:
                    yield name, ",".join(values)
                name, values = left.strip(), [right]
            elif not name:
                raise WrongInput("wrong filter", [Problem("--only", f"found {shortened(text)!r}, expected KEY=VALUE")])
            else:
                values.append(part)
        yield name, ",".join(values)


def kept_conditions(flat: Sequence[Mapping[str, Any]], only: Only) -> list[int]:
    """Return the indices of the conditions that the filters keep, of the values of each; refuse to keep none."""
    kept = list(range(len(flat)))
    for path, points in only.values.items():
        wanted = frozenset(map(frozen, points))
        remaining = [index for index in kept if frozen(flat[index].get(path)) in wanted]
        if not remaining:
            there = ", ".join(dict.fromkeys(show(flat[index].get(path)) for index in kept))
            text = ", ".join(map(show, points))
            raise UserError(
                shortened(f"--only {path}={text} keeps no condition of the plan", 400),
                hint=shortened(f"it has {path}: {there}", 400),
                exit_code=2,
            )
        kept = remaining
    return kept


def kept_trials(trials: int, only: Only) -> list[int]:
    """Return the indices of the trials that the filters keep; refuse indices that the plan does not have."""
    if only.trials is None:
        return list(range(trials))
    beyond = sorted(index for index in only.trials if index >= trials)
    if beyond:
        raise UserError(
            f"--only trial={beyond[0]}: the plan has {trials} trial{'s' if trials > 1 else ''}, counted from 0",
            hint=f"--trials {beyond[-1] + 1} makes it part of the plan",
            exit_code=2,
        )
    return sorted(set(only.trials))


def members_of(
    condition: int, values: Mapping[str, Any], trials: Sequence[int], seed: int, independent: Sequence[str]
) -> list[Member]:
    """Return the trials of one condition with their random keys.

    The values of the ``independent`` keys enter the random keys as canonical JSON.
    """
    entered = {path: canonical(values.get(path)) for path in independent}
    return [Member(condition, trial, f"{seeds.trial_key(seed, trial, entered):016x}") for trial in trials]
