#!/usr/bin/env bash
# Guess: After training with ASGD the model's parameters are the averages that give the method its
#   name.
# So: The average lies in `state[parameter]["ax"]`, begins after t0 = 1,000,000 steps by default,
#   and no method copies it into the model. Until then the optimizer is SGD with a slowly falling
#   rate and a slight decay of the weights.
# Hurt: Comparisons of optimizers, and language-model recipes that switch to ASGD near the end and
#   evaluate the model as it is.
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


def train(**options):
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.ASGD([parameter], lr=0.1, **options)
    seen = []
    for step in range(50):
        optimizer.zero_grad()
        ((parameter - step % 2) ** 2).sum().backward()
        optimizer.step()
        seen.append(parameter.item())
    return parameter.item(), optimizer.state[parameter]["ax"].item(), sum(seen) / len(seen)


by_default, average_by_default, true_average = train()
when_asked, average_when_asked, _ = train(t0=1)
print("guess:    the parameter ends near the average of its path,", round(true_average, 4))
print("seen:     by default", round(by_default, 4), "state", round(average_by_default, 4), "; with t0=1", round(when_asked, 4), "state", round(average_when_asked, 4))
assert by_default == average_by_default
assert when_asked == by_default
assert average_when_asked < 0.53 < 0.55 < when_asked
PY
