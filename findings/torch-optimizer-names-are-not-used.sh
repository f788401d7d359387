#!/usr/bin/env bash
# Guess: Names that are saved in `param_names` are there to match the state to the parameters.
# So: Names are stored and otherwise ignored. Shapes are not compared either, so layers of equal
#   width exchange their moments in silence, and others fail at the next step.
# Hurt: Checkpoints resumed after layers were reordered or defined in another order in `__init__`:
#   the weights are right, being loaded by name, the momentum is not.
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

first, second = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
original = torch.optim.Adam([("first", first), ("second", second)])
first.grad, second.grad = torch.full((2,), 1.0), torch.full((2,), 5.0)
original.step()
state = original.state_dict()
resumed = torch.optim.Adam([("second", second), ("first", first)])
resumed.load_state_dict(state)


def moments(optimizer):
    return {"first": round(optimizer.state[first]["exp_avg"][0].item(), 3), "second": round(optimizer.state[second]["exp_avg"][0].item(), 3)}


before, after = moments(original), moments(resumed)
print("guess:    the same moments by name:", before)
print("seen:    ", after, "though the state names", state["param_groups"][0]["param_names"])
assert state["param_groups"][0]["param_names"] == ["first", "second"]
assert before == {"first": 0.1, "second": 0.5}
assert after == {"first": 0.5, "second": 0.1}
PY
