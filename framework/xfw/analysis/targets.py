"""The published numbers of an experiment: ``targets.toml`` of its plugin, read and checked as a whole."""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import BaseValidationError

from xfw.config.named import strict
from xfw.config.structure import problems_of
from xfw.errors import Problem, UserError, WrongInput, did_you_mean

__all__ = ["FILE", "KINDS", "Kind", "Suite", "Target", "Targets", "Tolerance", "read_targets", "targets_text"]

FILE = "targets.toml"
SCHEMA = 1


def among(*choices: Any) -> Any:
    """Return a validator of a key with few values."""
    return attrs.validators.in_(choices)


def within(low: float, high: float = math.inf) -> Any:
    """Return a validator of a number that may be None."""
    return attrs.validators.optional([attrs.validators.ge(low), attrs.validators.le(high)])


@attrs.frozen(kw_only=True)
class Tolerance:
    """How far a measured mean may lie from the published one.

    ``absolute``, ``relative`` (to the published value), or ``floor`` and ``factor`` times the standard error of
    the difference, joined by ``combine``. ``spread`` says whose spread the error rests on: ``both``, or the
    ``published`` or one's ``own`` for both. One's own is robust and never more than the published SD. ``single`` is
    the width in published SDs where there is one value only. Trials that lie more than ``far`` published SDs (and the
    floor) off may be a share of ``escapes`` at most.
    """

    absolute: float | None = attrs.field(default=None, validator=within(0))
    relative: float | None = attrs.field(default=None, validator=within(0))
    floor: float = attrs.field(default=0.0, validator=within(0))
    factor: float | None = attrs.field(default=None, validator=within(0))
    spread: str = attrs.field(default="both", validator=among("both", "published", "own"))
    combine: str = attrs.field(default="sum", validator=among("sum", "max"))
    single: float | None = attrs.field(default=None, validator=within(0))
    far: float = attrs.field(default=6.0, validator=within(0))
    escapes: float = attrs.field(default=0.05, validator=within(0, 1))

    @property
    def forms(self) -> int:
        """Return how many of the three forms are given; one is right."""
        return sum(form is not None for form in (self.absolute, self.relative, self.factor))


@attrs.frozen(kw_only=True)
class Target:
    """One published number, order or distribution, and which stored trials are measured against it."""

    name: str
    metric: str
    kind: str = "mean"
    preset: str = "paper"
    where: dict[str, Any] = attrs.field(factory=dict)
    ignore: list[str] = attrs.field(factory=list)
    at: dict[str, Any] = attrs.field(factory=dict)
    trials: list[int] | None = None
    min_n: int = attrs.field(default=1, validator=within(1))
    source: str = ""
    tags: list[str] = attrs.field(factory=list)
    note: str = ""
    value: float | None = None
    sd: float | None = attrs.field(default=None, validator=within(0))
    n: int | None = attrs.field(default=None, validator=within(1))
    ddof: int = attrs.field(default=1, validator=among(0, 1))
    tolerance: Tolerance | None = None
    low: float | None = None
    high: float | None = None
    of: str = attrs.field(default="mean", validator=among("mean", "each", "sd"))
    at_least: float | None = attrs.field(default=None, validator=within(0, 1))
    at_most: float | None = attrs.field(default=None, validator=within(0, 1))
    one_of: list[float] | None = None
    wheres: list[dict[str, Any]] = attrs.field(factory=list)
    rule: str = attrs.field(default="decreasing", validator=among("decreasing", "first_largest", "first_smallest"))
    values: list[float] | None = None
    alpha: float = attrs.field(default=0.01, validator=within(1e-12, 1))
    above: float | None = None

    @property
    def selections(self) -> list[dict[str, Any]]:
        """Return what each group of trials has in common: one ``where``, or those of an order."""
        return [{**self.where, **each} for each in self.wheres] if self.wheres else [self.where]


@attrs.frozen(kw_only=True)
class Suite:
    """Targets that are judged together: it passes where at least ``share`` of those with data are reproduced."""

    name: str
    share: float = attrs.field(validator=within(1e-12, 1))
    tags: list[str] = attrs.field(factory=list)
    prefix: str = ""

    def takes(self, target: Target) -> bool:
        """Say whether a target belongs to the suite."""
        tagged = bool(set(self.tags) & set(target.tags))
        return tagged or (bool(self.prefix) and target.name.startswith(self.prefix))


@attrs.frozen
class Targets:
    """All targets of an experiment; ``places`` says where in the file each one stands."""

    targets: tuple[Target, ...]
    suites: tuple[Suite, ...]
    places: Mapping[str, str]


