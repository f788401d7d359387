#!/usr/bin/env bash
# Guess: Appending values that do not fit the stored type raises, as appending longer strings
#   does.
# So: The encoding of the first write wins and numbers are cast without a check, wrapping round;
#   only for strings is the type compared. Neither is the coordinate looked at: a step that is
#   already there is appended a second time.
# Hurt: Runs that append metrics to a zarr store: a counter that was small in the first block, or
#   a metric that was whole there and is NaN later.
# Seen with: numpy 2.4.6, xarray 2026.9.0, zarr 3.1.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 xarray==2026.9.0 zarr==3.1.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import warnings

import numpy as np
import xarray as xr

warnings.simplefilter("ignore")


def append(store, first, second):
    for start, values, mode in ((0, first, {"mode": "w"}), (1, second, {"append_dim": "step"})):
        steps = np.arange(start, start + len(values))
        xr.Dataset({"metric": ("step", values)}, coords={"step": steps}).to_zarr(store, **mode)
    written = xr.open_zarr(store)
    return written["metric"].values.tolist(), written["step"].values.tolist()


counts, steps = append("count.zarr", np.array([1, 2], np.int8), np.array([300, 4]))
losses, _ = append("loss.zarr", np.array([1, 2]), np.array([1.5, np.nan]))
print("guess:    an error, or 300, 1.5 and NaN in a wider type; no step twice")
print("seen:    ", counts, "at steps", steps)
print("seen:    ", losses)
assert counts == [1, 2, 44, 4] and steps == [0, 1, 1, 2]
assert losses[2] == 2 and isinstance(losses[3], int)
try:
    append("text.zarr", np.array(["a", "b"]), np.array(["long", "b"]))
except ValueError as error:
    print("strings: ", type(error).__name__)
else:
    raise SystemExit("longer strings are appended: the behaviour has changed")
PY
