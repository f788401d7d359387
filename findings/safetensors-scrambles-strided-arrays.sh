#!/usr/bin/env bash
# Guess: An array that is a view is copied into order before it is written, as in version 0.7 and
#   in `np.save`, or refused, as `safetensors.torch` does.
# So: 0.8.0 takes the bytes as they lie in memory. `array.T` comes back with rows and columns
#   mixed, `array[:, 1]` as the first elements of the block. Saving twice and comparing the files
#   does not show it. Reported as safetensors 825.
# Hurt: Checkpoints and features written from numpy, for instance weights transposed for another
#   framework or single columns of a table.
# Seen with: numpy 2.4.6, safetensors 0.8.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 safetensors==0.8.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import numpy as np
from safetensors.numpy import load_file, save_file

table = np.arange(6.0).reshape(2, 3)
views = {"transposed": table.T, "Fortran order": np.asfortranarray(table), "one column": table[:, 1], "every second": np.arange(10.0)[::2]}
print("guess:    every array comes back as it was")
for name, view in views.items():
    save_file({"x": view}, "x.safetensors")
    loaded = load_file("x.safetensors")["x"]
    print("seen:    ", name, view.tolist(), "->", loaded.tolist())
    assert loaded.shape == view.shape
    assert not np.array_equal(loaded, view)
    save_file({"x": np.ascontiguousarray(view)}, "x.safetensors")
    assert np.array_equal(load_file("x.safetensors")["x"], view)
PY
