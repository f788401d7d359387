"""Resolve a configuration: defaults, preset, source run, named run, command line; with the origin of every value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from xfw.config.named import FILE, NamedRun
from xfw.config.points import collect, read_overrides, split_assignment, typed_points
from xfw.config.schema import Key, Schema, nested, schema_of, unknown_key
from xfw.config.structure import config_hash, flatten, structure, unstructure
from xfw.config.values import is_list
from xfw.errors import Problem, UserError, WrongInput, did_you_mean
from xfw.manifest import Condition, Manifest

if TYPE_CHECKING:
    from xfw.experiment import Experiment

__all__ = ["Resolved", "SourceConfig", "condition_configs", "resolve"]

DEFAULT_PRESET = "quick"
COMMAND_LINE = "command line"
Points = Mapping[str, tuple[Any, ...]]


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
    """What one origin says: the points of each key it sets, by path."""

    origin: str
    points: Points


@attrs.frozen
class Resolved:
    """A resolved configuration: one instance per condition, and where every value came from.

    ``common`` holds (nested) what all conditions share, ``given`` the key paths that the user set,
    ``trials`` the number of trials where none is asked for. Values of None appear nowhere but in ``configs``.
    """

    preset: str
    conditions: tuple[Condition, ...]
    configs: tuple[Any, ...]
    common: Mapping[str, Any]
    axes: tuple[str, ...]
    provenance: Mapping[str, str]
    given: frozenset[str]
    trials: int
    warnings: tuple[str, ...]
    config_hash: str


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
    schema = schema_of(experiment.config_class)
    assignments, preset_given, problems = command_line(overrides)
    if source is None:
        preset = chosen_preset(experiment, [preset, preset_given], named)
    else:
        refuse_preset(experiment, [preset, preset_given])
        preset = ""
    here = folder or Path.cwd()
    layers = []
    for layer, found in (
        preset_layer(experiment, preset, schema, here),
        named_layer(named, schema, experiment.name),
        command_layer(assignments, schema, here, experiment.name),
    ):
        layers.append(layer)
        problems += found
    if source is not None:
        layers.insert(1, Layer(f"run {source.run}", source_points(source, schema)))
    problems += missing(schema, layers)
    refuse(experiment.name, problems)
    return assemble(experiment, schema, preset, layers, source, named)


def refuse(name: str, problems: Sequence[Problem]) -> None:
    """Raise ``WrongInput`` where there are problems."""
    if problems:
        raise WrongInput(f"experiment '{name}': wrong configuration", list(dict.fromkeys(problems)))


def command_line(overrides: Sequence[str]) -> tuple[list[tuple[str, str]], str | None, list[Problem]]:
    """Return the assignments of the command line, the preset among them, and the texts that are none."""
    assignments, preset, problems = [], None, []
    for text in overrides:
        try:
            name, value = split_assignment(text)
        except ValueError as error:
            problems.append(Problem("-s", str(error)))
            continue
        if name == "preset":
            preset = value.strip()
        else:
            assignments.append((name, value))
    return assignments, preset, problems


def refuse_preset(experiment: Experiment, asked: Sequence[str | None]) -> None:
    """Refuse a preset beside ``--from RUN``: the run's configuration would hide all of it."""
    if any(name is not None for name in asked):
        raise UserError(
            f"experiment '{experiment.name}': a preset cannot be combined with --from",
            hint="the configuration comes from that run; change single keys with -s KEY=VALUE",
            exit_code=2,
        )


def chosen_preset(experiment: Experiment, asked: Sequence[str | None], named: NamedRun | None) -> str:
    """Return the name of the preset to use (empty where the experiment has none); refuse one that does not exist."""
    given = {name for name in asked if name is not None}
    if len(given) > 1:
        raise UserError(f"two presets are given: {', '.join(sorted(given))}", hint="give one", exit_code=2)
    presets = experiment.presets()
    name = next(iter(given), named.preset if named is not None else None)
    if name is None:
        return DEFAULT_PRESET if DEFAULT_PRESET in presets else ""
    if name not in presets:
        known = f"   presets: {', '.join(presets)}" if presets else ""
        raise UserError(
            f"experiment '{experiment.name}': unknown preset '{name}'",
            hint=did_you_mean(name, presets) + known,
            exit_code=2,
        )
    return name


