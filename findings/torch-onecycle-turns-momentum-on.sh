#!/usr/bin/env bash
# Guess: A schedule of the learning rate changes the learning rate; plain SGD stays plain.
# So: `cycle_momentum` is on by default and also applies where the optimizer was built with
#   momentum=0. The steps are up to twenty times as long as those of the optimizer that was
#   configured, and `defaults` and a logged configuration still say 0.
# Hurt: Ablations of momentum, and every comparison of schedules in which the optimizer is said to
#   be plain SGD.
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

parameter = torch.nn.Parameter(torch.zeros(1))
plain = torch.optim.SGD([parameter], lr=0.1)
adam = torch.optim.Adam([parameter], lr=0.1, betas=(0.5, 0.999))
for optimizer in (plain, adam):
    torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=100)
momentum, betas = plain.param_groups[0]["momentum"], adam.param_groups[0]["betas"]
for _ in range(29):
    parameter.grad = torch.ones(1)
    plain.step()
print("guess:    SGD keeps momentum 0, Adam keeps beta1 = 0.5")
print("seen:     momentum", momentum, "betas", betas, "while the defaults say", plain.defaults["momentum"], adam.defaults["betas"])
print("seen:     29 steps of at most 0.1 / 25 moved the parameter by", -parameter.item(), "instead of", 29 * 0.1 / 25)
assert momentum == 0.95
assert betas == (0.95, 0.999)
assert plain.defaults["momentum"] == 0
assert -parameter.item() > 8 * 29 * 0.1 / 25
PY
