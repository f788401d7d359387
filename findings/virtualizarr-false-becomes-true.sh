#!/usr/bin/env bash
# Guess: References to the chunks of a file hold the numbers of the file: they point at the same
#   bytes.
# So: The bytes are the same, but HDF5's fill value, 0 where nobody set one, is written into the
#   references as zarr's `fill_value`, which xarray takes for missing: 0 becomes NaN, integers
#   become floats, and NaN read as a boolean is True.
# Hurt: Catalogues of many result files opened as one dataset: shares of accepted or solved trials
#   become 100 %.
# Seen with: fsspec 2026.9.0, h5netcdf 1.8.2, h5py 3.16.0, kerchunk 0.2.10, numpy 2.4.6,
#   obspec-utils 0.9.0, obstore 0.12.1, virtualizarr 2.5.1, xarray 2026.9.0, zarr 3.1.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(fsspec==2026.9.0 h5netcdf==1.8.2 h5py==3.16.0 kerchunk==0.2.10 numpy==2.4.6 obspec-utils==0.9.0 obstore==0.12.1 virtualizarr==2.5.1 xarray==2026.9.0 zarr==3.1.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import pathlib
import warnings

import numpy as np
import xarray as xr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import HDFParser

warnings.simplefilter("ignore")
written = xr.Dataset({"solved": ("trial", np.array([False, True, False])), "errors": ("trial", np.array([0, 1, 2]))})
written.to_netcdf("run.nc", engine="h5netcdf")
registry = ObjectStoreRegistry({"file://": LocalStore()})
virtual = open_virtual_dataset(pathlib.Path("run.nc").resolve().as_uri(), registry=registry, parser=HDFParser())
virtual.vz.to_kerchunk("run.json", format="json")
direct, referenced = xr.open_dataset("run.nc"), xr.open_dataset("run.json", engine="kerchunk")
print("guess:    solved [False, True, False], errors [0, 1, 2], by both ways")
print("seen:     file:      ", direct["solved"].values, direct["errors"].values)
print("seen:     references:", referenced["solved"].values, referenced["errors"].values)
assert direct["solved"].values.tolist() == [False, True, False]
assert referenced["solved"].values.tolist() == [True, True, True]
assert np.isnan(referenced["errors"].values[0]) and referenced["errors"].values[1:].tolist() == [1, 2]
PY
