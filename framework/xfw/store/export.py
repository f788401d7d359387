"""Results as flat tables for other programs: one row per trial, and one per trial and recorded row."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.store import atomic, proof
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir

__all__ = ["Table", "stream_table", "trial_table", "write"]

Table = dict[str, list[Any]]
"""Columns by name, all of one length."""

LARGEST = 1000
"""Elements per trial up to which an array becomes columns; larger ones (weights) are in the HDF5 file only."""


def write(run: RunDir, name: str, directory: Path, *, as_is: bool = False) -> list[Path]:
    """Write the results in the format ``name`` into a directory and return the files made."""
    with open_run(run, as_is=as_is) as results:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {directory}: {error.strerror}", exit_code=2) from error
        return FORMATS[name](results, run, directory)


def trial_table(results: Results) -> Table:
    """Return one row per trial: condition, swept values, status, and the small arrays, element by element."""
    table: Table = {
        "condition": results.condition.tolist(),
        "trial": results.trial.tolist(),
        "seed": results.seeds.tolist(),
        "status": results.status,
        "attempts": results.attempts.tolist(),
        "wall_time": results.wall_time.tolist(),
    }
    table |= parameter_columns(results)
    for name in results.arrays():
        if math.prod(results.shape(name)[1:]) <= LARGEST:
            table |= columns(name, results.array(name))
    return table


def stream_table(results: Results, stream: str) -> Table:
    """Return one row per trial and recorded row, without padding."""
    counts = results.count(stream)
    trials = np.repeat(np.arange(len(counts)), counts)
    rows = np.concatenate([np.arange(count) for count in counts]).astype(int)
    table: Table = {
        "condition": results.condition[trials].tolist(),
        "trial": results.trial[trials].tolist(),
        **{name: [values[trial] for trial in trials] for name, values in parameter_columns(results).items()},
        results.coordinate_name(stream): results.coordinate(stream)[rows].tolist(),
    }
    for name in results.variables(stream):
        table |= columns(name, results.values(stream, name)[trials, rows])
    return table


def parameter_columns(results: Results) -> Table:
    """Return the swept values of each trial; lists as JSON."""
    return {
        name: [json.dumps(value) if isinstance(value, list | dict) else value for value in values]
        for name, values in results.parameters.items()
    }


def columns(name: str, values: NDArray[Any]) -> Table:
    """Return a column for each element beyond the first axis: ``name``, or ``name[0,1]``."""
    if values.ndim == 1:
        return {name: values.tolist()}
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    places = np.ndindex(values.shape[1:])
    return {f"{name}[{','.join(map(str, place))}]": flat[:, number].tolist() for number, place in enumerate(places)}


def tables(results: Results) -> Iterator[tuple[str, Table]]:
    """Yield every table with its name."""
    yield "trials", trial_table(results)
    for stream in results.streams():
        yield stream.replace("/", "."), stream_table(results, stream)


def write_csv(results: Results, run: RunDir, directory: Path) -> list[Path]:
    """Write one CSV file per table; NaN is an empty cell."""
    paths = []
    for name, table in tables(results):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(table)
        writer.writerows([cell(value) for value in row] for row in zip(*table.values(), strict=True))
        paths.append(stored(directory / f"{run.id}.{name}.csv", text.getvalue().encode()))
    return paths


def cell(value: Any) -> Any:
    """Return a value as a CSV file holds it."""
    if isinstance(value, bool):
        return int(value)
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def write_json(results: Results, run: RunDir, directory: Path) -> list[Path]:
    """Write one JSON file with everything: attributes and all tables by column; NaN is null."""
    content = {
        "schema": 1,
        "run": results.run,
        "experiment": results.experiment,
        "preset": results.preset,
        "config": results.config,
        "conditions": results.conditions,
        "versions": results.versions,
        "tables": {name: without_nan(table) for name, table in tables(results)},
    }
    data = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False).encode()
    return [stored(directory / f"{run.id}.json", data)]


def without_nan(table: Mapping[str, list[Any]]) -> Table:
    """Return a table with None for the numbers that JSON does not know."""
    return {
        name: [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
        for name, values in table.items()
    }


def write_parquet(results: Results, run: RunDir, directory: Path) -> list[Path]:
    """Write one Parquet file per table."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        hint = "pip install pyarrow, or choose csv, json or h5"
        raise UserError("--format parquet needs the package pyarrow", hint=hint, exit_code=2) from error
    paths = []
    for name, table in tables(results):
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(table), buffer)
        paths.append(stored(directory / f"{run.id}.{name}.parquet", buffer.getvalue()))
    return paths


def write_h5(_results: Results, run: RunDir, directory: Path) -> list[Path]:
    """Copy the sealed file, which netCDF readers understand, and put its checksum beside it."""
    path = directory / f"{run.id}.h5"
    temporary = atomic.temporary_name(path)
    try:
        shutil.copyfile(run.run_file, temporary)
        proof.replace(path, temporary)
    except OSError as error:
        raise atomic.storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return [path]


def stored(path: Path, data: bytes) -> Path:
    """Write a file atomically and return its path."""
    atomic.write(path, [data])
    return path


FORMATS: Mapping[str, Callable[[Results, RunDir, Path], list[Path]]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
    "h5": write_h5,
}
