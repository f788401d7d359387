#!/usr/bin/env bash
# Guess: Where `loss` has three epochs and `val` one, the other two entries of `val` read as
#   missing in every reader.
# So: The library extends `val` only in the view of it: the dataset in the file has length 1.
#   netCDF4 masks the default fill value, xarray masks only a `_FillValue` that stands in the
#   file, so it computes with the number. A mean over the epochs is then 6.6e36, or -1.4e9 for
#   int32.
# Hurt: Logs with metrics of different frequency, such as validation every tenth epoch, on one
#   unlimited dimension.
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
import h5py
import netCDF4
import numpy as np
import xarray as xr

with netCDF4.Dataset("log.nc", "w") as file:
    file.createDimension("epoch", None)
    file.createVariable("loss", "f8", ("epoch",))[0:3] = [1.0, 2.0, 3.0]
    file.createVariable("val", "f8", ("epoch",))[0:1] = [9.0]
    file.createVariable("errors", "i4", ("epoch",))[0:1] = [7]
with h5py.File("log.nc") as file:
    length = file["val"].shape[0]
with netCDF4.Dataset("log.nc") as file:
    masked = file["val"][:]
print("guess:    val is [9, missing, missing] in every reader, its mean 9, the mean of errors 7")
print("seen:     h5py: length", length, "; netCDF4:", masked, "mean", masked.mean())
for engine in ("netcdf4", "h5netcdf"):
    with xr.open_dataset("log.nc", engine=engine) as opened:
        val, errors = opened["val"].values, opened["errors"].values
    print(f"seen:     xarray ({engine}):", val, "mean", val.mean(), ";", errors, "mean", errors.mean())
    assert not np.isnan(val).any() and val.mean() > 1e36
    assert errors.tolist() == [7, -2147483647, -2147483647]
assert length == 1 and masked.mean() == 9.0
PY
