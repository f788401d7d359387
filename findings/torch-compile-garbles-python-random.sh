#!/usr/bin/env bash
# Guess: Python's random numbers are either frozen at the first call or drawn anew at each;
#   torch.compile handles the module explicitly and draws them anew.
# So: The numbers are drawn anew, but Inductor reads the lower half of the 64-bit float as a
#   32-bit one. Backends `eager` and `aot_eager` are right, `random.randint` and `random.gauss`
#   too, `random.uniform` is not; a branch on `random.random() < 0.5` always goes one way.
#   Reported as pytorch 198187; the script needs a C++ compiler.
# Hurt: Stochastic depth, layer drop, teacher forcing and random augmentation written with
#   Python's random module, once the model is compiled.
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
import logging
import random

import torch

logging.disable(logging.WARNING)


def scaled(values):
    return values * random.random()


def dropped(values):
    return values * 0 if random.random() < 0.5 else values


def calls(function, count):
    random.seed(0)
    return [function(torch.ones(1)).item() for _ in range(count)]


eager, compiled = calls(scaled, 3), calls(torch.compile(scaled), 3)
without_inductor = calls(torch.compile(scaled, backend="aot_eager"), 3)
print("guess:    three numbers between 0 and 1, those of Python's generator")
print("seen:     eager   ", eager)
print("seen:     compiled", compiled)
branches, compiled_branches = calls(dropped, 8), calls(torch.compile(dropped), 8)
print("seen:     kept or dropped: eager", branches, "compiled", compiled_branches)
assert all(0 < value < 1 for value in eager)
assert without_inductor == eager
random.seed(0)
lower_halves = [torch.tensor([random.random()], dtype=torch.float64).view(torch.float32)[0].item() for _ in range(3)]
assert compiled == lower_halves
assert len(set(branches)) == 2
assert len(set(compiled_branches)) == 1
PY
