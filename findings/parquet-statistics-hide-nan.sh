#!/usr/bin/env bash
# Guess: `filters=is_nan(loss)` returns the rows whose loss is NaN: the file is read, then
#   filtered.
# So: pyarrow writes the minimum and maximum of a row group without NaN. A row group of 0.5, NaN,
#   0.5 says minimum = maximum = 0.5, so the readers conclude that every value is 0.5 and drop the
#   row group, or the filter, unread. The same filter on the same table in memory finds the row.
# Hurt: Whoever looks for diverged trials, or selects `loss != 0.5`, in Parquet files of metrics:
#   the answer is an empty table.
# Seen with: duckdb 2.0.1, polars 2.1.0, pyarrow 26.0.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

metrics = pa.table({"loss": [0.5, 0.5, float("nan"), 0.5]})
pq.write_table(metrics, "loss.parquet")


def in_pyarrow(condition):
    return metrics.filter(condition).num_rows, pq.read_table("loss.parquet", filters=condition).num_rows


def in_duckdb(condition):
    return tuple(len(duckdb.sql(f"SELECT loss FROM {source} WHERE {condition}").fetchall()) for source in ("metrics", "'loss.parquet'"))


print("guess:    one row is NaN and one is not 0.5, in memory as in the file")
diverged = in_pyarrow(pc.is_nan(pc.field("loss"))), in_duckdb("isnan(loss)")
another = in_pyarrow(pc.field("loss") != 0.5), in_duckdb("loss <> 0.5")
lazy = pl.scan_parquet("loss.parquet")
in_polars = lazy.filter(pl.col("loss").is_nan()).collect().height, lazy.filter(pl.col("loss") != 0.5).collect().height
print("seen:     rows that are NaN (memory, file): pyarrow", diverged[0], "DuckDB", diverged[1], "polars, file:", in_polars[0])
print("seen:     rows that are not 0.5: pyarrow", another[0], "DuckDB", another[1], "polars, file:", in_polars[1])
assert diverged == another == ((1, 0), (1, 0))
assert in_polars == (1, 1)
PY
