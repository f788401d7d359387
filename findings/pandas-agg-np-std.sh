#!/usr/bin/env bash
# Guess: In `groupby(...).agg(np.std)` pandas replaces numpy's function by its own method, so the
#   result has ddof=1 like `agg("std")`, as it was in pandas 2.
# So: The replacement is gone: the function is called as it is, with numpy's ddof=0. groupby,
#   `Series.agg` and `pivot_table` are concerned; with five trials the standard deviation is 11 %
#   smaller, with two 29 %, and nothing warns.
# Hurt: Old analysis scripts and published error bars that used `np.std` with groupby.
# Seen with: numpy 2.4.6, pandas 3.1.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 pandas==3.1.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import numpy as np
import pandas as pd

scores = pd.DataFrame({"model": ["a", "a", "b", "b"], "accuracy": [1.0, 2.0, 3.0, 5.0]})
groups = scores.groupby("model")["accuracy"]
by_function, by_name = groups.agg(np.std).tolist(), groups.agg("std").tolist()
pivot = scores.pivot_table(index="model", values="accuracy", aggfunc=np.std)["accuracy"].tolist()
print("guess:    agg(np.std) and agg('std') agree: [0.707, 1.414]")
print("seen:     agg(np.std)", by_function, "pivot_table", pivot, "agg('std')", by_name)
assert by_function == pivot == [0.5, 1.0]
assert np.allclose(by_name, [0.5 * 2**0.5, 2**0.5])
assert scores["accuracy"].agg(np.std) < scores["accuracy"].agg("std")
PY
