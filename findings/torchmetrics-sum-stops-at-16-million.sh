#!/usr/bin/env bash
# Guess: A sum of integers is an integer, so the number of tokens or images seen is exact.
# So: The state is one float32 from the first update on, whatever type comes in; from 2**24 on
#   adding 1 is lost to rounding, and adding 100 later on. `MeanMetric` keeps its weights in the
#   same way. `set_dtype(torch.float64)` helps.
# Hurt: Counts of tokens, steps or environment frames over long runs, and means that are weighted
#   by them.
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
from torchmetrics import MeanMetric, SumMetric


def count(metric):
    metric.update(torch.tensor(2**24))
    for _ in range(1000):
        metric.update(torch.tensor(1))
    return metric.compute()


single, double = count(SumMetric()), count(SumMetric().set_dtype(torch.float64))
mean = MeanMetric()
mean.update(torch.tensor(1.0), weight=2**24)
for _ in range(1000):
    mean.update(torch.tensor(0.0), weight=1)
print("guess:    16777216 + 1000 = 16778216")
print("seen:    ", int(single), single.dtype, "; with set_dtype(float64):", int(double), "; weight of the mean:", int(mean.weight))
assert single.dtype == torch.float32
assert int(single) == 2**24
assert int(double) == 2**24 + 1000
assert int(mean.weight) == 2**24
PY
