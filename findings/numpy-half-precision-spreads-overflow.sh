#!/usr/bin/env bash
# Guess: All means and spreads of float16 arrays are computed in float32, as the documentation of
#   `np.mean` says, with and without NaN handling.
# So: Only `np.mean` widens. The others sum in float16, whose largest number is 65504, and 1,000
#   values of 100 sum to more. Nothing tells it from a diverged run but a RuntimeWarning of numpy;
#   xarray gives none that a notebook shows. pandas widens.
# Hurt: Metrics and activations logged in half precision: error bars and means over trials turn
#   infinite once there are enough points.
# Seen with: numpy 2.4.6, pandas 3.1.1, xarray 2026.9.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 pandas==3.1.1 xarray==2026.9.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import warnings

import numpy as np
import pandas as pd
import xarray as xr

warnings.simplefilter("ignore")
losses = (np.random.default_rng(0).normal(size=1000) * 10 + 100).astype(np.float16)
exact = losses.astype(np.float64)
seen = {
    "np.mean": losses.mean(),
    "np.nanmean": np.nanmean(losses),
    "np.std": losses.std(),
    "xarray mean": xr.DataArray(losses).mean().item(),
    "xarray mean, skipna=False": xr.DataArray(losses).mean(skipna=False).item(),
    "pandas mean": pd.Series(losses).mean(),
    "pandas std": pd.Series(losses).std(),
}
print(f"guess:    means near {exact.mean():.2f}, standard deviations near {exact.std():.2f}")
print("seen:    ", {name: round(float(value), 2) for name, value in seen.items()})
for name in ("np.nanmean", "np.std", "xarray mean"):
    assert np.isinf(seen[name])
for name in ("np.mean", "xarray mean, skipna=False", "pandas mean"):
    assert abs(seen[name] - exact.mean()) < 0.1
PY
