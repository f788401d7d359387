"""Results as flat tables for other programs: one row per trial, and one per trial and recorded row."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xfw.errors import UserError
from xfw.store import atomic, proof
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir

__all__ = ["Table", "stream_table", "tables", "trial_table", "write"]

Table = Callable[[], Iterator[dict[str, NDArray[Any]]]]
"""A table piece by piece: columns by name, all of one length in each piece; every piece has the same columns."""

LARGEST = 1000
"""Elements per trial up to which an array becomes columns; larger ones (weights) are in the HDF5 file only."""

ROWS = 32_000
"""Rows of a piece, about."""


def write(run: RunDir, name: str, directory: Path, *, as_is: bool = False) -> list[Path]:
    """Write the results in the format ``name`` into a directory and return the files made."""
    with open_run(run, as_is=as_is) as results:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {directory}: {error.strerror}", exit_code=2) from error
        return FORMATS[name](results, run, directory)


def tables(results: Results) -> Iterator[tuple[str, Table]]:
    """Yield every table with its name."""
    yield "trials", partial(trial_table, results)
    for stream in results.streams():
        yield stream.replace("/", "."), partial(stream_table, results, stream)


def trial_table(results: Results) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield one row per trial: condition, swept values, status, and the small arrays, element by element."""
    table = {
        "condition": results.condition,
        "trial": results.trial,
        "seed": results.seeds,
        "status": np.array(results.status, object),
        "attempts": results.attempts,
        "wall_time": results.wall_time,
        **parameter_columns(results),
    }
    for name in results.arrays():
        if math.prod(results.shape(name)[1:]) <= LARGEST:
            table |= columns(name, results.array(name))
    yield table


def stream_table(results: Results, stream: str) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield one row per trial and recorded row, without padding, some trials at a time."""
    counts, coordinate = results.count(stream), results.coordinate(stream)
    of_trial = {"condition": results.condition, "trial": results.trial, **parameter_columns(results)}
    step = max(1, ROWS // max(1, len(coordinate)))
    for first in range(0, len(counts), step):
        last = min(first + step, len(counts))
        there = np.arange(len(coordinate)) < counts[first:last, None]
        trials, rows = np.nonzero(there)
        piece = {name: values[first:last][trials] for name, values in of_trial.items()}
        piece[results.coordinate_name(stream)] = coordinate[rows]
        for name in results.variables(stream):
            piece |= columns(name, results.values(stream, name, slice(first, last))[there])
        yield piece


def parameter_columns(results: Results) -> dict[str, NDArray[Any]]:
    """Return the swept values of each trial; lists as JSON."""
    found = {}
    for name, values in results.parameters.items():
        plain = [json.dumps(value) if isinstance(value, list | dict) else value for value in values]
        kinds = {type(value) for value in plain}
        found[name] = np.array(plain, None if len(kinds) == 1 and kinds <= {bool, int, float} else object)
    return found


def columns(name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return a column for each element beyond the first axis: ``name``, or ``name[0,1]``."""
    if values.ndim == 1:
        return {name: values}
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    places = np.ndindex(values.shape[1:])
    return {f"{name}[{','.join(map(str, place))}]": flat[:, number] for number, place in enumerate(places)}


def plain(values: NDArray[Any], missing: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> list[Any]:
    """Return values as Python's own, None for the numbers that are ``missing``."""
    found: list[Any] = values.tolist()
    if values.dtype.kind == "f":
        for place in np.flatnonzero(missing(values)).tolist():
            found[place] = None
    return found


def csv_rows(piece: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a piece of a table as lines of CSV: NaN is an empty cell, booleans are 0 and 1.

    Digits are as few as tell each number from all others. They are written by pyarrow where that is installed, in a
    tenth of the time; it writes 1 for 1.0.
    """
    values = [v.astype({"b": np.int8, "f": np.float64}.get(v.dtype.kind, v.dtype), copy=False) for v in piece.values()]
    sink = io.BytesIO()
    try:
        import pyarrow
        from pyarrow import csv as arrow
    except ModuleNotFoundError:
        text = io.TextIOWrapper(sink, "utf-8", newline="")
        rows = zip(*(plain(column, np.isnan) for column in values), strict=True)
        csv.writer(text, lineterminator="\n").writerows(rows)
        text.flush()
    else:
        masks = [np.isnan(column) if column.dtype.kind == "f" else None for column in values]
        arrays = [pyarrow.array(column, mask=mask) for column, mask in zip(values, masks, strict=True)]
        table = pyarrow.table(arrays, [str(number) for number in range(len(arrays))])
        arrow.write_csv(table, sink, arrow.WriteOptions(include_header=False))
    return sink.getvalue()


def write_csv(results: Results, run: RunDir, directory: Path) -> list[Path]:
    """Write one CSV file per table."""
    paths = []
    for name, table in tables(results):
        paths.append(directory / f"{run.id}.{name}.csv")
        with atomic.writing(paths[-1]) as file:
            for number, piece in enumerate(table()):
                if number == 0:
                    titles = io.StringIO()
                    csv.writer(titles, lineterminator="\n").writerow(piece)
                    file.write(titles.getvalue().encode())
                file.write(csv_rows(piece))
    return paths


def json_items(values: NDArray[Any]) -> bytes:
    """Return values as the items of a JSON list; numbers that are not finite are null."""
    if values.dtype.kind in "if" and np.isfinite(values).all():
        return csv_rows({"": values}).removesuffix(b"\n").replace(b"\n", b", ")
    items = plain(values, lambda numbers: ~np.isfinite(numbers))
    return json.dumps(items, allow_nan=False, ensure_ascii=False)[1:-1].encode()


def write_json(results: Results, run: RunDir, directory: Path) -> list[Path]:
    """Write one JSON file with everything: attributes, and all tables by column."""
    names = ("run", "experiment", "preset", "config", "conditions", "versions")
    head = {"schema": 1, **{name: getattr(results, name) for name in names}}
    path = directory / f"{run.id}.json"
    with atomic.writing(path) as file:
        file.write(json.dumps(head, indent=1, allow_nan=False, ensure_ascii=False).removesuffix("\n}").encode())
        file.write(b',\n "tables": {')
        for number, (name, table) in enumerate(tables(results)):
            texts: dict[str, list[bytes]] = {}
            for piece in table():
                for column, values in piece.items():
                    texts.setdefault(column, []).append(json_items(values))
            file.write(f"{',' * (number > 0)}\n  {json.dumps(name)}: {{".encode())
            for place, column in enumerate(list(texts)):
                title = f"{',' * (place > 0)}\n   {json.dumps(column, ensure_ascii=False)}: ["
                file.write(title.encode() + b", ".join(filter(None, texts.pop(column))) + b"]")
            file.write(b"\n  }")
        file.write(b"\n }\n}\n")
    return [path]


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
        paths.append(directory / f"{run.id}.{name}.parquet")
        with atomic.writing(paths[-1]) as file:
            pieces = (pyarrow.table(piece) for piece in table())
            first = next(pieces)
            with parquet.ParquetWriter(file, first.schema) as writer:
                for piece in itertools.chain([first], pieces):
                    writer.write_table(piece)
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


FORMATS: Mapping[str, Callable[[Results, RunDir, Path], list[Path]]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
    "h5": write_h5,
}
