#!/usr/bin/env bash
# Guess: A generator whose `bit_generator.state` was saved and restored goes on exactly as the
#   original would, `spawn` included.
# So: The count of spawned children lives in the seed sequence, which is no part of the state.
#   After a resume the next child is child 0 again, whose stream was used up before the
#   interruption; the draws of the parent itself are right, so a test of the draws does not
#   notice.
# Hurt: Resumed experiments that give each worker, epoch or trial a spawned generator: they use
#   the first epoch's randomness a second time.
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

original = np.random.default_rng(1)
first_children = [child.random() for child in original.spawn(2)]
original.random(5)
saved = original.bit_generator.state

resumed = np.random.default_rng(1)
resumed.bit_generator.state = saved
next_of_original, next_of_resumed = original.spawn(1)[0].random(), resumed.spawn(1)[0].random()
print("guess:    both generators spawn the same next child")
print("seen:    ", next_of_original, "originally,", next_of_resumed, "after the restore; first child:", first_children[0])
assert original.random() == resumed.random()
assert next_of_resumed == first_children[0] != next_of_original
PY
