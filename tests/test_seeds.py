"""Keys and draws are frozen: a change of these values is a change of every published result."""

from __future__ import annotations

import torch
from xfw import seeds
from xfw.engine.rng import Rng, key_words, keyed_order


def rng(key: int, epoch: int = 0, step: int = 0) -> Rng:
    zero = torch.zeros((), dtype=torch.int64)
    return Rng(key_words([key], "cpu")[0], zero + epoch, zero + step)


def test_trial_keys_are_frozen() -> None:
    assert seeds.trial_key(1, 0, {}) == GOLDEN["key"]
    assert seeds.trial_key(1, 0, {"arch": "[1*8]", "mode": "none"}) == GOLDEN["entered"]
    assert seeds.derive(seeds.trial_key(1, 0, {}), "init") == GOLDEN["init"]


def test_order_of_entered_keys_does_not_matter() -> None:
    assert seeds.trial_key(1, 0, {"a": "1", "b": "2"}) == seeds.trial_key(1, 0, {"b": "2", "a": "1"})


def test_host_draws_are_frozen() -> None:
    assert seeds.generator(7, "ablation", 3).integers(0, 1000, 4).tolist() == GOLDEN["host"]


def test_device_draws_are_frozen() -> None:
    assert rng(7, 2, 5).bits("dropout/a", (4,)).tolist() == GOLDEN["bits"]
    assert keyed_order(key_words([7, 8], "cpu"), 3, 6).tolist() == GOLDEN["order"]


def test_keys_of_trials_and_seeds_differ() -> None:
    keys = {seeds.trial_key(seed, trial, {}) for seed in range(50) for trial in range(50)}
    assert len(keys) == 2500


GOLDEN = {
    "key": 9218925311876552300,
    "entered": 6655797992230441928,
    "init": 711262580932236970,
    "host": [722, 645, 256, 228],
    "bits": [1843396699, 918604517, -121967809, 1430301064],
    "order": [[1, 2, 0, 3, 4, 5], [3, 1, 0, 2, 4, 5]],
}
