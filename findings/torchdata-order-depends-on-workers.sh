#!/usr/bin/env bash
# Guess: The drop-in replacement gives the order of the original, and the number of workers
#   changes the speed, not the data.
# So: The seed of the shuffle is drawn at another place, and another number of draws comes before
#   it: the first epoch without workers is an order that `DataLoader` never gives, the first with
#   two workers is the second epoch without. `DataLoader` gives one order for any number of
#   workers.
# Hurt: Runs that are resumed on a machine with another number of workers, and comparisons of runs
#   before and after the switch.
# Seen with: numpy 2.4.6, torch 2.14.1, torchdata 0.11.0 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6 torch==2.14.1 torchdata==0.11.0)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

data = TensorDataset(torch.arange(12))


def epochs(kind, workers):
    torch.manual_seed(0)
    loader = kind(data, batch_size=4, shuffle=True, num_workers=workers)
    return [torch.cat([batch for (batch,) in loader]).tolist() for _ in range(2)]


seen = {(kind.__name__, workers): epochs(kind, workers) for kind in (DataLoader, StatefulDataLoader) for workers in (0, 2)}
print("guess:    one order for both loaders and any number of workers")
for (name, workers), orders in seen.items():
    print("seen:    ", name, workers, "workers:", orders[0])
assert seen["DataLoader", 0] == seen["DataLoader", 2]
assert seen["StatefulDataLoader", 0][0] not in seen["DataLoader", 0]
assert seen["StatefulDataLoader", 2][0] == seen["StatefulDataLoader", 0][1]
PY
