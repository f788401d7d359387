"""Resolve a configuration: defaults, preset, source run, named run, command line; with the origin of every value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from xfw.config.keys import Schema, convert, is_list, schema_of, unknown_key
from xfw.config.named import FILE, NamedRun
from xfw.config.points import MOST_POINTS, Points, collect, read_overrides, split_assignment, typed_points
from xfw.config.structure import config_hash, instance, unstructure
from xfw.errors import Problem, UserError, WrongInput, did_you_mean, shortened
from xfw.experiment import Experiment
from xfw.manifest import Condition, Manifest, flatten, frozen, nested

__all__ = ["Resolved", "SourceConfig", "condition_configs", "resolve"]

DEFAULT_PRESET = "quick"
COMMAND_LINE = "command line"


@attrs.frozen
class SourceConfig:
    """The configuration of another run: its name, the values common to its conditions, and each condition's own."""

    run: str
    common: Mapping[str, Any]
    conditions: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> SourceConfig:
        """Return the configuration that a run's manifest holds."""
        return cls(manifest.run, manifest.config, tuple(condition.values for condition in manifest.conditions))


@attrs.frozen
class Layer:
    """What one origin says: the points of each key it sets, and what is wrong with it."""

    origin: str
    points: Points
    problems: list[Problem] = attrs.field(factory=list)


@attrs.frozen
class Resolved:
    """A resolved configuration: one instance per condition, and where every value came from.

    ``flat`` holds the values of each condition by key path, ``common`` (nested) what all conditions share, ``given``
    the key paths that the user set, ``trials`` and ``dtype`` the number of trials and the precision where none is
    asked for. Values of None appear nowhere but in ``configs``.
    """

    preset: str
    conditions: tuple[Condition, ...]
    configs: tuple[Any, ...]
    flat: tuple[Mapping[str, Any], ...]
    common: Mapping[str, Any]
    axes: tuple[str, ...]
    provenance: Mapping[str, str]
    given: frozenset[str]
    trials: int
    warnings: tuple[str, ...]
    config_hash: str
    dtype: str = "float32"


def resolve(
    experiment: Experiment,
    *,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    named: NamedRun | None = None,
    source: SourceConfig | None = None,
    folder: Path | None = None,
) -> Resolved:
    """Resolve the configuration of a run; raise ``WrongInput`` with every problem found.

    ``overrides`` are texts ``KEY=VALUE``; ``folder`` is where their ``@FILE`` start (default: the working
    directory). A preset named on the command line goes before that of the named run.
    """
    schema, name, here = schema_of(experiment.config_class), experiment.name, folder or Path.cwd()
    assignments, presets, problems = _command_line(overrides)
    presets += [] if preset is None else [preset]
    if source is None:
        preset = _chosen_preset(experiment, presets, named)
    elif presets:
        raise UserError(
            f"experiment '{name}': a preset cannot be combined with --from",
            hint="the configuration comes from that run; change single keys with -s KEY=VALUE",
            exit_code=2,
        )
    values = experiment.presets()[preset].values if preset else {}
    layers = [Layer(f"preset {preset}", *_mapped_points(values, schema, here, name))]
    if source is not None:
        kept = {path: value for path, value in flatten(source.common).items() if _taken_over(path, schema)}
        layers.append(Layer(f"run {source.run}", *_mapped_points(kept, schema, here, name, typed=True)))
    if named is not None:
        values = {**flatten(named.overrides), **flatten(named.sweep)}
        layers.append(Layer(FILE, *_mapped_points(values, schema, named.folder, name)))
    layers.append(Layer(COMMAND_LINE, *read_overrides(assignments, schema, here, name)))
    known = {path for layer in layers for path in layer.points}
    missing = [
        Problem(f"$.{key.path}", f"missing, expected {key.expected()}", f"give it: -s {key.path}=VALUE")
        for key in schema.keys.values()
        if key.required and key.path not in known
    ]
    _refuse(name, [*problems, *(problem for layer in layers for problem in layer.problems), *missing])
    trials = _default_trials(experiment, preset or "", named)
    resolved = _assembled(experiment, schema, preset or "", layers, source, trials)
    return attrs.evolve(resolved, dtype=experiment.presets()[preset].dtype) if preset else resolved


def _refuse(name: str, problems: Sequence[Problem]) -> None:
    if problems:
        raise WrongInput(f"experiment '{name}': wrong configuration", list(dict.fromkeys(problems)))


