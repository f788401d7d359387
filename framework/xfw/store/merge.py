"""Join sealed runs of one experiment along the trial axis into a new run."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from xfw.config.structure import canonical, config_hash, flatten, nested
from xfw.errors import Problem, UserError, WrongInput
from xfw.experiment import Records, Stream
from xfw.manifest import BlockPlan, Condition, Execution, Manifest, Member, Source
from xfw.store import atomic, claims, hdf5
from xfw.store.contents import WHOLE, Content, Recent, TrialColumns
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir, create_run
from xfw.store.seal import write

__all__ = ["SEVERAL_SEEDS", "merge"]

SEVERAL_SEEDS = -1
"""The seed that a run has which was merged from runs of different seeds; each trial's own is in ``/seed``."""

MOST = 10
"""Differences that are listed before the rest is counted."""

Flat = Mapping[str, Any]


def merge(runs: Sequence[RunDir], results_dir: Path, command: Sequence[str]) -> RunDir:
    """Return a new, sealed run with the trials of all ``runs``; which one is named first makes no difference.

    Raises UserError (exit code 2) with the differences where the runs do not fit together, or where two of
    them hold the same trial. No file of theirs is changed.
    """
    ordered = sorted({run.path.resolve(): run for run in runs}.values(), key=age)
    check(ordered)
    results = [checked(run) for run in ordered]
    flats = [configurations(sealed) for sealed in results]
    conditions, numbers = numbered(flats)
    refuse_repeated(results, flats, numbers)
    places, columns = placed(results, numbers)
    manifest = manifest_of(ordered, results, conditions, numbers, command)
    made = create_run(results_dir, manifest, [run.records for run in ordered], claimed=True)
    with closing(hdf5.Pool(partial(Results, as_is=True))) as opened, ExitStack() as undo:  # they are checked
        undo.callback(shutil.rmtree, made.path)
        recent = Recent()
        parts = [SealedPart(opened, run.run_file, own, recent) for run, own in zip(ordered, places, strict=True)]
        write(made, Content(parts), columns)
        undo.pop_all()  # it is whole: keep it
    claims.claim_run(made.path).unlink()
    return made


def checked(run: RunDir) -> Results:
    """Check the sealed file of a run, and return its columns of trials and conditions; the file is closed again."""
    with open_run(run) as results:
        for name in ("config", "conditions", "condition", "trial", "seeds", *COPIED):
            getattr(results, name)  # it keeps them
    return results


@attrs.define(eq=False, slots=False)
class SealedPart:
    """The trials of one of the merged runs (``Part`` of a new sealed file)."""

    opened: hdf5.Pool[Results]
    file: Path
    places: tuple[int, ...]
    recent: Recent
    _counts: dict[str, NDArray[np.int64]] = attrs.field(factory=dict, init=False)

    def streams(self) -> Mapping[str, Sequence[str]]:
        return self._streams

    @cached_property
    def _streams(self) -> Mapping[str, Sequence[str]]:
        results = self.opened[self.file]
        found = {}
        for stream in results.streams():
            coordinate = results.coordinate_name(stream)
            names = [name for name in results.variables(stream) if name != f"trial_{coordinate}"]
            found[stream] = [coordinate, *names]
            self._counts[stream] = results.count(stream)
        return found

    def counts(self, stream: str) -> NDArray[np.int64]:
        return self._counts[stream]

    def column(self, stream: str, variable: str) -> NDArray[Any]:
        results = self.opened[self.file]
        coordinate = results.coordinate_name(stream)
        if variable != coordinate:
            return results.values(stream, variable)
        if f"trial_{coordinate}" in results.variables(stream):
            return results.values(stream, f"trial_{coordinate}")
        shared = results.coordinate(stream)
        return np.broadcast_to(shared, (len(self.places), len(shared)))

    def shapes(self) -> Mapping[str, Mapping[int, tuple[int, ...]]]:
        return self._shapes

    @cached_property
    def _shapes(self) -> Mapping[str, Mapping[int, tuple[int, ...]]]:
        results, lanes = self.opened[self.file], range(len(self.places))
        found = {name: dict.fromkeys(lanes, results.shape(name)[1:]) for name in results.arrays()}
        for lane in lanes:
            for name, shape in results.ragged_shapes(lane).items():
                found.setdefault(name, {})[lane] = shape
        return found

    def array(self, name: str, lane: int) -> NDArray[Any]:
        """Return one trial's array; one that all trials have in one shape is read at once where it is small."""
        results = self.opened[self.file]
        if name not in results.arrays():
            return results.ragged_array(lane, name)
        if math.prod(results.shape(name)) * 8 > WHOLE:
            return results.array(name, lane)
        whole = self.recent.get((self.file, name), lambda: results.array(name))
        return np.asarray(whole[lane], whole.dtype)


