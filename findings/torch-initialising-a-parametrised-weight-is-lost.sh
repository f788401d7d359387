#!/usr/bin/env bash
# Guess: The initialisation reaches the layer, or raises because the weight is not a parameter any
#   more.
# So: `layer.weight` is computed anew at each access, or before each forward pass, from other
#   parameters; the functions of `nn.init` fill a tensor that is thrown away.
# Hurt: Zero-initialised last layers, as in residual and diffusion networks, on normalised layers,
#   and models re-initialised by `model.apply` after pruning: they start from other weights than
#   stated.
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
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

torch.manual_seed(0)
normalised, pruned, plain = (nn.Linear(4, 4, bias=False) for _ in range(3))
parametrizations.weight_norm(normalised)
prune.l1_unstructured(pruned, "weight", amount=0.25)
for layer in (normalised, pruned, plain):
    nn.init.zeros_(layer.weight)
rows = torch.ones(1, 4)
sizes = {name: layer(rows).abs().sum().item() for name, layer in (("plain", plain), ("weight_norm", normalised), ("pruned", pruned))}
print("guess:    all three layers give zeros")
print("seen:     sums of absolute outputs:", sizes)
assert sizes["plain"] == 0
assert sizes["weight_norm"] > 0.1
assert sizes["pruned"] > 0.1
PY
