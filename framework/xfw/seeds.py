"""Derive random keys: every random number is a function of a key and a counter, never of a generator's state.

The hash and the draws are frozen: ``tests/test_seeds.py`` holds golden values.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["derive", "draw_seed", "generator", "trial_key"]


def _hash64(value: object) -> int:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def trial_key(seed: int, trial: int, entered: Mapping[str, str]) -> int:
    """Return the 64-bit key of a trial; ``entered`` holds the configuration values that unpair conditions."""
    return _hash64(["xfw-trial", seed, trial, sorted(entered.items())])


def derive(key: int, purpose: str) -> int:
    """Return the 64-bit key of one purpose (``init``, ``order``, ``noise``, …) of a trial."""
    return _hash64(["xfw-purpose", key, purpose])


def generator(key: int, purpose: str, counter: int) -> np.random.Generator:
    """Return a fresh host generator whose draws depend on (key, purpose, counter) alone."""
    import numpy as np

    # Philox takes a 128-bit key: the purpose's key in the upper word, the counter in the lower.
    return np.random.Generator(np.random.Philox(key=(derive(key, purpose) << 64) | counter))


def draw_seed() -> int:
    """Return a run seed from the operating system, small enough to be typed again."""
    return secrets.randbelow(2**32)
