#!/usr/bin/env bash
# Guess: An attribute keeps its shape: a list of one number is a list of one number, as a list of
#   two is.
# So: netCDF attributes are vectors without a mark for scalars, so the readers unpack length 1;
#   both engines of xarray do. Lists of two come back as arrays (numbers) or lists (texts).
# Hurt: Configurations stored beside results: code that iterates over the hidden widths works for
#   deep networks and fails, or splits the text "relu" into letters, for those of one layer.
# Seen with: h5netcdf 1.8.2, h5py 3.16.0, netCDF4 1.7.5.1.post1, numpy 2.4.6, xarray 2026.9.0,
#   zarr 3.1.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(h5netcdf==1.8.2 h5py==3.16.0 netCDF4==1.7.5.1.post1 numpy==2.4.6 xarray==2026.9.0 zarr==3.1.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import warnings

import numpy as np
import xarray as xr

warnings.simplefilter("ignore")
configuration = {"widths": [18], "activations": ["relu"], "deep": [18, 18]}
dataset = xr.Dataset(attrs=configuration)
print("guess:    lists of one stay lists of one:", configuration)
for engine in ("h5netcdf", "netcdf4"):
    dataset.to_netcdf(f"{engine}.nc", engine=engine)
    read = xr.load_dataset(f"{engine}.nc", engine=engine).attrs
    print("seen:    ", engine, read)
    assert np.ndim(read["widths"]) == 0
    assert read["activations"] == "relu"
    assert np.ndim(read["deep"]) == 1
dataset.to_zarr("zarr", mode="w")
in_zarr = xr.load_dataset("zarr", engine="zarr").attrs
print("seen:     zarr", in_zarr)
assert in_zarr == configuration
PY
