#!/usr/bin/env bash
# Guess: Reading an attribute has no effect; the power iteration is a step of the forward pass.
# So: The weight is computed at each access, and each computation in training mode makes one power
#   iteration and writes its vectors into the buffers, under `no_grad` too. Two readings in a row
#   differ.
# Hurt: Monitoring of weight norms and exponential averages made from `.weight`, with
#   discriminators and Lipschitz networks; a forward that uses the weight twice uses two weights.
# Seen with: numpy 2.4.6, torch 2.14.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 torch==2.14.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import copy

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

torch.manual_seed(0)
layer, rows = spectral_norm(nn.Linear(64, 64)), torch.randn(4, 64)
watched = copy.deepcopy(layer)
with torch.no_grad():
    norms = [watched.weight.norm().item() for _ in range(20)]
    plain_output, watched_output = layer(rows), watched(rows)
difference = (plain_output - watched_output).abs().max().item()
evaluated = copy.deepcopy(layer).eval()
print("guess:    equal norms, equal outputs of the watched layer and the other")
print("seen:     norms", norms[:3], "; outputs differ by", difference)
assert len(set(norms[:3])) == 3
assert difference > 1e-4
with torch.no_grad():
    assert torch.equal(evaluated.weight, evaluated.weight)
PY
