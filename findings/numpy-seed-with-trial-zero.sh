#!/usr/bin/env bash
# Guess: A generator seeded by the pair (seed, trial) differs from one seeded by the seed alone,
#   and different pairs give different streams.
# So: A seed sequence cuts its entropy into 32-bit words and pads it with zeros up to four words,
#   so trailing zeros do not count and a pair is the same as one long integer. Trial 0 of a sweep
#   draws exactly what the main program draws.
# Hurt: Experiments that seed trials with `default_rng([seed, trial])` beside a generator made
#   from the seed alone: trial 0's noise is the noise of the data split.
# Seen with: numpy 2.4.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import numpy as np


def draws(seed):
    return np.random.default_rng(seed).random(3).tolist()


print("guess:    default_rng(7), default_rng([7, 0]) and default_rng([7, 0, 0]) differ")
print("seen:    ", draws(7)[0], draws([7, 0])[0], draws([7, 0, 0])[0])
assert draws(7) == draws([7, 0]) == draws([7, 0, 0])
assert draws(7) != draws([7, 1])
print("guess:    default_rng([0, 1]) and default_rng(2**32) differ")
print("seen:    ", draws([0, 1])[0], draws(2**32)[0])
assert draws([0, 1]) == draws(2**32)
# Only from the fifth word on does a zero count.
assert draws([7, 0, 0, 0, 0]) != draws(7)
PY
