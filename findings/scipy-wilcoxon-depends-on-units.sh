#!/usr/bin/env bash
# Guess: A rank test does not depend on the unit: 93 % against 91 % ranks as 0.93 against 0.91.
# So: Ties between the differences are found by exact comparison. 93 - 91 and 94 - 92 are equal,
#   0.93 - 0.91 and 0.94 - 0.92 differ in the last bit, so ties break at random, the ranks change,
#   and dividing by 100 or multiplying by 0.01 gives different p-values again.
# Hurt: Comparisons of two models over seeds or data sets on rounded accuracies; the side of 0.05
#   can depend on a factor of 100.
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
from scipy.stats import wilcoxon

ours = np.array([91, 92, 93, 95, 90, 89, 94, 96, 91, 92])
theirs = np.array([90, 91, 94, 93, 89, 90, 92, 95, 92, 90])
in_units = {
    "percent": wilcoxon(ours, theirs).pvalue,
    "divided by 100": wilcoxon(ours / 100, theirs / 100).pvalue,
    "times 0.01": wilcoxon(ours * 0.01, theirs * 0.01).pvalue,
    "per mille": wilcoxon(ours * 10, theirs * 10).pvalue,
}
print("guess:    one p-value, whatever the unit")
print("seen:    ", {unit: round(float(value), 4) for unit, value in in_units.items()})
assert in_units["percent"] == in_units["per mille"]
assert len({round(float(value), 6) for value in in_units.values()}) == 3
# Rounding the differences before the test brings the p-value of the whole numbers back.
assert wilcoxon(np.round(ours / 100 - theirs / 100, 6)).pvalue == in_units["percent"]
PY
