#!/usr/bin/env bash
# Guess: The last cumulative sum is the sum, and jnp follows numpy's rule for both.
# So: Only the full reductions accumulate in 32 bits; the cumulative ones keep the type of the
#   input and wrap round. `jnp.bincount` has a difference of its own: it counts -1 as 0, where
#   numpy raises.
# Hurt: Offsets of ragged batches, positions of tokens and empirical distributions computed from
#   small integer types.
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
import jax.numpy as jnp
import numpy as np

counts = np.array([200, 100], np.uint8)
total, running, in_numpy = int(jnp.asarray(counts).sum()), jnp.cumsum(jnp.asarray(counts)).tolist(), np.cumsum(counts).tolist()
factors = jnp.cumprod(jnp.asarray(np.array([100, 100], np.int8))).tolist()
labels = jnp.bincount(jnp.array([0, 1, -1])).tolist()
print("guess:    sum 300, cumulative sum [200, 300], cumulative product [100, 10000]")
print("seen:     sum", total, "cumulative sum", running, "numpy", in_numpy, "cumulative product", factors, "; bincount of 0, 1, -1:", labels)
assert total == in_numpy[-1] == 300
assert running == [200, 44]
assert factors == [100, 16]
assert labels == [2, 1]
PY
