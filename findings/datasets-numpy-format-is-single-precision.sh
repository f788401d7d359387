#!/usr/bin/env bash
# Guess: The numpy format gives the type of the column's feature; a missing value makes integers
#   float64, as in pandas.
# So: Whatever becomes an array of floats is cast to float32, the usual type for training, but
#   single numbers are not. Integers with a missing value become floats first.
# Hurt: Reading metrics, time stamps, identifiers and regression targets back from data sets: 24
#   bits are left, and whether depends on how they are read.
# Seen with: datasets 5.2.0, numpy 2.4.6, pandas 3.1.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(datasets==5.2.0 numpy==2.4.6 pandas==3.1.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import datasets
import numpy as np

rates = datasets.Dataset.from_dict({"x": [1.1, 2.2]})
numbers = datasets.Dataset.from_dict({"x": [16777217, None]})
sliced, single = rates.with_format("numpy")[:]["x"], rates.with_format("numpy")[0]["x"]
with_missing = numbers.with_format("numpy")[:]["x"]
in_pandas = numbers.with_format("pandas")[:]["x"]
print("guess:    float64 throughout, as the features say:", rates.features["x"].dtype, "and", numbers.features["x"].dtype)
print("seen:     slice", sliced.dtype, "row", single.dtype, "; with a missing value", with_missing.dtype, int(with_missing[0]), "; pandas", in_pandas.dtype, int(in_pandas[0]))
assert rates.features["x"].dtype == "float64"
assert sliced.dtype == with_missing.dtype == np.float32
assert single.dtype == np.float64
assert int(with_missing[0]) == 16777216
assert int(in_pandas[0]) == 16777217
PY
