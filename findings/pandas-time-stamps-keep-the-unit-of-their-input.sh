#!/usr/bin/env bash
# Guess: Time stamps are nanoseconds since 1970 inside, so `astype("int64") / 1e9` gives seconds.
# So: Texts and datetimes give microseconds, texts with nine decimals nanoseconds, numpy dates
#   seconds. `Timestamp.value` still says nanoseconds for all, so a check on one element does not
#   find it. Whole and fractional seconds since 1970 give microseconds and nanoseconds.
# Hurt: Elapsed times and time features of logs that are computed from the integers: off by 1000
#   or 10**9, and not even the same for two columns of one file.
# Seen with: numpy 2.4.6, pandas 3.1.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 pandas==3.1.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import datetime

import numpy as np
import pandas as pd

inputs = {
    "text": ["2020-01-01"],
    "text with nanoseconds": ["2020-01-01T00:00:00.000000001"],
    "datetime": [datetime.datetime(2020, 1, 1)],
    "numpy date": [np.datetime64("2020-01-01")],
}
stamps = {name: pd.to_datetime(values) for name, values in inputs.items()}
stamps["whole seconds"] = pd.to_datetime([1577836800], unit="s")
stamps["fractional seconds"] = pd.to_datetime([1577836800.5], unit="s")
seen = {name: (index.unit, int(index.astype("int64")[0])) for name, index in stamps.items()}
print("guess:    1577836800000000000 for 2020-01-01 in each")
for name, (unit, number) in seen.items():
    print("seen:    ", name, "->", number, unit)
assert {name: unit for name, (unit, _) in seen.items()} == {"text": "us", "text with nanoseconds": "ns", "datetime": "us", "numpy date": "s", "whole seconds": "us", "fractional seconds": "ns"}
assert seen["numpy date"][1] == 1577836800
assert seen["text"][1] == 1577836800 * 10**6
assert all(index[0].value // 10**9 == 1577836800 for index in stamps.values())
PY