def age(run: RunDir) -> tuple[str, str]:
    """Return what runs are ordered by: when they were planned, then their id."""
    return run.manifest.created, run.id


# --- what fits together ----------------------------------------------------------------------------------


def check(runs: Sequence[RunDir]) -> None:
    """Raise UserError unless these are at least two finished, sealed runs of one experiment and schema."""
    if len(runs) < 2:
        raise UserError("merging takes two runs or more", hint="xfw merge RUN RUN", exit_code=2)
    for run in runs:
        if not run.run_file.is_file() or any(block.state != "done" for block in run.block_states()):
            raise UserError(f"run {run.id} is not finished", hint=f"finish it: {run.command('resume')}", exit_code=2)
    differences = [
        *differing(runs, "experiment", lambda run: run.manifest.experiment),
        *differing(runs, "stages", lambda run: ", ".join(run.manifest.stages)),
        *schema_differences(runs),
    ]
    if differences:
        raise WrongInput("these runs cannot be merged", differences)


def differing(runs: Sequence[RunDir], name: str, value: Any) -> list[Problem]:
    """Return one problem where the runs do not agree in a value."""
    found = {run.id: str(value(run)) for run in runs}
    if len(set(found.values())) == 1:
        return []
    return [Problem(name, "; ".join(f"{run}: {text}" for run, text in found.items()))]


def schema_differences(runs: Sequence[RunDir]) -> list[Problem]:
    """Return how the declared records of the runs differ from those of the first run that has them."""
    known: dict[str, tuple[str, Any]] = {}
    problems: list[Problem] = []
    for run in runs:
        for path, declared in declarations(run.records):
            owner, first = known.setdefault(path, (run.id, declared))
            if declared != first:
                problems.append(Problem(path, f"{owner}: {first}; {run.id}: {declared}"))
    return problems


def declarations(records: Records) -> Iterable[tuple[str, str]]:
    """Yield what has to agree of every stream, variable and array, by path."""
    for stream in records.streams:
        yield f"stream {stream.name}", described(stream)
        for variable in stream.variables:
            axes = f" ({', '.join(variable.axes)})" if variable.axes else ""
            yield f"variable {stream.name}/{variable.name}", f"{variable.dtype}{axes} in {variable.unit}"
    for array in records.arrays:
        yield f"array {array.name}", f"{array.dtype} in {array.unit}"


def described(stream: Stream) -> str:
    """Return the coordinate and version of a stream in words."""
    return f"coordinate {stream.coordinate} from {stream.first}, schema {stream.schema}"


def configurations(results: Results) -> list[Flat]:
    """Return the whole configuration of each condition, by key path."""
    common = flatten(results.config)
    return [{**common, **values} for values in results.conditions]


def numbered(flats: Sequence[Sequence[Flat]]) -> tuple[list[Flat], list[list[int]]]:
    """Return the distinct configurations as they first appear, and the number of each part's conditions."""
    known: dict[str, int] = {}
    conditions: list[Flat] = []
    numbers = []
    for configs in flats:
        own = []
        for config in configs:
            text = canonical(dict(config))
            if text not in known:
                known[text] = len(conditions)
                conditions.append(config)
            own.append(known[text])
        numbers.append(own)
    return conditions, numbers


def refuse_repeated(
    opened: Sequence[Results], flats: Sequence[Sequence[Flat]], numbers: Sequence[Sequence[int]]
) -> None:
    """Raise WrongInput where two runs hold the same trial of the same condition and seed."""
    holders: dict[tuple[int, int, int], list[int]] = {}
    for part, results in enumerate(opened):
        for condition, trial, seed in identities(results):
            holders.setdefault((numbers[part][condition], trial, seed), []).append(part)
    repeated = {identity: parts for identity, parts in holders.items() if len(parts) > 1}
    if not repeated:
        return
    axes = differing_keys([config for configs in flats for config in configs])
    conditions = {
        number: config
        for own, configs in zip(numbers, flats, strict=True)
        for number, config in zip(own, configs, strict=True)
    }
    problems = []
    for (condition, trial, seed), parts in list(repeated.items())[:MOST]:
        values = "".join(f"{axis}={conditions[condition].get(axis)} " for axis in axes)
        runs = ", ".join(sorted({opened[part].path.parent.name for part in parts}))
        problems.append(Problem(f"{values}trial {trial}, seed {seed}", f"is in {runs}"))
    more = f"and {len(repeated) - MOST} more" if len(repeated) > MOST else ""
    raise WrongInput(f"{len(repeated)} trials are there twice", problems, hint=more)


