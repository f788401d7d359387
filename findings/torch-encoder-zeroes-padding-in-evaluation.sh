#!/usr/bin/env bash
# Guess: With dropout 0 the outputs of `train()` and `eval()` agree everywhere.
# So: Evaluation packs the batch into a nested tensor without the padded tokens and fills up with
#   zeros at the end; the other paths compute something for each position.
#   `enable_nested_tensor=False` makes both equal.
# Hurt: Models that pool over all positions, by mean or maximum: they are trained on one function
#   and evaluated on another, and the validation loss depends on `no_grad`.
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
import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
tokens = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
padding = torch.tensor([[False] * 3 + [True] * 2, [False] * 5])


def outputs(nested):
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2, enable_nested_tensor=nested)
    with_training = encoder.train()(tokens, src_key_padding_mask=padding).detach()
    with torch.no_grad():
        return with_training, encoder.eval()(tokens, src_key_padding_mask=padding)


train, evaluation = outputs(nested=True)
print("guess:    equal outputs at all five positions")
print("seen:     first sample, first feature: train", train[0, :, 0].tolist())
print("seen:                                  eval ", evaluation[0, :, 0].tolist())
print("seen:     maximum over positions: train", train[0].amax(0)[:3].tolist(), "eval", evaluation[0].amax(0)[:3].tolist())
assert torch.allclose(train[~padding], evaluation[~padding], atol=1e-5)
assert evaluation[padding].abs().max() == 0
assert train[padding].abs().max() > 0.1
plain_train, plain_evaluation = outputs(nested=False)
assert torch.allclose(plain_train, plain_evaluation, atol=1e-5)
PY