def preset_layer(experiment: Experiment, name: str, schema: Schema, folder: Path) -> tuple[Layer, list[Problem]]:
    """Return what a preset says."""
    values = experiment.presets()[name].values if name else {}
    points, problems = mapped_points(values, schema, folder, experiment.name)
    return Layer(f"preset {name}", points), problems


def named_layer(named: NamedRun | None, schema: Schema, experiment: str) -> tuple[Layer, list[Problem]]:
    """Return what a named run of ``experiments.toml`` says."""
    if named is None:
        return Layer(FILE, {}), []
    values = {**flatten(named.overrides), **flatten(named.sweep)}
    points, problems = mapped_points(values, schema, named.folder, experiment)
    return Layer(FILE, points), problems


def command_layer(
    assignments: Sequence[tuple[str, str]], schema: Schema, folder: Path, experiment: str
) -> tuple[Layer, list[Problem]]:
    """Return what the command line says."""
    points, problems = read_overrides(assignments, schema, folder, experiment)
    return Layer(COMMAND_LINE, points), problems


def mapped_points(
    values: Mapping[str, Any], schema: Schema, folder: Path, experiment: str
) -> tuple[Points, list[Problem]]:
    """Return the points of values from a preset or a file: texts by the grammar of ``-s``, others as typed."""
    points: dict[str, tuple[Any, ...]] = {}
    problems: list[Problem] = []
    for name, value in values.items():
        key = schema.find(name)
        if key is None:
            problems.append(unknown_key(name, schema.names(), experiment))
            continue
        if isinstance(value, str):
            points[key.path], found = collect(key, value, folder)
        else:
            points[key.path], found = typed_points(key, value if sweeps(key, value) else [value])
        problems += found
    return points, problems


def sweeps(key: Key, value: Any) -> bool:
    """Say whether a typed value is a list of points: a list for a key that is none, or a list of lists."""
    if not isinstance(value, list | tuple):
        return False
    return not is_list(key.kind) or (bool(value) and all(isinstance(item, list | tuple) for item in value))


def source_points(source: SourceConfig, schema: Schema) -> Points:
    """Return the values common to all conditions of another run, as far as they are taken over."""
    return {path: (value,) for path, value in flatten(source.common).items() if taken_over(path, schema)}


def missing(schema: Schema, layers: Sequence[Layer]) -> list[Problem]:
    """Return the required keys that no layer sets."""
    known = {path for layer in layers for path in layer.points}
    return [
        Problem(f"$.{key.path}", f"missing, expected {key.expected()}", f"give it: -s {key.path}=VALUE")
        for key in schema.keys.values()
        if key.required and key.path not in known
    ]


def assemble(
    experiment: Experiment,
    schema: Schema,
    preset: str,
    layers: Sequence[Layer],
    source: SourceConfig | None,
    named: NamedRun | None,
) -> Resolved:
    """Return the conditions that the layers span, each structured and checked."""
    flat, provenance = merged(schema, layers)
    fixed, joint = joint_conditions(schema, layers, source)
    if source is not None:
        provenance.update(dict.fromkeys(fixed, f"run {source.run}"))
    swept = {path: points for path, points in flat.items() if len(points) > 1 and path not in fixed}
    values = [
        {**{path: points[0] for path, points in flat.items()}, **chosen, **dict(zip(swept, choice, strict=True))}
        for chosen in joint
        for choice in itertools.product(*swept.values())
    ]
    configs = tuple(structured(experiment, each) for each in values)
    given = frozenset(path for path, origin in provenance.items() if origin in (COMMAND_LINE, FILE))
    warnings = checked(experiment, configs, given)
    return spanned(
        Resolved(
            preset=preset,
            conditions=(),
            configs=configs,
            common={},
            axes=(*fixed, *swept),
            provenance=provenance,
            given=given,
            trials=default_trials(experiment, preset, named),
            warnings=warnings,
            config_hash="",
        )
    )


