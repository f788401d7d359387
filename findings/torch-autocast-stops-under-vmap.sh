#!/usr/bin/env bash
# Guess: `vmap` only adds a dimension: what autocast casts without it, it casts with it.
# So: The batching rules replace the operator by others (grouped convolution, a product and a sum)
#   that autocast does not know or treats otherwise, in silence. Ensembles through torch.func so
#   lose the speed and the memory that they were meant to gain, and their numbers are not those of
#   the single model.
# Hurt: Stacked ensembles and per-sample gradients in mixed precision.
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
import torch.nn.functional as F
from torch.func import vmap

torch.manual_seed(0)
image, filters = torch.randn(4, 1, 8, 8), torch.randn(3, 2, 1, 3, 3)
rows, weights, biases = torch.randn(4, 8), torch.randn(3, 5, 8), torch.randn(3, 5)


def convolve(kernel):
    return F.conv2d(image, kernel)


def affine(weight, bias):
    return F.linear(rows, weight, bias)


def product(weight):
    return F.linear(rows, weight)


seen = {}
with torch.autocast("cpu", torch.bfloat16):
    for function, arguments in ((convolve, (filters,)), (affine, (weights, biases)), (product, (weights,))):
        single = function(*(stacked[0] for stacked in arguments)).dtype
        seen[function.__name__] = single, vmap(function)(*arguments).dtype
print("guess:    bfloat16 everywhere")
for name, (single, mapped) in seen.items():
    print("seen:    ", name, "alone", single, "under vmap", mapped)
assert seen["convolve"] == seen["affine"] == (torch.bfloat16, torch.float32)
assert seen["product"] == (torch.bfloat16, torch.bfloat16)
PY