@attrs.frozen
class Kind:
    """What a kind of target needs, and what else it takes, beside the keys of every target."""

    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Return all keys that a target of the kind may have."""
        return (*SHARED, *self.needs, *self.takes, *self.one_of)


KINDS: Mapping[str, Kind] = {
    "mean": Kind(("value", "tolerance"), ("sd", "n", "ddof")),
    "exact": Kind(("value",), ("tolerance",)),
    "range": Kind((), ("of", "n", "ddof"), ("low", "high")),
    "share": Kind((), ("low", "high", "one_of", "tolerance", "n"), ("at_least", "at_most")),
    "order": Kind(("wheres",), ("rule", "n")),
    "distribution": Kind(("values",), ("alpha", "above")),
}
FIELDS = tuple(field.name for field in attrs.fields(Target))
SHARED = ("name", "metric", "kind", "preset", "where", "ignore", "at", "trials", "min_n", "source", "tags", "note")
MERGED = ("where", "at")


def targets_text(module: Any) -> str | None:
    """Return the text of the ``targets.toml`` beside a plugin's module; None where it ships none."""
    if not hasattr(module, "__path__"):
        return None
    file = resources.files(module.__name__) / FILE
    return file.read_text(encoding="utf-8") if file.is_file() else None


def read_targets(text: str, experiment: str) -> Targets:
    """Return the targets that a text holds; raise ``WrongInput`` with all mistakes of form, one line each."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"experiment '{experiment}': {FILE} is no TOML: {error}", exit_code=2) from error
    known = ("schema", "defaults", "target", "group", "suite")
    problems = unknown_keys(content, known, "$")
    if content.get("schema") != SCHEMA:
        problems.append(Problem("$.schema", f"found {content.get('schema')!r}, expected {SCHEMA}"))
    found: dict[str, tuple[str, Target]] = {}
    for path, given, values in tables_of(content, problems):
        target = structured(values, Target, path, problems)
        if target is not None:
            problems += kind_problems(target, given, path)
            if target.name in found:
                problems.append(Problem(f"{path}.name", f"'{target.name}' is the name of {found[target.name][0]} too"))
            found[target.name] = (path, target)
    suites = read_suites(content, [target for _, target in found.values()], problems)
    if problems:
        raise WrongInput(f"experiment '{experiment}': wrong {FILE}", list(dict.fromkeys(problems)))
    return Targets(
        tuple(target for _, target in found.values()),
        tuple(suites),
        {name: path for name, (path, _) in found.items()},
    )


def tables_of(
    content: Mapping[str, Any], problems: list[Problem]
) -> list[tuple[str, Mapping[str, Any], dict[str, Any]]]:
    """Return path, own keys, and keys with the defaults merged in, of every target of the file."""
    defaults = table(content.get("defaults", {}), "$.defaults", problems)
    problems += unknown_keys(defaults, FIELDS, "$.defaults")
    found = entries(content, "target", "$", defaults, problems)
    for number, group in enumerate(listed(content, "group", "$", problems)):
        path = f"$.group[{number}]"
        shared = {name: value for name, value in table(group, path, problems).items() if name != "target"}
        problems += unknown_keys(shared, FIELDS, path)
        found += entries(group, "target", path, merged(defaults, shared), problems)
    return found


def entries(
    content: Any, name: str, path: str, defaults: Mapping[str, Any], problems: list[Problem]
) -> list[tuple[str, Mapping[str, Any], dict[str, Any]]]:
    """Return the targets of one list of tables, with these defaults."""
    found = []
    for number, each in enumerate(listed(content, name, path, problems)):
        here = f"{path}.{name}[{number}]"
        given = table(each, here, problems)
        known = KINDS.get(str(merged(defaults, given).get("kind", "mean")))
        permitted = FIELDS if known is None else known.keys
        fitting = {key: value for key, value in defaults.items() if key in permitted}
        found.append((here, given, merged(fitting, given)))
    return found


def listed(content: Any, name: str, path: str, problems: list[Problem]) -> Sequence[Any]:
    """Return a list of tables of a table; a problem where it is none."""
    found = content.get(name, []) if isinstance(content, Mapping) else []
    if isinstance(found, list):
        return found
    problems.append(Problem(f"{path}.{name}", f"found {found!r}, expected tables [[{name}]]"))
    return []


def table(value: Any, path: str, problems: list[Problem]) -> Mapping[str, Any]:
    """Return a table; a problem, and an empty one, where it is none."""
    if isinstance(value, Mapping):
        return value
    problems.append(Problem(path, f"found {value!r}, expected a table"))
    return {}


def unknown_keys(values: Mapping[str, Any], known: Sequence[str], path: str) -> list[Problem]:
    """Return the keys that are none of the known ones."""
    return [
        Problem(f"{path}.{name}", f"unknown key '{name}'", did_you_mean(name, known))
        for name in values
        if name not in known
    ]


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults with what is given on top: ``where`` and ``at`` key by key, the rest as a whole."""
    result = {**defaults, **given}
    for name in MERGED:
        both = (defaults.get(name), given.get(name))
        if all(isinstance(each, Mapping) for each in both):
            result[name] = {**defaults[name], **given[name]}
    return result


