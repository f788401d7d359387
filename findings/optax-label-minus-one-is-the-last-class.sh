#!/usr/bin/env bash
# Guess: A label outside the classes raises, is ignored, or contributes nothing, as `one_hot` with
#   the older loss does.
# So: The label is an index into the scores: -1 wraps round to the last class, anything further
#   out reads as NaN. torch ignores -100 by default and raises for -1.
# Hurt: Sequence models and segmentation with padded labels, ported from torch: padding trains the
#   last class, or the loss is NaN from the first batch on.
# Seen with: jax 0.10.2, numpy 2.4.6, optax 0.2.8 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(jax==0.10.2 numpy==2.4.6 optax==0.2.8)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
import optax

scores = jnp.array([[0.0, 1.0, 5.0]])


def loss(label):
    return float(optax.softmax_cross_entropy_with_integer_labels(scores, jnp.array([label]))[0])


by_one_hot = float(optax.softmax_cross_entropy(scores, jax.nn.one_hot(jnp.array([-1]), 3))[0])
print("guess:    an error, or a loss of 0 for labels -1 and -100, as by one_hot:", by_one_hot)
print("seen:     label -1:", loss(-1), "label 2:", loss(2), "label -100:", loss(-100), "label 3:", loss(3))
assert by_one_hot == 0
assert loss(-1) == loss(2)
assert np.isnan(loss(-100))
assert np.isnan(loss(3))
PY
