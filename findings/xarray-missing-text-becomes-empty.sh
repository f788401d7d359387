#!/usr/bin/env bash
# Guess: xarray keeps None in a variable of texts, as it keeps NaN in floats, or refuses to write
#   it.
# So: netCDF strings have no missing value, so the writer puts "" in its place, without a warning,
#   with either engine and in zarr as well.
# Hurt: Labels, notes and error messages per trial: trials without an error and trials with an
#   empty message are the same afterwards, and `dropna` drops nothing.
# Seen with: h5netcdf 1.8.2, h5py 3.16.0, netCDF4 1.7.5.1.post1, numpy 2.4.6, xarray 2026.9.0 on a
#   CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(h5netcdf==1.8.2 h5py==3.16.0 netCDF4==1.7.5.1.post1 numpy==2.4.6 xarray==2026.9.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import warnings

import numpy as np
import xarray as xr

written = xr.Dataset({"error": ("trial", np.array(["diverged", None], object))})
print("guess:    the second error is missing after a round trip")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for engine in ("h5netcdf", "netcdf4"):
        written.to_netcdf(f"{engine}.nc", engine=engine)
        read = xr.load_dataset(f"{engine}.nc", engine=engine)
        print("seen:    ", engine, written["error"].isnull().values, "->", read["error"].isnull().values, read["error"].values.tolist())
        assert written["error"].isnull().values.tolist() == [False, True]
        assert read["error"].isnull().values.tolist() == [False, False]
        assert read["error"].values.tolist() == ["diverged", ""]
assert not caught
PY
