#!/usr/bin/env bash
# Guess: Reading a dataset whose data cannot be found is an error.
# So: The standard lets a virtual dataset have gaps, so a source that is missing is a gap and
#   reads as the fill value, 0 unless set. Shape and type still look right. A fill value of NaN
#   for floats at least shows it.
# Hurt: Result files that join the files of single runs: after the folder is moved or one run is
#   deleted, means are taken over zeros.
# Seen with: h5py 3.16.0, numpy 2.4.6 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(h5py==3.16.0 numpy==2.4.6)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import os

import h5py
import numpy as np

with h5py.File("trial.h5", "w") as file:
    file["accuracy"] = np.array([91.0, 92.0, 93.0])
layout = h5py.VirtualLayout((3,), "f8")
layout[:] = h5py.VirtualSource("trial.h5", "accuracy", (3,))
with h5py.File("joined.h5", "w") as file:
    file.create_virtual_dataset("accuracy", layout)
    file["linked"] = h5py.ExternalLink("trial.h5", "accuracy")


def read(name):
    with h5py.File("joined.h5") as file:
        try:
            return file[name][...].tolist()
        except (KeyError, OSError) as error:
            return type(error).__name__


before = read("accuracy"), read("linked")
os.rename("trial.h5", "moved.h5")
after = read("accuracy"), read("linked")
print("guess:    both raise once the source is gone")
print("seen:     before", before, "; after: virtual", after[0], "external link", after[1])
assert before == ([91.0, 92.0, 93.0],) * 2
assert after[0] == [0.0, 0.0, 0.0]
assert isinstance(after[1], str)
PY
