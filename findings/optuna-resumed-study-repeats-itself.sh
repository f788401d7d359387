#!/usr/bin/env bash
# Guess: `load_if_exists=True` with the same storage goes on where the study stopped, also for a
#   sampler with a seed.
# So: The sampler's generator is not stored and starts anew from the seed. Random search repeats
#   every point; TPE repeats its first random points. Only the quasi-Monte-Carlo sampler counts
#   the trials in the storage.
# Hurt: Searches on preemptible machines or in chunks of a job limit: the second half of the
#   budget buys nothing.
# Seen with: optuna 5.0.0, scipy 1.17.1 on a CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
packages=(optuna==5.0.0 scipy==1.17.1)
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check "${packages[@]}"
echo "versions: ${packages[*]}"
env/bin/python - <<'PY'
import warnings

import optuna
from optuna.samplers import QMCSampler, RandomSampler, TPESampler

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.simplefilter("ignore")
repeats = {}
for kind in (RandomSampler, TPESampler, QMCSampler):
    for _ in range(2):
        study = optuna.create_study(study_name=kind.__name__, storage="sqlite:///studies.db", load_if_exists=True, sampler=kind(seed=1))
        study.optimize(lambda trial: trial.suggest_float("rate", 0, 1), n_trials=5)
    rates = [trial.params["rate"] for trial in study.trials]
    repeats[kind.__name__] = sum(first == second for first, second in zip(rates[:5], rates[5:]))
print("guess:    0 of 5 trials are repeated after the resume")
print("seen:    ", repeats)
assert repeats == {"RandomSampler": 5, "TPESampler": 5, "QMCSampler": 0}
PY