def identities(results: Results) -> list[tuple[int, int, int]]:
    """Return number of the condition, index and seed of each trial."""
    return list(zip(results.condition.tolist(), results.trial.tolist(), results.seeds.tolist(), strict=True))


# --- where everything goes -------------------------------------------------------------------------------


def placed(opened: Sequence[Results], numbers: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], TrialColumns]:
    """Return the places of the trials of every run, and the columns: by condition, then trial, then seed."""
    rows = [
        (numbers[part][condition], trial, seed, part, position)
        for part, results in enumerate(opened)
        for position, (condition, trial, seed) in enumerate(identities(results))
    ]
    rows.sort()
    places: list[list[int]] = [[0] * len(results.trial) for results in opened]
    for place, (_, _, _, part, position) in enumerate(rows):
        places[part][position] = place
    columns = TrialColumns(
        trial=[row[1] for row in rows],
        condition=[row[0] for row in rows],
        seed=[row[2] for row in rows],
        **{name: [getattr(opened[part], name)[position] for *_, part, position in rows] for name in COPIED},
    )
    return [tuple(own) for own in places], columns


COPIED = ("key", "origin", "first_epoch", "status", "attempts", "strategy", "wall_time")


def manifest_of(
    runs: Sequence[RunDir],
    opened: Sequence[Results],
    conditions: Sequence[Flat],
    numbers: Sequence[Sequence[int]],
    command: Sequence[str],
) -> Manifest:
    """Return the manifest of the new run: keys in which the configurations differ become axes."""
    manifests = [run.manifest for run in runs]
    first = manifests[0]
    axes = axes_of(manifests, conditions)
    seeds = {int(seed) for results in opened for seed in np.unique(results.seeds)}
    return Manifest(
        run="",
        experiment=first.experiment,
        preset=only_value(manifest.preset for manifest in manifests),
        stages=first.stages,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=tuple(command),
        seed=seeds.pop() if len(seeds) == 1 else SEVERAL_SEEDS,
        config=nested({path: value for path, value in conditions[0].items() if path not in axes}),
        config_hash=config_hash([nested(config) for config in conditions]),
        provenance=joined_texts([manifest.provenance for manifest in manifests]),
        axes=axes,
        conditions=tuple(
            Condition(number, {axis: config[axis] for axis in axes if axis in config})
            for number, config in enumerate(conditions)
        ),
        blocks=tuple(renumbered(manifests, numbers)),
        execution=joined_execution([manifest.execution for manifest in manifests]),
        versions=joined_texts([manifest.versions for manifest in manifests]),
        merged=tuple(Source(run.id, atomic.sha256_of(run.run_file)) for run in runs),
    )


def axes_of(manifests: Sequence[Manifest], conditions: Sequence[Flat]) -> tuple[str, ...]:
    """Return the axes of all runs, then the keys in which their configurations differ."""
    swept = [axis for manifest in manifests for axis in manifest.axes]
    return tuple(dict.fromkeys([*swept, *differing_keys(conditions)]))


def differing_keys(configs: Sequence[Flat]) -> list[str]:
    """Return the key paths whose values are not the same everywhere."""
    paths = dict.fromkeys(path for config in configs for path in config)
    return [path for path in paths if any(config.get(path) != configs[0].get(path) for config in configs)]


def only_value(values: Iterable[str]) -> str:
    """Return the value that all share; empty where they differ."""
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else ""


def joined_texts(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return texts by name; where they differ, all of them with commas."""
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return {name: ", ".join(dict.fromkeys(mapping[name] for mapping in mappings if name in mapping)) for name in names}


def joined_execution(found: Sequence[Execution]) -> Execution:
    """Return how the runs were executed: texts that differ with commas, of numbers the largest, flags if all agree."""
    values: dict[str, Any] = {}
    for field in attrs.fields(Execution):
        each = [getattr(execution, field.name) for execution in found]
        if isinstance(each[0], bool):
            values[field.name] = all(each)
        elif isinstance(each[0], int):
            values[field.name] = max(each)
        else:
            values[field.name] = ", ".join(dict.fromkeys(each))
    return Execution(**values)


def renumbered(manifests: Sequence[Manifest], numbers: Sequence[Sequence[int]]) -> Iterable[BlockPlan]:
    """Yield the blocks of all runs with new numbers of block and condition."""
    count = Counter[str]()
    for manifest, own in zip(manifests, numbers, strict=True):
        for block in manifest.blocks:
            members = tuple(Member(own[member.condition], member.trial, member.key) for member in block.members)
            yield attrs.evolve(block, index=count["blocks"], members=members)
            count["blocks"] += 1
