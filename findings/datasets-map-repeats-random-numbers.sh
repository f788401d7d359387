#!/usr/bin/env bash
# Guess: A function that draws random numbers is called again, so each seed gives its own
#   augmentation.
# So: The result is cached under a fingerprint of the function and the data; the state of numpy's
#   or Python's generator is no part of it. Data sets made in memory have no cache, so a test with
#   `from_dict` shows nothing.
# Hurt: Seeds compared on augmented or noised data, and label noise drawn inside `map`: all trials
#   train on one draw.
# Seen with: datasets 5.2.0, numpy 2.4.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(datasets==5.2.0 numpy==2.4.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import datasets
import numpy as np

datasets.disable_progress_bars()


def with_noise(row):
    return {"noisy": row["x"] + np.random.random()}


def noise_of(data, seed):
    np.random.seed(seed)
    return data.map(with_noise)["noisy"][:]


in_memory = datasets.Dataset.from_dict({"x": [0.0, 0.0, 0.0]})
in_memory.save_to_disk("data")
on_disk = datasets.load_from_disk("data")
fresh, cached = [noise_of(in_memory, seed) for seed in (1, 2)], [noise_of(on_disk, seed) for seed in (1, 2)]
print("guess:    seeds 1 and 2 give different noise")
print("seen:     in memory", *(round(noise[0], 4) for noise in fresh), "; on disk", *(round(noise[0], 4) for noise in cached))
assert fresh[0] != fresh[1]
assert cached[0] == cached[1] == fresh[0]
assert noise_of(datasets.load_from_disk("data"), 3) == cached[0]
PY
