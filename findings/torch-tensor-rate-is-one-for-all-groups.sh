#!/usr/bin/env bash
# Guess: `LambdaLR(optimizer, [one, tenth])` gives the groups their own rates, whether `lr` was a
#   float or, as torch.compile asks for, a tensor.
# So: All groups hold the same tensor object and schedules fill it in place, so the last group
#   wins. The caller's tensor changes too, and a second optimizer built with it follows the
#   schedule of the first.
# Hurt: Fine-tuning with one rate for the body and one for the head, after a change to tensor
#   rates for compiled optimizer steps.
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


def rates(rate, optimizer_class):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = optimizer_class(groups, lr=rate)
    torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda epoch: 1.0, lambda epoch: 0.01])
    return [round(float(group["lr"]), 6) for group in optimizer.param_groups]


print("guess:    rates [0.1, 0.001] for a float and for a tensor")
for optimizer_class in (torch.optim.SGD, torch.optim.Adam):
    shared = torch.tensor(0.1)
    by_float, by_tensor = rates(0.1, optimizer_class), rates(shared, optimizer_class)
    print("seen:    ", optimizer_class.__name__, by_float, "with a float,", by_tensor, "with a tensor; the caller's tensor is now", round(float(shared), 6))
    assert by_float == [0.1, 0.001]
    assert by_tensor == [0.001, 0.001]
    assert round(float(shared), 6) == 0.001
PY
