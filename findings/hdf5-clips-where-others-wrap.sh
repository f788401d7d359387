#!/usr/bin/env bash
# Guess: Three writers that take numpy arrays cast in numpy's way, or refuse what does not fit.
# So: h5py lets HDF5 convert, which clips to the range of the type; zarr and netCDF4 use numpy's
#   cast. None of the three raises.
# Hurt: Code that moves between the formats with narrow types, for instance quantised weights or
#   8-bit images kept as wider integers.
# Seen with: h5py 3.16.0, netCDF4 1.7.5.1.post1, numpy 2.4.6, zarr 3.1.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(h5py==3.16.0 netCDF4==1.7.5.1.post1 numpy==2.4.6 zarr==3.1.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import warnings

import h5py
import netCDF4
import numpy as np
import zarr

warnings.simplefilter("ignore")
values = np.array([300, -300, 128, 3])
with h5py.File("bytes.h5", "w") as file:
    dataset = file.create_dataset("bytes", (4,), np.int8)
    dataset[...] = values
    in_hdf5 = dataset[...].tolist()
array = zarr.create_array("bytes.zarr", shape=(4,), dtype=np.int8)
array[...] = values
with netCDF4.Dataset("bytes.nc", "w") as file:
    file.createDimension("x", 4)
    variable = file.createVariable("bytes", np.int8, ("x",))
    variable[...] = values
    in_netcdf = np.ma.getdata(variable[...]).tolist()
print("guess:    an error, or one result in all three, for", values.tolist())
print("seen:     h5py", in_hdf5, "zarr", array[...].tolist(), "netCDF4", in_netcdf)
assert in_hdf5 == [127, -128, 127, 3]
assert array[...].tolist() == in_netcdf == [44, -44, -128, 3]
PY