def structured(values: Mapping[str, Any], kind: type[Any], path: str, problems: list[Problem]) -> Any:
    """Return an attrs value of a table, or None and its problems."""
    try:
        return converter().structure(values, kind)
    except BaseValidationError as error:
        problems += problems_of(error, path)
        return None


@functools.cache
def converter() -> cattrs.Converter:
    """Return the converter of targets: strict types, no extra keys."""
    made = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    for kind, words in ((int, "a whole number"), (str, "text")):
        made.register_structure_hook(kind, strict(kind, words))
    made.register_structure_hook(float, number)

    def collection(value: Any, kind: Any) -> Any:
        wanted, words = get_origin(kind), "a list" if get_origin(kind) is list else "a table"
        if not isinstance(value, wanted):  # cattrs would take a text for a list of letters
            raise ValueError(f"found {value!r}, expected {words}")
        return dict(value) if wanted is dict else [made.structure(item, get_args(kind)[0]) for item in value]

    made.register_structure_hook_func(lambda kind: bool({get_origin(kind)} & {list, dict}), collection)
    return made


def number(value: Any, _: Any) -> float:
    """Return a number as float; TOML's infinities and NaN are none here."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"found {value!r}, expected a number")
    return float(value)


def kind_problems(target: Target, given: Mapping[str, Any], path: str) -> list[Problem]:
    """Return what a target lacks, or has too much, for its kind."""
    kind = KINDS.get(target.kind)
    if kind is None:
        return [Problem(f"{path}.kind", f"unknown kind '{target.kind}'", did_you_mean(target.kind, KINDS))]
    problems = [
        Problem(f"{path}.{name}", f"missing, a target of kind '{target.kind}' needs it")
        for name in kind.needs
        if not getattr(target, name) and getattr(target, name) != 0
    ]
    problems += [
        Problem(f"{path}.{name}", f"is not used by kind '{target.kind}'") for name in given if name not in kind.keys
    ]
    if kind.one_of and all(getattr(target, name) is None for name in kind.one_of):
        problems.append(Problem(path, f"a target of kind '{target.kind}' needs {' or '.join(kind.one_of)}"))
    if target.kind == "order" and len(target.wheres) == 1:
        problems.append(Problem(f"{path}.wheres", "found one group of trials, expected at least two"))
    if target.kind == "share" and target.low is None and target.high is None and target.one_of is None:
        problems.append(Problem(path, "a target of kind 'share' needs low, high or one_of"))
    return problems + tolerance_problems(target, path)


def tolerance_problems(target: Target, path: str) -> list[Problem]:
    """Return what is wrong with a tolerance, and what it needs of the published number."""
    given = target.tolerance
    if given is None:
        return []
    if target.kind in ("exact", "share"):
        fits = given.forms == 1 and given.absolute is not None
        return [] if fits else [Problem(f"{path}.tolerance", f"kind '{target.kind}' takes absolute only")]
    if given.forms != 1:
        return [Problem(f"{path}.tolerance", "expected one of absolute, relative, or factor (with floor)")]
    needed = ["n"] if given.factor is not None else []
    if given.single is not None or (given.factor is not None and given.spread != "own"):
        needed.insert(0, "sd")
    return [
        Problem(f"{path}.{name}", "missing, its tolerance needs it") for name in needed if getattr(target, name) is None
    ]


def read_suites(content: Mapping[str, Any], targets: Sequence[Target], problems: list[Problem]) -> list[Suite]:
    """Return the suites of the file; one that no target belongs to is a mistake."""
    suites = []
    for place, each in enumerate(listed(content, "suite", "$", problems)):
        path = f"$.suite[{place}]"
        suite = structured(each, Suite, path, problems)
        if suite is not None and not any(suite.takes(target) for target in targets):
            problems.append(Problem(path, f"no target belongs to suite '{suite.name}'"))
        if suite is not None:
            suites.append(suite)
    return suites
