#!/usr/bin/env bash
# Guess: The interval of a t-test has the digits of a float, as the other columns of the table.
# So: Columns named CI95 are rounded when the table is made; the number itself is not kept. A
#   difference of 0.4 points, with the interval 0.13 to 0.74, becomes one that touches zero.
#   `pingouin.options["round.column.CI95"] = None` turns it off.
# Hurt: Reports on accuracies, error rates and correlations near one, whose differences are below
#   0.01: interval and p-value contradict each other.
# Seen with: numpy 2.4.6, pingouin 0.7.0, scipy 1.17.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 pingouin==0.7.0 scipy==1.17.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import warnings

import numpy as np
from scipy.stats import ttest_ind

warnings.simplefilter("ignore")
import pingouin

generator = np.random.default_rng(0)
ours, theirs = generator.normal(0.912, 0.001, 10), generator.normal(0.910, 0.005, 10)
table = pingouin.ttest(ours, theirs)
interval, p = np.asarray(table["CI95"].iloc[0], float).tolist(), float(table["p_val"].iloc[0])
exact = ttest_ind(ours, theirs).confidence_interval()
pingouin.options["round.column.CI95"] = None
unrounded = np.asarray(pingouin.ttest(ours, theirs)["CI95"].iloc[0], float)
print("guess:    an interval that excludes zero, since p =", round(p, 4))
print("seen:    ", interval, "; scipy:", [round(float(bound), 5) for bound in exact])
assert p < 0.01
assert interval == [0.0, 0.01]
assert np.allclose(unrounded, exact)
assert exact.low > 0.001
PY
