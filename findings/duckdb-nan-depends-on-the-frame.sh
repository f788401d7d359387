#!/usr/bin/env bash
# Guess: `SELECT avg(loss) FROM frame` gives one answer for one column of floats, whichever
#   library holds it.
# So: DuckDB's scan of pandas frames and of numpy arrays turns NaN into NULL; its scan of Arrow
#   tables, polars frames and Parquet files keeps NaN. A diverged trial is left out of count, mean
#   and maximum in the one case and poisons them in the other.
# Hurt: Analyses of metrics with diverged trials that move from pandas to polars or Arrow, or from
#   memory to Parquet.
# Seen with: duckdb 2.0.1, numpy 2.4.6, pandas 3.1.1, polars 2.1.0, pyarrow 26.0.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(duckdb==2.0.1 numpy==2.4.6 pandas==3.1.1 polars==2.1.0 pyarrow==26.0.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import math

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

loss = np.array([1.0, np.nan, 3.0])
columns = {"loss": loss}
pandas_frame, polars_frame, arrow_table = pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)
polars_frame.write_parquet("loss.parquet")
print("guess:    one result of count, avg and max of [1, NaN, 3], whatever holds the column")
seen = {}
for source in ("columns", "pandas_frame", "arrow_table", "polars_frame", "'loss.parquet'"):
    seen[source] = duckdb.sql(f"SELECT count(loss), avg(loss), max(loss) FROM {source}").fetchall()[0]
    print("seen:    ", source, seen[source])
assert seen["columns"] == seen["pandas_frame"] == (2, 2.0, 3.0)
for source in ("arrow_table", "polars_frame", "'loss.parquet'"):
    assert seen[source][0] == 3 and math.isnan(seen[source][1]) and math.isnan(seen[source][2])
PY
