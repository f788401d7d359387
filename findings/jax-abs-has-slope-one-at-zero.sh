#!/usr/bin/env bash
# Guess: The gradient of |x| at 0 is sign(0) = 0, the value that numpy's sign, torch and
#   subgradient methods use.
# So: JAX takes the branch x >= 0. `jnp.sign(0)` itself is 0. A weight that is zero and gets no
#   other gradient moves by the rate times the penalty in the first step, and jumps over zero from
#   then on; -0.0 counts as zero too.
# Hurt: Pruned or zero-initialised networks with L1 penalties, total variation and mean absolute
#   errors with exact hits: they drift to the negative side.
# Seen with: jax 0.10.2, numpy 2.4.6, torch 2.14.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(jax==0.10.2 numpy==2.4.6 torch==2.14.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import jax
import jax.numpy as jnp
import torch

weight = torch.zeros(1, requires_grad=True)
weight.abs().sum().backward()
in_torch = weight.grad.item()
zeros = jnp.zeros(3)
after = (zeros - 0.1 * jax.grad(lambda w: jnp.abs(w).sum())(zeros)).tolist()
print("guess:    slope 0 at zero, zero weights stay zero")
print("seen:     torch", in_torch, "JAX", float(jax.grad(jnp.abs)(0.0)), "sign(0)", float(jnp.sign(0.0)), "; zero weights after one step:", after)
assert in_torch == 0
assert float(jnp.sign(0.0)) == 0
assert float(jax.grad(jnp.abs)(0.0)) == float(jax.grad(jnp.abs)(-0.0)) == 1
assert all(abs(value + 0.1) < 1e-6 for value in after)
PY
