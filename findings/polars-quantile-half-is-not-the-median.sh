#!/usr/bin/env bash
# Guess: The quantile at one half is the median, and quartiles are interpolated as in numpy and
#   pandas.
# So: The default interpolation is "nearest", for quantiles and for describe; `median`
#   interpolates. DuckDB's `quantile` is discrete too, and takes the lower one.
# Hurt: Medians and quartiles over few trials, bootstrap intervals and box plots ported from
#   pandas: each bound moves to a neighbouring trial.
# Seen with: duckdb 2.0.1, numpy 2.4.6, polars 2.1.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(duckdb==2.0.1 numpy==2.4.6 polars==2.1.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import duckdb
import numpy as np
import polars as pl

scores = pl.Series("score", [1.0, 2.0, 3.0, 4.0])
described = dict(scores.describe().iter_rows())
seen = {
    "numpy": float(np.quantile(scores.to_numpy(), 0.5)),
    "polars median": scores.median(),
    "polars quantile": scores.quantile(0.5),
    "polars describe": described["50%"],
    "DuckDB quantile": duckdb.sql("SELECT quantile(score, 0.5) FROM (VALUES (1.0), (2.0), (3.0), (4.0)) t(score)").fetchall()[0][0],
}
seen["DuckDB quantile"] = float(seen["DuckDB quantile"])
print("guess:    2.5 in all of them")
print("seen:    ", seen, "; first quartile: numpy", float(np.quantile(scores.to_numpy(), 0.25)), "polars", scores.quantile(0.25))
assert seen == {"numpy": 2.5, "polars median": 2.5, "polars quantile": 3.0, "polars describe": 3.0, "DuckDB quantile": 2.0}
assert scores.quantile(0.25) == 2.0
assert scores.quantile(0.5, interpolation="linear") == 2.5
PY
