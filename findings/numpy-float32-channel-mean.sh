#!/usr/bin/env bash
# Guess: numpy sums float32 pairwise, so the mean over images, rows and columns of a channels-last
#   float32 array is right to about seven digits.
# So: Pairwise summation works only along the fastest axis. Where the axis that stays is the last
#   one, numpy adds row after row into one float32 cell per channel: sums stop growing at 2**24
#   and the squares of small deviations fall off. 20,000 constant images of value 0.9 have a
#   channel mean of 0.8192; uniform noise has a standard deviation that is 1 % too small. The mean
#   over everything, and torch's mean over the same axes, are right.
# Hurt: Everybody who computes the mean and standard deviation for normalisation from a
#   channels-last float32 array.
# Seen with: numpy 2.4.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(numpy==2.4.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import numpy as np

images = np.full((20_000, 32, 32, 3), 0.9, np.float32)
channel_means, whole_mean = images.mean((0, 1, 2)), images.mean()
print("guess:    a channel mean of 0.9 for constant images of 0.9")
print("seen:    ", channel_means, "per channel, but", whole_mean, "over everything")
assert np.allclose(channel_means, 0.8192, atol=1e-4)
assert abs(whole_mean - 0.9) < 1e-5

noise = np.random.default_rng(0).random(images.shape, np.float32)
in_float32, in_float64 = noise.std((0, 1, 2)), noise.std((0, 1, 2), dtype=np.float64)
print("guess:    a standard deviation of 1/sqrt(12) = 0.28867 for uniform noise")
print("seen:    ", in_float32, "and with dtype=float64", in_float64)
assert np.all(abs(in_float64 - 12**-0.5) < 1e-4)
assert np.all(in_float32 < 0.99 * in_float64)
PY
