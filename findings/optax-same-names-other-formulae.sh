#!/usr/bin/env bash
# Guess: Two libraries that cite the same paper differ at most in the defaults and the place of
#   epsilon.
# So: amsgrad: optax takes the maximum of the corrected second moments, torch of the uncorrected.
#   nadam: torch has a schedule of the momentum (momentum_decay), optax none. rprop: the first
#   step and the step after a change of sign differ.
# Hurt: Ports between torch and JAX that were checked on Adam and SGD and then switch to another
#   optimizer.
# Seen with: jax 0.10.2, numpy 2.4.6, optax 0.2.8, torch 2.14.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(jax==0.10.2 numpy==2.4.6 optax==0.2.8 torch==2.14.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import jax
import numpy as np
import optax
import torch

jax.config.update("jax_enable_x64", True)
generator = np.random.default_rng(0)
gradients = generator.normal(size=(20, 2)) * np.linspace(3, 0.1, 20)[:, None]


def with_torch(build):
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = build([parameter])
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    return parameter.detach().numpy()


def with_optax(optimizer):
    parameter = jax.numpy.ones(2)
    state = optimizer.init(parameter)
    for gradient in gradients:
        update, state = optimizer.update(jax.numpy.asarray(gradient), state, parameter)
        parameter = optax.apply_updates(parameter, update)
    return np.asarray(parameter)


t = torch.optim
pairs = {
    "sgd": (lambda p: t.SGD(p, 0.1, momentum=0.9, nesterov=True), optax.sgd(0.1, 0.9, nesterov=True)),
    "adam": (lambda p: t.Adam(p, 0.1), optax.adam(0.1)),
    "adamw": (lambda p: t.AdamW(p, 0.1, weight_decay=0.1), optax.adamw(0.1, weight_decay=0.1)),
    "radam": (lambda p: t.RAdam(p, 0.1), optax.radam(0.1)),
    "adamax": (lambda p: t.Adamax(p, 0.1), optax.adamax(0.1)),
    "adadelta": (lambda p: t.Adadelta(p, 0.1), optax.adadelta(0.1)),
    "adagrad": (lambda p: t.Adagrad(p, 0.1), optax.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-10)),
    "rmsprop": (lambda p: t.RMSprop(p, 0.1), optax.rmsprop(0.1, decay=0.99, eps=1e-8, eps_in_sqrt=False)),
    "amsgrad": (lambda p: t.Adam(p, 0.1, amsgrad=True), optax.amsgrad(0.1)),
    "nadam": (lambda p: t.NAdam(p, 0.1), optax.nadam(0.1)),
    "rprop": (lambda p: t.Rprop(p, 0.1), optax.rprop(0.1)),
}
differences = {name: float(abs(with_torch(ours) - with_optax(theirs)).max()) for name, (ours, theirs) in pairs.items()}
print("guess:    differences below 1e-6 for all eleven")
print("seen:    ", {name: float(f"{difference:.1e}") for name, difference in differences.items()})
others = ("amsgrad", "nadam", "rprop")
assert all(differences[name] > 0.05 for name in others)
assert all(difference < 2e-9 for name, difference in differences.items() if name not in others)
PY
