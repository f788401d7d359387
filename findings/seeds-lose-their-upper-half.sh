#!/usr/bin/env bash
# Guess: A seed has 64 bits, as the documented range, `initial_seed()` and the key's two words
#   suggest, so different seeds give different streams.
# So: torch starts a Mersenne Twister from the lower half only, and stores and reports the whole.
#   JAX without 64-bit mode cuts the seed to 32 bits in silence; its `fold_in` refuses such a
#   number instead. numpy takes all bits.
# Hurt: Seeds made of parts, such as run * 2**32 + trial, and 64-bit hashes cut at the wrong end:
#   all runs share one stream while every log shows different seeds.
# Seen with: jax 0.10.2, numpy 2.4.6, torch 2.14.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(jax==0.10.2 numpy==2.4.6 torch==2.14.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import jax
import numpy as np
import torch

RUN = 2**32


def torch_draws(seed):
    return torch.rand(2, generator=torch.Generator().manual_seed(seed)).tolist()


def jax_draws(seed):
    return jax.random.uniform(jax.random.key(seed), (2,)).tolist()


def numpy_draws(seed):
    return np.random.default_rng(seed).random(2).tolist()


print("guess:    seeds 1 and 2**32 + 1 give different numbers")
for draws in (torch_draws, jax_draws, numpy_draws):
    print("seen:    ", draws.__name__, *(round(draws(seed)[0], 6) for seed in (1, RUN + 1, 5 * RUN + 1, 2)))
for draws in (torch_draws, jax_draws):
    assert draws(1) == draws(RUN + 1) == draws(5 * RUN + 1)
    assert draws(1) != draws(2)
assert numpy_draws(1) != numpy_draws(RUN + 1)
assert torch.Generator().manual_seed(RUN + 1).initial_seed() == RUN + 1
try:
    jax.random.fold_in(jax.random.key(0), RUN + 1)
except OverflowError:
    print("seen:     jax.random.fold_in refuses 2**32 + 1")
else:
    raise SystemExit("fold_in takes 2**32 + 1: the behaviour has changed")
PY
