"""Make the plan of a run: conditions, trials with their random keys, and blocks of equal shape."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import attrs

from xfw.config.keys import schema_of
from xfw.config.resolve import Resolved, condition_configs
from xfw.config.structure import canonical, config_hash, flatten, unstructure
from xfw.errors import UserError, did_you_mean
from xfw.experiment import TRAIN, Experiment, Stage
from xfw.manifest import BlockPlan, Condition, Execution, Manifest, Member, Source
from xfw.plan.deal import Part, cpu_parts, device_parts
from xfw.plan.device import total_memory
from xfw.plan.estimate import OnceOnly, Shape, estimated, measure
from xfw.plan.history import History
from xfw.plan.trials import Only, kept_conditions, kept_trials, members_of

__all__ = ["Plan", "Request", "build", "groups_of", "plan", "stages_to_run"]


MOST_TRIALS = 100_000
"""Most trials of a run, those that --only leaves out included."""


@attrs.frozen
class Request:
    """What a run is asked to do, beside its configuration."""

    execution: Execution
    seed: int
    trials: int = 1
    only: Only = attrs.field(factory=Only)
    block_size: int | None = None
    source: Source | None = None
    stages: tuple[str, ...] = ("train",)
    command: tuple[str, ...] = ()
    history: History = attrs.field(factory=History)


@attrs.frozen
class BlockEstimate:
    """What is expected of a block: the parameters of one trial, and its seconds where blocks like it have run here
    before. ``least`` is what they are at least, by the model of ``plan/estimate``."""

    parameters: int
    seconds: float | None
    least: float


DOUBT = 3.0
"""How far the seconds of the model may lie above those of a quiet machine: it knows no work of a plugin's own."""


@attrs.frozen
class Plan:
    """A manifest, and what is expected of each of its blocks."""

    manifest: Manifest
    estimates: tuple[BlockEstimate, ...] = ()


def build(experiment: Experiment, resolved: Resolved, request: Request) -> Manifest:
    """Return the manifest of a run; its run id is empty until the run directory is made."""
    return plan(experiment, resolved, request).manifest


def plan(experiment: Experiment, resolved: Resolved, request: Request, *, download: bool = True) -> Plan:
    """Return the manifest of a run with the estimates of its blocks; measures one network of every shape.

    Data sets that are not here are downloaded, or refused where ``download`` is False.
    """
    execution = request.execution
    refuse_many(len(resolved.configs), request.trials)
    kept = kept_conditions(resolved.flat, request.only)
    groups = _groups(experiment, resolved, request, kept, download=download)
    place_of = {condition: place for place, condition in enumerate(kept)}
    plan = Plan(_manifest(experiment, resolved, request, kept))
    blocks: list[BlockPlan] = []
    estimates: list[BlockEstimate] = []
    for group, parts in zip(groups, _parts(groups, request), strict=True):
        for part in parts:
            expected = estimated(group.shape, part.width, execution)
            before = request.history.seconds(group.shape, part.width, execution)
            estimates.append(BlockEstimate(group.shape.work.parameters, before, expected.seconds / DOUBT))
            members = [group.members[place] for place in part.places]
            chosen = tuple(attrs.evolve(member, condition=place_of[member.condition]) for member in members)
            strategy = group.shape.strategy
            blocks.append(BlockPlan(len(blocks), chosen, part.width, strategy, expected.steps, expected.memory))
    manifest = attrs.evolve(plan.manifest, blocks=tuple(blocks))
    if execution.strategy == "tune":
        manifest = tuned(manifest, experiment)
    return Plan(manifest, tuple(estimates))


@attrs.frozen(eq=False)
class Group:
    """All trials of equal shape, by condition and then by index, and the places of those that are kept."""

    shape: Shape
    members: Sequence[Member]
    places: Sequence[int]


def _groups(
    experiment: Experiment, resolved: Resolved, request: Request, kept: Sequence[int], *, download: bool
) -> list[Group]:
    sources = OnceOnly(request.execution.data_dir or None, download=download)
    conditions = frozenset(kept)
    trials = frozenset(kept_trials(request.trials, request.only))
    groups = []
    for group in groups_of(experiment.config_class, resolved.flat):
        if conditions.isdisjoint(group):
            continue
        shape = measure(experiment, resolved.configs[group[0]], request.execution, sources)
        if TRAIN.name not in request.stages:
            shape = attrs.evolve(shape, passes={})
        check_shared(experiment, resolved, group)
        members: list[Member] = []
        for index in group:
            independent = experiment.hooks.select_unpaired_keys(config=resolved.configs[index]) or ()
            members += members_of(index, resolved.flat[index], range(request.trials), request.seed, independent)
        places = [
            place for place, member in enumerate(members) if member.condition in conditions and member.trial in trials
        ]
        groups.append(Group(shape, members, places))
    return groups


