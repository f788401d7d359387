#!/usr/bin/env bash
# Guess: After `patience` epochs without improvement the rate drops, whatever the sign of the
#   loss.
# So: The default threshold is relative and asks for less than best * (1 - 0.0001). For a best of
#   -1.0 that is -0.9999, so -1.0 again, or -0.99995, counts as an improvement. `mode="max"` with
#   negative scores has the same fault.
# Hurt: Training on log-likelihoods, evidence bounds, contrastive or energy losses, and rewards
#   below zero: the schedule silently does nothing.
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


def rate_after(losses, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3, **options)
    for loss in losses:
        schedule.step(loss)
    return optimizer.param_groups[0]["lr"]


worsening = [-100.0 * (1 - 5e-5) ** epoch for epoch in range(300)]
seen = {
    "constant 1.0": rate_after([1.0] * 100),
    "constant -1.0": rate_after([-1.0] * 100),
    "constant -1.0, maximised": rate_after([-1.0] * 100, mode="max"),
    f"from -100 up to {worsening[-1]:.2f}": rate_after(worsening),
    "constant -1.0, threshold_mode='abs'": rate_after([-1.0] * 100, threshold_mode="abs"),
}
print("guess:    the rate of 1.0 falls far below 0.1 in each case")
for losses, rate in seen.items():
    print("seen:     loss", losses, "-> rate", f"{rate:.1g}")
first, constant, maximised, rising, absolute = seen.values()
assert first < 1e-6
assert absolute < 1e-6
assert constant == maximised == rising == 1.0
PY
