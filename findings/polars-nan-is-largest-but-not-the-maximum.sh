#!/usr/bin/env bash
# Guess: NaN either compares false and spoils the maximum, as in numpy, or is the largest number,
#   as in SQL, in all operations alike.
# So: Comparisons and order follow the second rule, the aggregates max and min ignore NaN, and
#   mean and standard deviation give NaN. `filter(loss > 2)` keeps the NaN rows.
# Hurt: Picking the best and worst trials: `max()`, `sort()[-1]`, `top_k(1)` and the last value of
#   `rolling_max` disagree as soon as one trial diverged.
# Seen with: polars 2.1.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(polars==2.1.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import math

import polars as pl

loss = pl.Series("loss", [1.0, float("nan"), 3.0, 2.0])
seen = {
    "max": loss.max(),
    "value at arg_max": loss[loss.arg_max()],
    "sort, last": loss.sort()[-1],
    "top_k(1)": loss.top_k(1)[0],
    "rolling_max over the first two": loss.rolling_max(2)[1],
    "mean": loss.mean(),
}
above = loss.filter(loss > 2).to_list()
print("guess:    one rule: NaN in all of these, or 3.0 in all but the mean; [3.0] above 2")
print("seen:    ", seen)
print("seen:     above 2:", above)
assert seen["max"] == seen["value at arg_max"] == 3.0
for name in ("sort, last", "top_k(1)", "rolling_max over the first two", "mean"):
    assert math.isnan(seen[name])
assert len(above) == 2
assert math.isnan(above[0])
PY
