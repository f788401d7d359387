#!/usr/bin/env bash
# Guess: `vmap(draw)(keys)` is the stack of `draw(key)` for each key: that is what keys are for.
# So: The generator fills the whole batch from the first key. Row 0 is right; all others depend on
#   the batch they are in, so trial 3 of 10 is not trial 3 of 5 with another first trial, nor
#   trial 3 alone. threefry keys, the default, keep the promise.
# Hurt: Ensembles on accelerators where `rbg` was chosen for its speed, and anyone who re-runs one
#   trial of such a batch.
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
import jax.numpy as jnp
import numpy as np


def rows_equal(kind):
    keys = jax.random.split(jax.random.key(0, impl=kind), 4)

    def draw(key):
        return jax.random.normal(key, (3,))

    stacked, alone = jax.vmap(draw)(keys), jnp.stack([draw(key) for key in keys])
    shifted = jax.vmap(draw)(keys[1:])
    return [np.array_equal(*rows) for rows in zip(stacked, alone)], np.array_equal(stacked[1], shifted[0])


print("guess:    every row equals the draw of its key alone, and row 1 does not depend on who is row 0")
seen = {kind: rows_equal(kind) for kind in ("threefry2x32", "rbg")}
for kind, (rows, unmoved) in seen.items():
    print("seen:    ", kind, "rows equal to single draws:", rows, "same without the first key:", unmoved)
assert seen["threefry2x32"] == ([True] * 4, True)
assert seen["rbg"] == ([True, False, False, False], False)
PY
