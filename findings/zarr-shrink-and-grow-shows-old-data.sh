#!/usr/bin/env bash
# Guess: Cutting an array to 5 elements and growing it to 10 gives fill values in the new part, as
#   in HDF5.
# So: zarr drops whole chunks beyond the new end and leaves the chunk at the border as it is. What
#   lay behind the cut comes back when the array grows, in shards too, where `append` after the
#   cut leaves old rows behind the new one.
# Hurt: Resumed runs that cut their metrics back to the last commit and then grow the array for
#   rows they fill only in part: rows of the abandoned attempt look like results.
# Seen with: h5py 3.16.0, numpy 2.4.6, zarr 3.1.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(h5py==3.16.0 numpy==2.4.6 zarr==3.1.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import h5py
import numpy as np
import zarr

rows = np.arange(10.0)
with h5py.File("rows.h5", "w") as file:
    dataset = file.create_dataset("rows", data=rows, chunks=(8,), maxshape=(None,))
    dataset.resize((5,))
    dataset.resize((10,))
    in_hdf5 = dataset[...]
array = zarr.create_array("rows.zarr", shape=(10,), chunks=(8,), dtype="f8")
array[...] = rows
array.resize((5,))
array.resize((10,))
sharded = zarr.create_array("sharded.zarr", shape=(10,), chunks=(8,), shards=(16,), dtype="f8")
sharded[...] = rows
sharded.resize((5,))
sharded.append(np.array([-1.0]))
sharded.resize((10,))
print("guess:    [0 1 2 3 4 0 0 0 0 0] in both formats")
print("seen:     HDF5 ", in_hdf5)
print("seen:     zarr ", array[...])
print("seen:     zarr, sharded, -1 appended after the cut", sharded[...])
assert in_hdf5.tolist() == [0, 1, 2, 3, 4, 0, 0, 0, 0, 0]
assert array[...].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 0]
assert sharded[...].tolist() == [0, 1, 2, 3, 4, -1, 6, 7, 8, 9]
PY
