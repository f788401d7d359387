#!/usr/bin/env bash
# Guess: Where the stacked parameters require a gradient, so does each slice, and `if
#   h.requires_grad: h.register_hook(...)` works as without `vmap`.
# So: The mapped tensor has no gradient of its own; autograd works one level further out. Code
#   that asks `requires_grad`, as libraries do around hooks, checkpoints and fast paths, takes the
#   branch for inference.
# Hurt: Ensembles trained by `vmap` of the forward pass with backward outside, when the model
#   clips or scales gradients by hooks.
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
from torch.func import vmap

asked = []


def loss(weight):
    hidden = weight * 2
    asked.append(hidden.requires_grad)
    if hidden.requires_grad:
        hidden.register_hook(lambda gradient: gradient * 0.1)
    return (hidden * 3).sum()


stacked = torch.ones(3, 2, requires_grad=True)
sum(loss(weight) for weight in stacked).backward()
one_by_one, stacked.grad = stacked.grad, None
vmap(loss)(stacked).sum().backward()
print("guess:    requires_grad is True and the gradient 0.6 in both cases")
print("seen:     one by one: requires_grad", asked[:3], "gradient", one_by_one[0, 0].item())
print("seen:     under vmap: requires_grad", asked[3:], "gradient", stacked.grad[0, 0].item())
assert asked == [True] * 3 + [False]
assert torch.allclose(one_by_one, torch.tensor(0.6))
assert torch.allclose(stacked.grad, torch.tensor(6.0))
PY
