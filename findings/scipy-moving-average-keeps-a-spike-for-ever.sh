#!/usr/bin/env bash
# Guess: A moving average over two points forgets a spike two points later, as in pandas, polars
#   and xarray.
# So: The filter adds the value that enters to a running sum and subtracts the one that leaves.
#   What rounding took from the sum while the spike was in it is never given back. A curve of 3,
#   4, 5, 6 comes out as 0, 1, 2, 3, without a warning.
# Hurt: Smoothed losses and returns with a single overflow: the rest of the curve is shifted, by a
#   size that depends on the spike.
# Seen with: numpy 2.4.6, pandas 3.1.1, scipy 1.17.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 pandas==3.1.1 scipy==1.17.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter1d

curve = np.array([1.0, 1e17, 2.0, 3.0, 4.0, 5.0, 6.0])
in_scipy = uniform_filter1d(curve, 2, mode="nearest")
in_pandas = pd.Series(curve).rolling(2).mean().to_numpy()
after_nan = uniform_filter1d(np.where(curve > 1e16, np.nan, curve), 2, mode="nearest")
print("guess:    the averages of (2, 3), (3, 4), (4, 5), (5, 6):", [2.5, 3.5, 4.5, 5.5])
print("seen:     scipy", in_scipy[3:], "pandas", in_pandas[3:], "; scipy with NaN in place of the spike", after_nan[3:])
assert in_pandas[3:].tolist() == [2.5, 3.5, 4.5, 5.5]
assert in_scipy[3:].tolist() == [0.0, 1.0, 2.0, 3.0]
assert np.isnan(after_nan[1:]).all()
PY
