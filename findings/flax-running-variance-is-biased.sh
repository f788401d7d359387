#!/usr/bin/env bash
# Guess: With the momentum turned round (0.9 in flax is 0.1 in torch) both layers keep the same
#   running mean and variance.
# So: The means agree, the variances differ by n / (n - 1) of the new part: 33 % for a batch of 4.
#   During training both normalise with divisor n and agree, so only evaluation shows it.
# Hurt: Ports between torch and JAX with small batches or small images, and tests that compare
#   trained models of both.
# Seen with: flax 0.12.8, jax 0.10.2, numpy 2.4.6, torch 2.14.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(flax==0.12.8 jax==0.10.2 numpy==2.4.6 torch==2.14.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import flax.linen as nn
import jax
import numpy as np
import torch

batch = (np.random.default_rng(0).normal(size=(4, 2)) * 3).astype(np.float32)
layer = nn.BatchNorm(momentum=0.9, use_running_average=False)
output, after = layer.apply(layer.init(jax.random.key(0), batch), batch, mutable=["batch_stats"])
reference = torch.nn.BatchNorm1d(2, momentum=0.1)
reference_output = reference(torch.tensor(batch)).detach().numpy()
in_flax, in_torch = np.asarray(after["batch_stats"]["var"]), reference.running_var.numpy()
print("guess:    equal running variances")
print("seen:     flax", in_flax, "torch", in_torch)
assert np.allclose(output, reference_output, atol=1e-5)
assert np.allclose(after["batch_stats"]["mean"], reference.running_mean, atol=1e-6)
assert np.allclose(in_flax, 0.9 + 0.1 * batch.var(0), atol=1e-5)
assert np.allclose(in_torch, 0.9 + 0.1 * batch.var(0, ddof=1), atol=1e-5)
assert not np.allclose(in_flax, in_torch, rtol=0.01)
PY
