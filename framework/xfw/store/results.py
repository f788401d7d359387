"""Read a sealed run: metrics, arrays and parameters, trial by trial."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError, did_you_mean
from xfw.manifest import telling_axes
from xfw.store import atomic, hdf5, proof
from xfw.store.artifacts import Artifact, read_array, read_list
from xfw.store.contents import padding
from xfw.store.rundir import NAME, RUN_ID, RunDir
from xfw.store.seal import FORMAT
from xfw.store.sources import TrialSource

__all__ = ["Results", "TrialSource", "open_run"]

MAJOR = 1
PROVED_FROM = 2
"""The first MINOR whose files have their checksum beside them."""


class Results:
    """A sealed file, open for reading; a context manager.

    Trials are in file order (by condition, then by trial); N is their number. Raises UserError where the
    file is missing, damaged, of a newer format, or lacks what is asked for. Its bytes must be those that were
    sealed, unless it is to be read ``as_is``.
    """

    def __init__(self, path: Path, *, as_is: bool = False) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise UserError(
                f"{self.path} does not exist", hint="`xfw resume RUN` finishes and seals a run", exit_code=2
            )
        self._proof = None if as_is else proof.check(self.path)
        self._file = hdf5.open_file(self.path)
        self._variables: dict[str, list[str]] = {}
        try:
            minor = hdf5.check_format(self._file, self.path, FORMAT, MAJOR)
            if minor >= PROVED_FROM and self._proof is None and not as_is:
                missing = proof.beside(self.path)
                raise UserError(f"{missing} is missing", hint=proof.again(self.path), exit_code=2)
            self._check_structure()
        except UserError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; values already read stay valid."""
        self._file.close()

    def _check_structure(self) -> None:
        """Check that names can be used in paths and that every axis is as long as its scale says."""
        with hdf5.understood(self.path):
            if RUN_ID.fullmatch(self.run) is None or NAME.fullmatch(self.experiment) is None:
                raise ValueError(f"{self.run!r} of {self.experiment!r} is not the name of a run")
            root = {name: item.shape for name, item in self._file.items() if isinstance(item, h5py.Dataset)}
            shape = root.get("trial", ())
            wrong = [name for name, found in root.items() if found != shape]
            if missing := {"trial", "condition", "seed", "key", "status", "attempts"} - set(root):
                raise ValueError(f"it has no dataset {', '.join(sorted(missing))}")
            if len(shape) != 1 or wrong:
                raise ValueError(f"the columns of trials differ in length: {root}")
            if not ((self.condition >= 0) & (self.condition < len(self.conditions))).all():
                raise ValueError(f"a trial has a condition beyond the {len(self.conditions)} that there are")
            for name in [*self.streams(), *self._array_names, *self._large]:
                if hdf5.is_unsafe(name):
                    raise ValueError(f"{name!r} cannot be a name")
            for name in self._array_names:
                if self._file[f"arrays/{name}"].shape[:1] != shape:
                    raise ValueError(f"array {name} has shape {self._file[f'arrays/{name}'].shape}, trials {shape}")
            for stream, group in self._stream_groups.items():
                rows = group[hdf5.attribute(group, "coordinate", self.path)].shape
                count = self.count(stream)
                if len(rows) != 1 or count.shape != shape or (count < 0).any() or (count > rows[0]).any():
                    raise ValueError(f"stream {stream}: rows {rows} and counts do not fit together")
                for name in self.variables(stream):
                    if group[name].shape[:2] != (*shape, *rows):
                        raise ValueError(f"{stream}/{name} has shape {group[name].shape}, expected {(*shape, *rows)}")

    def _attribute(self, name: str) -> str:
        return hdf5.attribute(self._file, name, self.path)

    def _json(self, name: str, kind: type) -> Any:
        with hdf5.understood(self.path, f"attribute '{name}_json'"):
            value = json.loads(self._attribute(f"{name}_json"))
            if not isinstance(value, kind):
                raise ValueError(f"found {type(value).__name__}, expected {kind.__name__}")
            return value

    @property
    def run(self) -> str:
        """The run id."""
        return self._attribute("run")

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self._attribute("experiment")

    @property
    def preset(self) -> str:
        """The preset the run was made from."""
        return self._attribute("preset")

    @property
    def default(self) -> str:
        """What is plotted first, as ``stream`` or ``stream/variable``; empty where the plugin names nothing."""
        return self._attribute("default").removeprefix("/metrics/")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The values common to all conditions, nested by key."""
        return dict(self._json("config", dict))

    @cached_property
    def provenance(self) -> dict[str, str]:
        """Where the value of every key path came from."""
        return dict(self._json("provenance", dict))

    @cached_property
    def conditions(self) -> list[dict[str, Any]]:
        """The swept values of each condition, by key path."""
        return list(self._json("conditions", list))

    @cached_property
    def axes(self) -> list[str]:
        """The swept key paths."""
        return list(self._json("axes", list))

    @cached_property
    def versions(self) -> dict[str, str]:
        """The versions of xfw, the plugin and the libraries the run was planned with."""
        return dict(self._json("versions", dict))

    @cached_property
    def execution(self) -> dict[str, Any]:
        """Device, element type, strategy and the rest of what fixes the numbers."""
        return dict(self._json("execution", dict))

    @cached_property
    def seed(self) -> int:
        """The run seed; -1 where runs of several seeds were merged."""
        return int(self._attribute("seed"))

    @cached_property
    def seeds(self) -> NDArray[np.int64]:
        """The seed of the run that trained each trial, (N,)."""
        return np.asarray(self._read("seed"), np.int64)

    @cached_property
    def origin(self) -> list[str]:
        """The run that trained each trial: this one, or one that was merged into it."""
        return [str(text) for text in self._read("origin")] if "origin" in self._file else [self.run] * len(self.trial)

    @cached_property
    def first_epoch(self) -> NDArray[np.int64]:
        """The epochs that each trial had behind it, from ``--from RUN`` or a file, beyond those of its run, (N,)."""
        return np.asarray(self._read("first_epoch") if "first_epoch" in self._file else 0 * self.trial, np.int64)

    @cached_property
    def merged(self) -> list[dict[str, str]]:
        """The runs that this one was merged from: ``run`` and ``sha256`` of each; empty for others."""
        return list(self._json("merged", list)) if "merged_json" in self._file.attrs else []

    @cached_property
    def trial(self) -> NDArray[np.int64]:
        """The index within the condition of each trial, (N,)."""
        return np.asarray(self._read("trial"), np.int64)

    @cached_property
    def condition(self) -> NDArray[np.int64]:
        """The number of the condition of each trial, (N,)."""
        return np.asarray(self._read("condition"), np.int64)

    @cached_property
    def key(self) -> list[str]:
        """The base key of each trial's random streams; equal keys make a paired comparison."""
        return [str(text) for text in self._read("key")]

    @cached_property
    def status(self) -> list[str]:
        """How each trial ended: done, diverged, failed, interrupted, lost, running or pending."""
        return [str(text) for text in self._read("status")]

    @cached_property
    def strategy(self) -> list[str]:
        """How each trial's steps were run, such as ``stack (twin)``."""
        return [str(text) for text in self._read("strategy")]

    @cached_property
    def attempts(self) -> NDArray[np.int64]:
        """The attempts at each trial's block, (N,)."""
        return np.asarray(self._read("attempts"), np.int64)

    @cached_property
    def wall_time(self) -> NDArray[np.float64]:
        """The time in seconds of each trial's block, divided by its trials, (N,)."""
        return np.asarray(self._read("wall_time"), np.float64)

    @cached_property
    def parameters(self) -> dict[str, list[Any]]:
        """The value of every swept key for each trial."""
        return {
            axis: [self.conditions[condition].get(axis) for condition in self.condition.tolist()] for axis in self.axes
        }

    @cached_property
    def telling_axes(self) -> list[str]:
        """The swept key paths that name a condition, without those that follow from others."""
        return telling_axes(self.axes, self.provenance, self.conditions)

    def condition_labels(self) -> list[str]:
        """Return a name for each condition made of its swept values; the preset's name where nothing is swept.

        Keys that a configuration derives from swept ones are left out.
        """
        if not self.axes:
            return [self.preset] * len(self.conditions)
        named = self.telling_axes
        return [", ".join(f"{axis}={label(values.get(axis))}" for axis in named) for values in self.conditions]

    def streams(self) -> list[str]:
        """Return the names of the recorded streams."""
        return list(self._stream_groups)

    def variables(self, stream: str) -> list[str]:
        """Return the names of a stream's variables, nested ones as ``a/b``, without its coordinate and ``count``."""
        if stream not in self._variables:
            inner = [f"{name[len(stream) + 1 :]}/" for name in self._stream_groups if name.startswith(f"{stream}/")]
            names = datasets(self._stream(stream))
            known = [name for name in names if name != "count" and not name.startswith(tuple(inner))]
            self._variables[stream] = known
        return self._variables[stream]

    def values(self, stream: str, variable: str, trials: slice = slice(None)) -> NDArray[Any]:
        """Return a variable as (N, rows, ...), padded beyond each trial's count; or that of some ``trials``."""
        self._check(variable, self.variables(stream), f"stream '{stream}' has no variable '{variable}'")
        return self._read(f"metrics/{stream}/{variable}", trials)

    def coordinate(self, stream: str) -> NDArray[Any]:
        """Return the coordinate of a stream's rows, (rows,)."""
        return self._read(f"metrics/{stream}/{self.coordinate_name(stream)}")

    def coordinate_name(self, stream: str) -> str:
        """Return the name of a stream's coordinate, such as ``epoch``."""
        return str(self._stream(stream).attrs["coordinate"])

    def count(self, stream: str) -> NDArray[np.int64]:
        """Return the number of rows of each trial, (N,)."""
        self._stream(stream)
        return np.asarray(self._read(f"metrics/{stream}/count"), np.int64)

    def arrays(self) -> list[str]:
        """Return the names of the arrays that all trials have in one shape."""
        return [*self._array_names, *self._large]

    def array(self, name: str, position: int | None = None) -> NDArray[Any]:
        """Return an array as (N, ...), or the value of the trial at one position."""
        self._check(name, self.arrays(), f"there is no array '{name}'")
        if name not in self._large:
            return self._read(f"arrays/{name}", () if position is None else position)
        held = self._large[name]
        if position is not None and position in held:
            return read_array(self.path.parent, held[position])
        example = read_array(self.path.parent, next(iter(held.values())))
        shape = example.shape if position is not None else (len(self.trial), *example.shape)
        values: NDArray[Any] = np.full(shape, padding(example.dtype), example.dtype)
        if position is None:
            for place, artifact in held.items():
                values[place] = read_array(self.path.parent, artifact)
        return values

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array, (N, ...), without reading it."""
        self._check(name, self.arrays(), f"there is no array '{name}'")
        if name in self._large:
            return (len(self.trial), *next(iter(self._large[name].values())).shape)
        return tuple(self._file[f"arrays/{name}"].shape)

    def row(self, stream: str, position: int, row: int) -> dict[str, Any]:
        """Return one row of a stream for the trial at one position, by variable."""
        place = (position, row)
        return {name: self._read(f"metrics/{stream}/{name}", place) for name in self.variables(stream)}

    def ragged(self, position: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of the trial at a position whose shape differs from other trials'."""
        return {name: self.ragged_array(position, name) for name in self.ragged_shapes(position)}

    def ragged_array(self, position: int, name: str) -> NDArray[Any]:
        """Return one of the arrays that ``ragged`` returns."""
        for artifact in self._aside.get(position, ()):
            if artifact.array == name:
                return read_array(self.path.parent, artifact)
        return self._read(f"ragged/{position}/{name}")

    def ragged_shapes(self, position: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what ``ragged`` returns, without reading it."""
        group = self._file.get(f"ragged/{position}")
        found = {} if group is None else {name: tuple(item.shape) for name, item in datasets(group).items()}
        large = self._aside.get(position, ())
        return found | {each.array: each.shape for each in large if each.array not in self._large}

    def unit(self, path: str) -> str:
        """Return the unit of ``stream/variable`` or of an array; ``1`` where it has none."""
        if path in self._large:
            return next(iter(self._large[path].values())).units or "1"
        return str(self._dataset(path).attrs.get("units", "1"))

    def long_name(self, path: str) -> str:
        """Return the name for people of ``stream/variable`` or of an array."""
        if path in self._large:
            return next(iter(self._large[path].values())).long_name
        return str(self._dataset(path).attrs.get("long_name", path))

    def _dataset(self, path: str) -> h5py.Dataset:
        for place in (f"metrics/{path}", f"arrays/{path}", path):
            found = self._file.get(place)
            if isinstance(found, h5py.Dataset):
                return found
        raise UserError(f"{self.path} holds nothing named '{path}'", exit_code=2)

    @cached_property
    def _stream_groups(self) -> dict[str, h5py.Group]:
        groups: dict[str, h5py.Group] = {}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                groups[name] = item

        if "metrics" in self._file:
            self._file["metrics"].visititems(visit)
        streams = {name: group for name, group in groups.items() if "coordinate" in group.attrs}
        for name, group in groups.items():
            # Between streams, or within one: variables may have nested names.
            within = any(f"{name}/".startswith(f"{stream}/") for stream in streams)
            if not any(f"{stream}/".startswith(f"{name}/") for stream in streams) and not (within and datasets(group)):
                raise atomic.damaged(self.path, f"metrics/{name} is neither a stream nor a dataset")
        return streams

    @cached_property
    def artifacts(self) -> list[Artifact]:
        """The arrays that are too large for the file, each in a file of its own beside it."""
        return read_list(self._file)

    @cached_property
    def _aside(self) -> dict[int, list[Artifact]]:
        """The artifacts by position."""
        found: dict[int, list[Artifact]] = {}
        for artifact in self.artifacts:
            found.setdefault(artifact.trial, []).append(artifact)
        return found

    @cached_property
    def _large(self) -> dict[str, dict[int, Artifact]]:
        """The artifacts by array and position, of the arrays that have one shape."""
        by_name: dict[str, dict[int, Artifact]] = {}
        for artifact in self.artifacts:
            by_name.setdefault(artifact.array, {})[artifact.trial] = artifact
        return {
            name: held
            for name, held in by_name.items()
            if len({each.shape for each in held.values()}) == 1
            and not any(f"ragged/{place}/{name}" in self._file for place in range(len(self.trial)))
        }

    @cached_property
    def _array_names(self) -> list[str]:
        return list(datasets(self._file["arrays"])) if "arrays" in self._file else []

    def _stream(self, name: str) -> h5py.Group:
        self._check(name, self.streams(), f"there is no stream '{name}'")
        return self._stream_groups[name]

    def _check(self, name: str, known: list[str], problem: str) -> None:
        if name not in known:
            raise UserError(f"{self.path}: {problem}", hint=did_you_mean(name, known), exit_code=2)

    def _read(self, path: str, place: int | slice | tuple[int, ...] = ()) -> NDArray[Any]:
        with hdf5.understood(self.path, path):
            return hdf5.load(self._file[path], place)


def open_run(run: RunDir, *, as_is: bool = False) -> Results:
    """Open the sealed results of a run.

    Raises UserError where it was never sealed and, unless it is to be read ``as_is``, where its blocks have gone on
    since or where these are not the bytes that were sealed.
    """
    if not run.run_file.exists():
        hint = f"finish it with `{run.command('resume')}`"
        raise UserError(f"run {run.id} has no sealed results yet", hint=hint, exit_code=2)
    results = Results(run.run_file, as_is=as_is)
    try:
        if results.run != run.id and not as_is:
            raise atomic.damaged(run.run_file, f"it belongs to run {results.run}", proof.again(run.run_file))
        if proof.is_stale(run, results._proof):
            what = f"{run.run_file} is out of date: blocks of the run have gone on since it was sealed"
            hint = f"`{run.command('resume')}` seals it again; --as-is reads it all the same"
            raise UserError(what, hint=hint, exit_code=2)
    except UserError:
        results.close()
        raise
    return results


def label(value: Any) -> str:
    """Return a swept value as it would be typed."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return all datasets below a group that are not scales by their paths, in the order of their creation."""
    found: dict[str, h5py.Dataset] = {}
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            found |= {f"{name}/{inner}": dataset for inner, dataset in datasets(item).items()}
        elif not item.is_scale:
            found[name] = item
    return found
