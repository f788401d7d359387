#!/usr/bin/env bash
# Guess: `jnp.asarray` of an int64 array whose values do not fit 32 bits raises, as
#   `jnp.array(2**31 + 1)` does, or at least warns.
# So: Only Python integers are checked. Arrays and numpy scalars are cast with wrap-around, and
#   without a warning: 2**40 becomes 0.
# Hurt: Step counters, sample identifiers, hashes and nanosecond time stamps that come from numpy,
#   pandas or h5py.
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
import warnings

import jax.numpy as jnp
import numpy as np

values = [2**31 + 1, 2**40, 2**40 + 5]
refused = 0
for value in values:
    try:
        jnp.asarray(value)
    except OverflowError:
        refused += 1
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    wrapped = jnp.asarray(np.array(values)).tolist()
print("guess:    OverflowError for", values, "as integers and as an array")
print("seen:    ", refused, "of 3 integers refused; the array becomes", wrapped, "with", len(caught), "warnings")
assert refused == 3
assert wrapped == [-(2**31) + 1, 0, 5]
assert not caught
PY
