#!/usr/bin/env bash
# Guess: An integer array written by zarr reads as the same integers in xarray, whichever version
#   of the format the store has.
# So: In format 2 xarray takes zarr's `fill_value` (0 by default: the value of chunks that were
#   never written) for a mask, like `_FillValue` of netCDF, and turns integers into floats and
#   booleans into objects. In format 3 it does not.
# Hurt: Stores written by zarr directly, as loggers and data pipelines do, and read by xarray:
#   means leave out the zeros, a share of successes becomes 100 %.
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
import zarr

warnings.simplefilter("ignore")
values = {"errors": np.array([0, 1, 2]), "solved": np.array([False, True, False])}
means = {}
print("guess:    errors [0, 1, 2] with mean 1, solved [False, True, False] with mean 1/3, in both formats")
for version in (2, 3):
    group = zarr.open_group(f"format{version}.zarr", mode="w", zarr_format=version)
    for name, column in values.items():
        dimensions = {"dimension_names": ["trial"]} if version == 3 else {}
        array = group.create_array(name, shape=column.shape, dtype=column.dtype, **dimensions)
        array.attrs["_ARRAY_DIMENSIONS"] = ["trial"]
        array[...] = column
        assert np.array_equal(array[...], column)
    read = xr.open_zarr(f"format{version}.zarr", consolidated=False)
    means[version] = float(read["errors"].mean()), float(read["solved"].astype(float).mean())
    print(f"seen:     format {version}:", read["errors"].values, read["solved"].values, "means", means[version])
assert means[2] == (1.5, 1.0)
assert means[3] == (1.0, 1 / 3)
PY