def _command_line(overrides: Sequence[str]) -> tuple[list[tuple[str, str]], list[str], list[Problem]]:
    """Return the assignments of the command line, the presets among them, and the texts that are not assignments."""
    assignments, presets, problems = [], [], []
    for text in overrides:
        try:
            name, value = split_assignment(text)
        except ValueError as error:
            problems.append(Problem("-s", str(error)))
        else:
            if name == "preset":
                presets.append(value.strip())
            else:
                assignments.append((name, value))
    return assignments, presets, problems


def _chosen_preset(experiment: Experiment, asked: Sequence[str], named: NamedRun | None) -> str:
    """Return the name of the preset to use (empty where the experiment has none); refuse one that does not exist."""
    if len(set(asked)) > 1:
        raise UserError(
            f"two presets are given: {shortened(', '.join(sorted(set(asked))))}", hint="give one", exit_code=2
        )
    presets = experiment.presets()
    name = asked[0] if asked else named.preset if named is not None else None
    if name is None:
        return DEFAULT_PRESET if DEFAULT_PRESET in presets else ""
    if name not in presets:
        raise UserError(
            f"experiment '{experiment.name}': unknown preset '{shortened(name)}'",
            hint=did_you_mean(name, presets) + (f"   presets: {', '.join(presets)}" if presets else ""),
            exit_code=2,
        )
    return name


def _mapped_points(
    values: Mapping[str, Any], schema: Schema, folder: Path, experiment: str, *, typed: bool = False
) -> tuple[Points, list[Problem]]:
    """Return the points of values from a preset, a file or (``typed``) a run.

    Texts follow the grammar of ``-s``, except those of a run. A list sweeps a key that does not take lists, and a
    list of lists one that does.
    """
    points: Points = {}
    problems: list[Problem] = []
    for name, value in values.items():
        key = schema.find(name)
        if key is None:
            problems.append(unknown_key(name, schema.names(), experiment))
            continue
        if isinstance(value, str) and not typed:
            points[key.path], wrong = collect(key, value, folder)
        else:
            several = isinstance(value, list | tuple) and (
                not is_list(key.kind) or (bool(value) and all(isinstance(item, list | tuple) for item in value))
            )
            points[key.path], wrong = typed_points(key, value if several and not typed else [value])
        problems += wrong
    return points, problems


def _assembled(
    experiment: Experiment,
    schema: Schema,
    preset: str,
    layers: Sequence[Layer],
    source: SourceConfig | None,
    trials: int,
) -> Resolved:
    """Return the conditions that the layers span, each checked."""
    points: Points = {path: (key.default,) for path, key in schema.keys.items()}
    provenance = dict.fromkeys(schema.keys, "default")
    for layer in layers:
        for path, found in layer.points.items():
            if len(found) > 1:
                points.pop(path)  # swept keys stand in the order they were given
            points[path] = found
            provenance[path] = layer.origin
    fixed, joint = _joint_conditions(experiment, schema, layers, source)
    if source is not None:
        provenance.update(dict.fromkeys(fixed, f"run {source.run}"))
    swept = {path: found for path, found in points.items() if len(found) > 1 and path not in fixed}
    count = len(joint) * math.prod(map(len, swept.values()))
    if count > MOST_POINTS:
        sizes = " × ".join(f"{len(found):,} of {path}" for path, found in swept.items())
        raise WrongInput(
            f"experiment '{experiment.name}': {count:,} conditions ({sizes}), expected at most {MOST_POINTS:,}",
            hint="divide the sweep into several runs, and join them: xfw merge",
        )
    first = {path: found[0] for path, found in points.items()}
    given = frozenset(path for path, origin in provenance.items() if origin in (COMMAND_LINE, FILE))
    try:
        configs: tuple[Any, ...] = tuple(
            instance(experiment.config_class, {**first, **chosen, **dict(zip(swept, choice, strict=True))})
            for chosen in joint
            for choice in itertools.product(*swept.values())
        )
    except WrongInput as error:
        _refuse(experiment.name, error.problems)
        raise
    warnings = _checked(experiment, configs, given)
    return _spanned(configs, (*fixed, *swept), preset, provenance, given, trials, warnings)