def check_shared(experiment: Experiment, resolved: Resolved, group: Sequence[int]) -> None:
    """Refuse conditions that may share a block, and whose passes, records or stages differ: a block has one of each."""
    for name in ("plan_passes", "declare_records", "define_stages"):
        ask = getattr(experiment.hooks, name)
        shared = ask(config=resolved.configs[group[0]])
        for index in group[1:]:
            if ask(config=resolved.configs[index]) == shared:
                continue
            first, other = resolved.flat[group[0]], resolved.flat[index]
            keys = [path for path in other if other[path] != first.get(path)]
            raise UserError(
                f"{name}: returns other values where only {', '.join(keys)} differs, which is marked per_trial",
                hint="the trials of a block share their passes, records and stages: take per_trial from such keys",
                exit_code=2,
            )


def _parts(groups: Sequence[Group], request: Request) -> list[list[Part]]:
    """Return the blocks of each group."""
    execution = request.execution
    if execution.device == "cpu":
        costs = [estimated(group.shape, 1, execution).seconds for group in groups]
        return cpu_parts([group.places for group in groups], costs, execution.jobs, request.block_size)
    limit = total_memory(execution.device)

    def fits(shape: Shape, width: int) -> bool:
        return limit is None or estimated(shape, width, execution).memory <= limit

    return [
        device_parts(len(group.members), group.places, request.block_size, partial(fits, group.shape))
        for group in groups
    ]


def refuse_many(conditions: int, trials: int) -> None:
    """Refuse a plan of too many trials before any of them is made."""
    if conditions * trials > MOST_TRIALS:
        raise UserError(
            f"{conditions * trials:,} trials ({conditions:,} condition{'s' * (conditions != 1)} × {trials:,}), "
            f"expected at most {MOST_TRIALS:,} in a run",
            hint="divide them into several runs, and join these: xfw merge",
            exit_code=2,
        )


def tuned(manifest: Manifest, experiment: Experiment) -> Manifest:
    """Return the manifest with the fastest strategy of every shape, as timed on its first block."""
    from xfw.engine.strategy import tune

    timings: dict[str, Mapping[str, float]] = {}
    blocks = []
    configs = condition_configs(manifest, experiment.config_class)
    for block in manifest.blocks:
        shape = shape_text(experiment.config_class, flatten(unstructure(configs[block.members[0].condition])))
        if shape not in timings:
            timings[shape] = tune(manifest, block, experiment)
        blocks.append(attrs.evolve(block, strategy=next(iter(timings[shape])), timings=timings[shape]))
    return attrs.evolve(manifest, blocks=tuple(blocks))


def groups_of(config_class: type, flat: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Return the conditions that may share a block: those that differ in keys marked ``per_trial`` only."""
    groups: dict[str, list[int]] = {}
    for index, values in enumerate(flat):
        groups.setdefault(shape_text(config_class, values), []).append(index)
    return list(groups.values())


def shape_text(config_class: type, flat: Mapping[str, Any]) -> str:
    """Return the values of all keys that fix the shape of a trial, as canonical text."""
    keys = schema_of(config_class).keys
    return canonical({path: value for path, value in flat.items() if not keys[path].info.per_trial})


def _manifest(experiment: Experiment, resolved: Resolved, request: Request, kept: Sequence[int]) -> Manifest:
    """Return the manifest without its blocks; the conditions that a filter keeps are numbered anew."""
    packages = {name: version(name) for name in ("xfw", "torch", "numpy")}
    values = [resolved.conditions[index].values for index in kept]
    return Manifest(
        run="",
        experiment=experiment.name,
        preset=resolved.preset,
        stages=request.stages,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=request.command,
        seed=request.seed,
        config=resolved.common,
        config_hash=config_hash([unstructure(resolved.configs[index]) for index in kept]),
        provenance=resolved.provenance,
        axes=resolved.axes,
        conditions=tuple(Condition(index, chosen) for index, chosen in enumerate(values)),
        blocks=(),
        execution=request.execution,
        versions={experiment.name: experiment.version, **packages, "python": platform.python_version()},
        source=request.source,
    )


def stages_to_run(known: Sequence[Stage], upto: str | None, stored: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the stages to run.

    Without ``upto`` all of them. Else that one, and those before it that neither the run to start from has
    stored nor the configuration gives.
    """
    names = [stage.name for stage in known]
    if upto is None:
        return tuple(names)
    if upto not in names:
        hint = f"{did_you_mean(upto, names)}   stages: {', '.join(names)}".strip()
        raise UserError(f"--stage: unknown stage '{upto}'", hint=hint, exit_code=2)
    before = known[: names.index(upto)]
    return (*(stage.name for stage in before if not stage.given and stage.name not in stored), upto)
