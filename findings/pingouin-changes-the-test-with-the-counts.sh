#!/usr/bin/env bash
# Guess: Which test is made depends on the call: Student's unless Welch's is asked for, as in
#   scipy.
# So: `correction="auto"` looks at the sizes, not at the variances. With ten and ten trials there
#   are 18 degrees of freedom, with ten and nine 8.6 where Student has 17, and nothing in the
#   table names the test.
# Hurt: Tables over several comparisons in which one trial diverged: the rows come from two tests,
#   and their p-values do not compare.
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


def degrees_and_p(*samples):
    row = pingouin.ttest(*samples).iloc[0]
    return float(row["dof"]), float(row["p_val"])


complete, without_one = degrees_and_p(ours, theirs), degrees_and_p(ours, theirs[:9])
print("guess:    18 and 17 degrees of freedom")
print("seen:     ten and ten: dof %.1f, p %.4f; ten and nine: dof %.1f, p %.4f" % (*complete, *without_one))
assert complete[0] == 18
assert abs(complete[1] - ttest_ind(ours, theirs).pvalue) < 1e-9
assert without_one[0] < 10
assert abs(without_one[1] - ttest_ind(ours, theirs[:9], equal_var=False).pvalue) < 1e-9
assert without_one[1] > 4 * ttest_ind(ours, theirs[:9]).pvalue
PY
