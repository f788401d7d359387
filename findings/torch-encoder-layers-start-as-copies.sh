#!/usr/bin/env bash
# Guess: A stack of six layers has six independent initialisations.
# So: The encoder copies the one layer that it is given, values included. `nn.Transformer`
#   initialises its matrices once more afterwards, so only there do the layers differ; a model
#   built of the encoder alone keeps the copies unless its author does the same.
# Hurt: Experiments about depth, initialisation or symmetry with hand-built encoders, and every
#   comparison with another library's initialisation.
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

torch.manual_seed(0)
encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 3)
whole = nn.Transformer(8, 2, 3, 3, 16, batch_first=True)


def equal_layers(layers):
    first, *others = (dict(layer.named_parameters()) for layer in layers)
    return sorted(name for name in first if name.endswith("weight") and first[name].dim() == 2 and all(torch.equal(first[name], other[name]) for other in others))


print("guess:    no matrix is equal in all three layers")
print("seen:     TransformerEncoder:", equal_layers(encoder.layers))
print("seen:     Transformer:       ", equal_layers(whole.encoder.layers))
assert len(equal_layers(encoder.layers)) == 4
assert equal_layers(whole.encoder.layers) == []
PY
