#!/usr/bin/env bash
# Guess: Folding a number in and splitting are two ways to get fresh keys, so keys made from one
#   parent in both ways are independent.
# So: Both hash the same counter i under the parent (with the partitionable threefry that is the
#   default now, and with rbg). A key per trial by `fold_in` and keys for initialisation and data
#   by `split` of the same run key collide: trial 0 initialises with the noise of its run's first
#   split.
# Hurt: Programs that number trials or epochs by `fold_in` and split the run key elsewhere for
#   parameters, dropout or shuffling.
# Seen with: jax 0.10.2, numpy 2.4.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(jax==0.10.2 numpy==2.4.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import jax
import numpy as np

run = jax.random.key(7)
parameters, dropout, shuffling = jax.random.split(run, 3)
trials = [jax.random.fold_in(run, trial) for trial in range(3)]
equal = [np.array_equal(jax.random.key_data(a), jax.random.key_data(b)) for a, b in zip(trials, (parameters, dropout, shuffling))]
print("guess:    the keys of trials 0, 1, 2 differ from the three of the split")
print("seen:     equal:", equal, "; trial 1 draws", float(jax.random.normal(trials[1])), "and dropout", float(jax.random.normal(dropout)))
assert equal == [True] * 3
assert float(jax.random.normal(trials[1])) == float(jax.random.normal(dropout))
PY
