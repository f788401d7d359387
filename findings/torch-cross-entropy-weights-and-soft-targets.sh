#!/usr/bin/env bash
# Guess: A one-hot distribution is the same target as the class number, so the mean loss is the
#   same.
# So: For class numbers the weighted mean divides by the sum of the weights that occurred, for
#   distributions by the number of examples. Without weights both agree.
# Hurt: Training with class weights that turns on mixup, distillation or soft labels: the loss,
#   and with it the effective learning rate, changes scale by the mean weight.
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

torch.manual_seed(0)
scores, classes, weight = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0.1, 5.0, 1.0])
one_hot = F.one_hot(classes, 3).float()
by_number, by_distribution = F.cross_entropy(scores, classes, weight), F.cross_entropy(scores, one_hot, weight)
print("guess:    equal losses")
print("seen:    ", float(by_number), "for class numbers,", float(by_distribution), "for one-hot targets")
assert torch.allclose(F.cross_entropy(scores, classes), F.cross_entropy(scores, one_hot))
assert abs(by_distribution / by_number - weight[classes].mean()) < 1e-6
assert abs(by_number - by_distribution) > 0.1
PY
