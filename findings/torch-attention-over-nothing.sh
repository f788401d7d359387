#!/usr/bin/env bash
# Guess: Nothing to attend to gives one result: NaN, the softmax of nothing, or zeros, as
#   `scaled_dot_product_attention` gives.
# So: Three implementations are behind the one layer. Training calls the function that returns
#   zeros, evaluation without gradients a fused kernel that does not, and asking for the weights a
#   plain softmax.
# Hurt: Batches filled up with empty samples, sets and graphs without neighbours: training is
#   clean, the validation loss is NaN, and asking for attention maps to find out why changes the
#   result once more.
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
import math

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
layer, tokens = nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(2, 5, 8)
padding = torch.tensor([[False] * 3 + [True] * 2, [True] * 5])
seen = {}
for mode in (True, False):
    layer.train(mode)
    for need_weights in (False, True):
        with torch.no_grad():
            output, _ = layer(tokens, tokens, tokens, key_padding_mask=padding, need_weights=need_weights)
        assert output[0].isfinite().all()
        seen["train" if mode else "eval", "weights" if need_weights else "no weights"] = output[1, 0, 0].item()
heads = torch.randn(1, 1, 3, 4)
function = F.scaled_dot_product_attention(heads, heads, heads, attn_mask=torch.zeros(3, 3, dtype=torch.bool))
print("guess:    one value in all four cases")
print("seen:    ", seen, "; scaled_dot_product_attention", function[0, 0, 0, 0].item())
assert function.abs().max() == 0
assert seen["train", "no weights"] == 0
assert all(math.isnan(value) for case, value in seen.items() if case != ("train", "no weights"))
PY
