#!/usr/bin/env bash
# Guess: Without `_FillValue` and `missing_value` every number of a variable is data, as xarray
#   and the attributes say.
# So: netCDF4-python also masks the default fill value of the type: 65535 for uint16, -32767 for
#   int16, -2147483647 for int32, 9.96921e36 for floats. Only one-byte types are exempt: 255 in a
#   uint8 image stays.
# Hurt: Sixteen-bit images and sensor data with saturated pixels, and hash keys or counters:
#   saturated values drop out of every mean, without a word.
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
import netCDF4
import numpy as np
import xarray as xr

values = {"pixel16": np.array([0, 65535, 5], np.uint16), "pixel8": np.array([0, 255, 5], np.uint8)}
xr.Dataset({name: ("x", pixels) for name, pixels in values.items()}).to_netcdf("image.nc", engine="h5netcdf")
with netCDF4.Dataset("image.nc") as file:
    attributes = file["pixel16"].ncattrs()
    wide, narrow = file["pixel16"][:], file["pixel8"][:]
in_xarray = xr.open_dataset("image.nc", engine="h5netcdf")["pixel16"]
print("guess:    no attributes, so 0, 65535, 5 with mean 21846.7 in both readers")
print("seen:     attributes", attributes, "netCDF4", wide, "mean", wide.mean())
print("seen:     netCDF4, uint8", narrow, "; xarray, uint16", in_xarray.values, "mean", float(in_xarray.mean()))
assert attributes == []
assert np.ma.getmaskarray(wide).tolist() == [False, True, False] and wide.mean() == 2.5
assert not np.ma.getmaskarray(narrow).any()
assert in_xarray.values.tolist() == [0, 65535, 5]
PY
