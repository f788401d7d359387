#!/usr/bin/env bash
# Guess: Without a GPU's atomics the same call in the same process gives the same bits, whatever
#   the number of threads.
# So: The gradient adds the rows of repeated indices from several threads into one tensor, in
#   whatever order the threads come. `torch.use_deterministic_algorithms(True)` or one thread
#   cures it.
# Hurt: Reproducible training on CPUs and golden-file tests with lookups by plain indexing.
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

torch.set_num_threads(2)
torch.manual_seed(0)
table, index, weight = torch.randn(50, 16), torch.randint(0, 50, (200_000,)), torch.randn(200_000, 16)


def gradients(look_up, repeats=30):
    for _ in range(repeats):
        leaf = table.clone().requires_grad_()
        (look_up(leaf) * weight).sum().backward()
        yield leaf.grad


def largest_difference(look_up):
    first, *others = gradients(look_up)
    return max(float((first - other).abs().max()) for other in others)


by_index = largest_difference(lambda leaf: leaf[index])
by_embedding = largest_difference(lambda leaf: F.embedding(index, leaf))
by_select = largest_difference(lambda leaf: leaf.index_select(0, index))
torch.use_deterministic_algorithms(True)
when_asked = largest_difference(lambda leaf: leaf[index])
print("guess:    30 repeats on a CPU agree bit for bit")
print("seen:     largest difference: x[index]", by_index, "embedding", by_embedding, "index_select", by_select, "x[index], deterministic", when_asked)
assert by_index > 0
assert by_embedding == by_select == when_asked == 0
PY
