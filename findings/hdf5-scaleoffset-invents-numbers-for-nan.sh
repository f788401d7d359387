#!/usr/bin/env bash
# Guess: Keeping two decimals of a float dataset keeps NaN as NaN; the loss is at most half of the
#   last decimal.
# So: The filter subtracts the minimum of the chunk and packs whole numbers; NaN falls onto the
#   minimum and comes back as an ordinary value. Infinity survives, because the filter then leaves
#   the chunk alone. Whole numbers with fewer bits than they need come back as others too.
# Hurt: Compressed metrics with diverged or missing entries: a NaN turns into the best loss of its
#   chunk.
# Seen with: h5py 3.16.0, numpy 2.4.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(h5py==3.16.0 numpy==2.4.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import h5py
import numpy as np

losses = np.array([1.234, np.nan, 3.456])
with h5py.File("loss.h5", "w") as file:
    file.create_dataset("with nan", data=losses, chunks=(3,), scaleoffset=2)
    file.create_dataset("with infinity", data=np.array([1.234, np.inf, 3.456]), chunks=(3,), scaleoffset=2)
    file.create_dataset("three bits", data=np.array([0, 5, -3, 100]), chunks=(4,), scaleoffset=3)
with h5py.File("loss.h5") as file:
    with_nan, with_infinity, packed = (file[name][...] for name in ("with nan", "with infinity", "three bits"))
print("guess:    [1.23, NaN, 3.46]; an error for whole numbers that need more than three bits")
print("seen:     with NaN", with_nan, "; with infinity", with_infinity, "; 0, 5, -3, 100 in three bits:", packed)
assert not np.isnan(with_nan).any() and abs(with_nan[1] - with_nan.min()) < 1e-9
assert np.isinf(with_infinity[1])
assert packed.tolist() != [0, 5, -3, 100]
PY
