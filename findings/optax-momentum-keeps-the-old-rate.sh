#!/usr/bin/env bash
# Guess: A schedule multiplies the whole step: with rate 0 nothing moves, in each optimizer of one
#   library and in torch's of the same name.
# So: `rmsprop` chains scale by rms, learning rate, momentum; `sgd` chains momentum, learning
#   rate. With a constant rate both orders are the same and agree with torch to 1e-15, so a port
#   that was tested at a constant rate differs as soon as there is a schedule.
# Hurt: Ports of RMSprop recipes with step decay or warm-up: each change of the rate arrives late,
#   by about 1 / (1 - momentum) steps.
# Seen with: jax 0.10.2, numpy 2.4.6, optax 0.2.8 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(jax==0.10.2 numpy==2.4.6 optax==0.2.8)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import jax.numpy as jnp
import numpy as np
import optax


def steps(build):
    """Return the size of each step with a constant gradient and a rate that falls to 0 after five steps."""
    optimizer = build(optax.piecewise_constant_schedule(1.0, {5: 0.0}))
    position = jnp.zeros(1)
    state, path = optimizer.init(position), [0.0]
    for _ in range(8):
        update, state = optimizer.update(jnp.ones(1), state, position)
        position = optax.apply_updates(position, update)
        path.append(float(position[0]))
    return np.diff(path)


sgd = steps(lambda rate: optax.sgd(rate, momentum=0.9))
rmsprop = steps(lambda rate: optax.rmsprop(rate, momentum=0.9))
print("guess:    the last three of eight steps are 0")
print("seen:     sgd    ", sgd.round(3))
print("seen:     rmsprop", rmsprop.round(3))
assert np.all(sgd[5:] == 0)
assert np.allclose(rmsprop[5:] / rmsprop[4:7], 0.9, atol=1e-4)
PY