def _spanned(
    configs: tuple[Any, ...],
    swept: Sequence[str],
    preset: str,
    provenance: Mapping[str, str],
    given: frozenset[str],
    trials: int,
    warnings: tuple[str, ...],
) -> Resolved:
    """Return the resolved configuration that its conditions make up."""
    trees = [unstructure(config) for config in configs]
    flat = tuple(flatten(tree) for tree in trees)
    # A key that a configuration derives from a swept one, and so differs between conditions, is an axis too.
    paths = dict.fromkeys(path for values in flat for path in values)
    differing = [path for path in paths if any(values.get(path) != flat[0].get(path) for values in flat)]
    axes = tuple(dict.fromkeys([*swept, *differing]))
    return Resolved(
        preset=preset,
        conditions=tuple(
            Condition(index, {path: values[path] for path in axes if path in values})
            for index, values in enumerate(flat)
        ),
        configs=configs,
        flat=flat,
        common=nested({path: value for path, value in flat[0].items() if path not in axes}),
        axes=axes,
        provenance=provenance,
        given=given,
        trials=trials,
        warnings=warnings,
        config_hash=config_hash(trees),
    )


def _joint_conditions(
    experiment: Experiment, schema: Schema, layers: Sequence[Layer], source: SourceConfig | None
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Return the swept keys of another run that nothing overrides, and their distinct joint values."""
    if source is None:
        return (), [{}]
    later = {path for layer in layers[2:] for path in layer.points}
    paths = tuple(
        dict.fromkeys(path for values in source.conditions for path in values if _taken_over(path, schema, later))
    )
    joint: dict[Any, dict[str, Any]] = {}
    problems = []
    for values in source.conditions:
        chosen = {}
        for path in paths:
            try:
                chosen[path] = None if path not in values else convert(schema.keys[path], values[path])
            except ValueError as error:
                problems.append(Problem(f"$.{path}", str(error)))
        joint.setdefault(frozen(list(chosen.values())), chosen)
    _refuse(experiment.name, problems)
    return paths, list(joint.values()) or [{}]


def _taken_over(path: str, schema: Schema, later: Iterable[str] = ()) -> bool:
    # It exists still, is inherited, and nothing overrides it.
    return path in schema.keys and schema.keys[path].info.inherited and path not in later


def _checked(experiment: Experiment, configs: Sequence[Any], given: frozenset[str]) -> tuple[str, ...]:
    """Ask the experiment about every condition; return the warnings that all of them raise."""
    problems = [list(experiment.hooks.check_config(config=config, given=given) or ()) for config in configs]
    _refuse(experiment.name, [problem for found in problems for problem in found if problem.level == "error"])
    everywhere = set.intersection(*map(set, problems)) if problems else set()
    return tuple(str(problem) for problem in dict.fromkeys(problems[0]) if problem in everywhere)


def _default_trials(experiment: Experiment, preset: str, named: NamedRun | None) -> int:
    """Return the number of trials that the named run, else the preset, asks for; else 1."""
    trials = experiment.presets()[preset].trials if preset else None
    if named is not None and named.trials is not None:
        trials = named.trials
    if trials is not None and trials < 1:
        where = f"{FILE}: $.{named.name}.trials" if named is not None else f"preset '{preset}'"
        raise UserError(f"{where}: found {trials}, expected at least 1 trial", exit_code=2)
    return 1 if trials is None else trials


def condition_configs(manifest: Manifest, cls: type, wanted: Iterable[int] | None = None) -> tuple[Any, ...]:
    """Return the configuration of every condition of a stored run, or of the ``wanted`` ones, in order.

    Raises ``WrongInput`` with all problems. What the conditions share is read once.
    """
    problems: dict[Problem, None] = {}

    def read(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        flat = dict(base)
        for path, value in values.items():
            try:
                flat[path] = convert(schema.keys[path], value)
            except KeyError:
                problems[unknown_key(path, schema.names(), "")] = None
            except ValueError as error:
                problems[Problem(f"$.{path}", str(error))] = None
        return flat

    schema = schema_of(cls)
    common = read(flatten(manifest.config), {path: key.default for path, key in schema.keys.items()})
    indices = range(len(manifest.conditions)) if wanted is None else wanted
    flat = [read(manifest.conditions[index].values, common) for index in indices]
    for key in schema.keys.values():
        if key.required and any(values[key.path] is key.default for values in flat):
            problems[Problem(f"$.{key.path}", "missing, and it has no default")] = None
    if problems:
        raise WrongInput("wrong configuration", list(problems))
    return tuple(instance(cls, values) for values in flat)
