#!/usr/bin/env bash
# Guess: `multipletests` treats a missing p-value in one way: it raises, leaves it out, or keeps
#   its place.
# So: `fdr_bh` takes a running minimum that NaN wins; `holm` and `bonferroni` return NaN in its
#   place and multiply the others by the number of all values. Nothing warns.
# Hurt: Tables with one comparison that could not be made, for instance two models with identical
#   scores: all stars vanish, or all are one test too strict.
# Seen with: numpy 2.4.6, statsmodels 0.15.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 statsmodels==0.15.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import numpy as np
from statsmodels.stats.multitest import multipletests

values = np.array([0.01, 0.02, np.nan, 0.04])
corrected = {method: multipletests(values, method=method)[1] for method in ("fdr_bh", "holm", "bonferroni")}
complete = {method: multipletests(values[~np.isnan(values)], method=method)[1] for method in corrected}
print("guess:    an error, or the corrections of the three values that are there")
for method in corrected:
    print("seen:    ", method, corrected[method], "; of the three alone", complete[method])
assert np.isnan(corrected["fdr_bh"]).all()
assert np.allclose(corrected["bonferroni"][[0, 1, 3]], 4 * values[[0, 1, 3]])
assert np.allclose(corrected["holm"][[0, 1, 3]], [0.04, 0.06, 0.08])
assert np.isfinite(complete["fdr_bh"]).all()
PY
