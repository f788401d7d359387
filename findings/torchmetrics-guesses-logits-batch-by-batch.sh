#!/usr/bin/env bash
# Guess: Whether the input is logits is decided once, by its range over the run or by an argument;
#   a logit of 0.3 is above the threshold.
# So: The check is made anew for each update. The result of an epoch depends on the batch size and
#   on the order of the examples, mostly at the start of training and with small batches, where
#   logits are small.
# Hurt: Everybody who gives logits to binary or multilabel metrics, as the documentation allows;
#   least visible with batch size 1.
# Seen with: numpy 2.4.6, torch 2.14.1, torchmetrics 1.9.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 torch==2.14.1 torchmetrics==1.9.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import torch
from torchmetrics.classification import BinaryAccuracy

logits, labels = torch.tensor([0.3, 0.3, 0.3, 1.1]), torch.ones(4, dtype=torch.long)


def accuracy(batch_size):
    metric = BinaryAccuracy()
    for start in range(0, 4, batch_size):
        metric.update(logits[start : start + batch_size], labels[start : start + batch_size])
    return float(metric.compute())


seen = {batch_size: accuracy(batch_size) for batch_size in (4, 2, 1)}
print("guess:    accuracy 1.0, all logits are positive, whatever the batch size")
print("seen:     accuracy by batch size", seen)
assert seen == {4: 1.0, 2: 0.5, 1: 0.25}
PY
