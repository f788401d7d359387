#!/usr/bin/env bash
# Guess: The mean of a window that holds infinity is infinity, and the running maximum too, as
#   `Series.mean` and `cummax` say.
# So: Window functions replace infinite values by NaN before they start and skip them: with
#   `min_periods=1` the mean of [1, inf] is 1.0 and the running maximum never reaches infinity.
#   `count` counts the value all the same. polars and xarray give infinity.
# Hurt: Smoothed learning curves, and any alarm on them: the epoch in which the loss overflowed
#   looks as good as the one before.
# Seen with: numpy 2.4.6, pandas 3.1.1, polars 2.1.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 pandas==3.1.1 polars==2.1.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import numpy as np
import pandas as pd
import polars as pl

loss = pd.Series([1.0, np.inf, 2.0, 3.0])
window = loss.rolling(2, min_periods=1)
mean, maximum, smooth = window.mean().tolist(), loss.expanding().max().tolist(), loss.ewm(alpha=0.5).mean().tolist()
in_polars = pl.Series(loss.tolist()).rolling_mean(2, min_samples=1).to_list()
print("guess:    rolling mean of [1, inf, 2, 3]: [1, inf, inf, 2.5]; running maximum [1, inf, inf, inf]")
print("seen:     rolling mean", mean, "of", window.count().tolist(), "values; polars", in_polars)
print("seen:     expanding maximum", maximum, "cummax", loss.cummax().tolist())
print("seen:     exponentially weighted mean", smooth)
assert mean == [1.0, 1.0, 2.0, 2.5]
assert window.count().tolist() == [1.0, 2.0, 2.0, 2.0]
assert maximum == [1.0, 1.0, 2.0, 3.0] and np.isfinite(smooth).all()
assert loss.cummax().tolist()[1] == loss.mean() == np.inf
assert in_polars == [1.0, np.inf, np.inf, 2.5]
PY
