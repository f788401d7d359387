#!/usr/bin/env bash
# Guess: Parameters that are masked out of the optimizer stay as they are.
# So: Masked-out gradients pass through unchanged, and `apply_updates` adds them, with a plus sign
#   and a rate of 1. Freezing takes a second `masked(set_to_zero(), ...)` or `multi_transform`.
# Hurt: Fine-tuning with a frozen body: the loss rises although the trained part is set up
#   correctly.
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
import optax

optimizer = optax.masked(optax.sgd(0.1), {"head": True, "body": False})
parameters = {"head": jnp.array(1.0), "body": jnp.array(1.0)}
gradients = {"head": jnp.array(1.0), "body": jnp.array(1.0)}
updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
after = {name: round(float(value), 6) for name, value in optax.apply_updates(parameters, updates).items()}
print("guess:    head 0.9, body 1.0")
print("seen:    ", after)
assert after == {"head": 0.9, "body": 2.0}
PY
