#!/usr/bin/env bash
# Guess: After too many errors in a row the wrapper raises or goes on refusing; it is there to
#   keep NaN out.
# So: `max_consecutive_errors` is the number after which the update is let through, silently. The
#   longer a run stays at one bad batch, the surer its weights are lost, and the last finite
#   weights are gone.
# Hurt: Long unattended runs with loss spikes, and stacked trials where one of them has diverged
#   for good.
# Seen with: jax 0.10.2, optax 0.2.8 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(jax==0.10.2 optax==0.2.8)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import jax.numpy as jnp
import numpy as np
import optax

optimizer = optax.apply_if_finite(optax.sgd(1.0), max_consecutive_errors=2)
weight = jnp.array(0.5)
state, path = optimizer.init(weight), []
for gradient in (jnp.nan, jnp.nan, jnp.nan, 0.1):
    update, state = optimizer.update(jnp.array(gradient), state, weight)
    weight = optax.apply_updates(weight, update)
    path.append(float(weight))
print("guess:    0.5, 0.5, 0.5, 0.4")
print("seen:    ", path)
assert path[:2] == [0.5, 0.5]
assert np.isnan(path[2:]).all()
PY
