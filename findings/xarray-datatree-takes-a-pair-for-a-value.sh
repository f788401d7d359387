#!/usr/bin/env bash
# Guess: A node of a DataTree takes what a Dataset takes: a pair of dimensions and data, and
#   arrays that are aligned to its coordinates.
# So: Item assignment of a tree makes a scalar DataArray of anything that is none of its own
#   types; that is noticed at the earliest when the tree is written. Arrays in another order of
#   the trials are aligned by a Dataset and refused by a tree.
# Hurt: Code that moves from nested Datasets to DataTree: the variable is there, and every
#   computation on it fails or runs on an object of size 1.
# Seen with: numpy 2.4.6, xarray 2026.9.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 xarray==2026.9.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import xarray as xr

accuracy = ("trial", [0.5, 0.6])
dataset = xr.Dataset(coords={"trial": [0, 1]})
tree = xr.DataTree.from_dict({"/": xr.Dataset(coords={"trial": [0, 1]}), "/val": xr.Dataset()})
dataset["accuracy"] = accuracy
tree["val"]["accuracy"] = accuracy
in_dataset, in_tree = dataset["accuracy"], tree["val"]["accuracy"]
print("guess:    a float variable over the dimension trial in both")
print("seen:     Dataset ", in_dataset.dims, in_dataset.dtype, "; DataTree", in_tree.dims, in_tree.dtype, in_tree.item())
assert in_dataset.dims == ("trial",)
assert in_tree.dims == ()
assert in_tree.item() == accuracy

turned = xr.DataArray([0.6, 0.5], dims="trial", coords={"trial": [1, 0]})
dataset["turned"] = turned
try:
    tree["val"]["turned"] = turned
except ValueError as error:
    print("seen:     another order of the trials: Dataset", dataset["turned"].values, "; DataTree", type(error).__name__)
else:
    raise SystemExit("the tree takes another order of the trials: the behaviour has changed")
assert dataset["turned"].values.tolist() == [0.5, 0.6]
PY
