#!/usr/bin/env bash
# Guess: A validation loader with shuffle=False and num_workers=0 has no randomness, so an
#   evaluation between two epochs does not change the training.
# So: Each iterator draws a base seed for workers that it may not have. After one pass over the
#   validation set every dropout mask and every shuffled order is another; evaluating every epoch
#   and every second epoch are different experiments. A generator of the loader's own prevents it.
# Hurt: Everybody who compares seeds between runs that evaluate at different times, or adds a test
#   set to an old script.
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
from torch.utils.data import DataLoader, TensorDataset

data = TensorDataset(torch.arange(10.0))


def mask_after(loader):
    torch.manual_seed(0)
    if loader is not None:
        list(loader)
    return torch.nn.functional.dropout(torch.ones(8), 0.5).tolist()


without = mask_after(None)
after_pass = mask_after(DataLoader(data, batch_size=5, shuffle=False, num_workers=0))
own_generator = mask_after(DataLoader(data, batch_size=5, shuffle=False, generator=torch.Generator()))
print("guess:    a pass over an unshuffled loader leaves the next dropout mask alone")
print("seen:     without a pass", without)
print("seen:     after a pass  ", after_pass)
print("seen:     own generator ", own_generator)
assert after_pass != without
assert own_generator == without
PY
