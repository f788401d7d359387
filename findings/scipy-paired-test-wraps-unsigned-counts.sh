#!/usr/bin/env bash
# Guess: A test converts its samples to floats before it computes, as `ttest_ind` and `wilcoxon`
#   do.
# So: The differences are taken in the type of the input, so -1 becomes 255: the sign is wrong and
#   the p-value a million times too small.
# Hurt: Counts of correct answers, pixel values and ranks that were stored in small unsigned types
#   to save space, as in HDF5 and Parquet files.
# Seen with: numpy 2.4.6, scipy 1.17.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 scipy==1.17.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import numpy as np
from scipy.stats import ttest_ind, ttest_rel, wilcoxon

before, after = np.array([100, 110, 120, 90], np.uint8), np.array([101, 112, 125, 93], np.uint8)
print("guess:    the type does not matter in any of the three")
seen = {}
for test in (ttest_rel, ttest_ind, wilcoxon):
    seen[test.__name__] = stored, floats = test(before, after), test(before.astype(float), after.astype(float))
    print("seen:    ", test.__name__, *(f"{name}: statistic {result.statistic:.3g}, p {result.pvalue:.2g};" for name, result in (("uint8", stored), ("float", floats))))
stored, floats = seen["ttest_rel"]
assert stored.statistic > 100 > 0 > floats.statistic
assert stored.pvalue < 1e-6 < 0.04 < floats.pvalue
for name in ("ttest_ind", "wilcoxon"):
    stored, floats = seen[name]
    assert stored.pvalue == floats.pvalue
PY