def spanned(resolved: Resolved) -> Resolved:
    """Fill in the conditions, what they share and the hash, from the configurations.

    A key that a configuration derives from a swept one (and so differs between conditions) becomes an axis.
    """
    nested_each = [unstructure(config) for config in resolved.configs]
    flat_each = [flatten(values) for values in nested_each]
    paths = list(dict.fromkeys(path for flat in flat_each for path in flat))
    differing = [path for path in paths if any(flat.get(path) != flat_each[0].get(path) for flat in flat_each)]
    axes = tuple(dict.fromkeys([*resolved.axes, *differing]))
    conditions = [
        Condition(index, {path: flat[path] for path in axes if path in flat}) for index, flat in enumerate(flat_each)
    ]
    common = nested({path: value for path, value in flat_each[0].items() if path not in axes})
    return attrs.evolve(
        resolved, conditions=tuple(conditions), common=common, axes=axes, config_hash=config_hash(nested_each)
    )


def merged(schema: Schema, layers: Sequence[Layer]) -> tuple[dict[str, tuple[Any, ...]], dict[str, str]]:
    """Return the winning points and their origin by key path; swept keys stand in the order they were given."""
    flat = {path: (key.default,) for path, key in schema.keys.items()}
    provenance = dict.fromkeys(schema.keys, "default")
    for layer in layers:
        for path, points in layer.points.items():
            if len(points) > 1:
                flat.pop(path)
            flat[path] = points
            provenance[path] = layer.origin
    return flat, provenance


def joint_conditions(
    schema: Schema, layers: Sequence[Layer], source: SourceConfig | None
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Return the swept keys of another run that nothing overrides, and their distinct joint values."""
    if source is None:
        return (), [{}]
    later = {path for layer in layers[2:] for path in layer.points}
    paths = tuple(
        dict.fromkeys(path for values in source.conditions for path in values if taken_over(path, schema, later))
    )
    joint: list[dict[str, Any]] = []
    for values in source.conditions:
        kept = {path: values.get(path) for path in paths}
        if kept not in joint:
            joint.append(kept)
    return paths, joint or [{}]


def taken_over(path: str, schema: Schema, later: frozenset[str] | set[str] = frozenset()) -> bool:
    """Say whether ``--from RUN`` takes a key over: it exists still, is inherited, and nothing overrides it."""
    return path in schema.keys and schema.keys[path].info.inherited and path not in later


def structured(experiment: Experiment, values: Mapping[str, Any]) -> Any:
    """Return the configuration of one condition from its values by key path."""
    try:
        return structure(experiment.config_class, nested(values))
    except WrongInput as error:
        refuse(experiment.name, error.problems)
        raise


def checked(experiment: Experiment, configs: Sequence[Any], given: frozenset[str]) -> tuple[str, ...]:
    """Ask the experiment about every condition; return the warnings that all of them raise."""
    problems = [list(experiment.hooks.check_config(config=config, given=given) or ()) for config in configs]
    refuse(experiment.name, [problem for found in problems for problem in found if problem.level == "error"])
    everywhere = set.intersection(*map(set, problems)) if problems else set()
    return tuple(str(problem) for problem in dict.fromkeys(problems[0]) if problem in everywhere)


def default_trials(experiment: Experiment, preset: str, named: NamedRun | None) -> int:
    """Return the number of trials that the named run, else the preset, asks for; else 1."""
    trials = experiment.presets()[preset].trials if preset else None
    if named is not None and named.trials is not None:
        trials = named.trials
    if trials is not None and trials < 1:
        where = f"{FILE}: $.{named.name}.trials" if named is not None else f"preset '{preset}'"
        raise UserError(f"{where}: found {trials}, expected at least 1 trial", exit_code=2)
    return 1 if trials is None else trials


def condition_configs(manifest: Manifest, cls: type) -> tuple[Any, ...]:
    """Return the configuration of every condition of a stored run, in order."""
    common = flatten(manifest.config)
    return tuple(structure(cls, nested({**common, **condition.values})) for condition in manifest.conditions)
