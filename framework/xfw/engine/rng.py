"""Draw keyed random numbers on the device: values are a function of (key, epoch, step, purpose, element).

The hash is a 32-bit integer mixer in tensor operations, so that it gives the same bits on every device, under
``vmap``, in a captured graph and for any set of neighbours. Axes: T trial of the block (absent for a single trial).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import torch

__all__ = ["Rng", "key_words", "keyed_order", "purpose_keys", "purpose_words"]

# Multipliers of the "lowbias32" mixer (C. Wellons, Hash Function Prospector, 2018; public domain), as signed words.
_M1 = 0x7FEB352D
_M2 = 0x846CA68B - 2**32
_GOLDEN = 0x9E3779B9 - 2**32  # 2^32 / golden ratio: spreads consecutive element numbers


def _fold(x: torch.Tensor, shift: int) -> torch.Tensor:
    """Return x ^ (x >>> shift), the logical shift made of an arithmetic one and a mask."""
    return x ^ ((x >> shift) & ((1 << (32 - shift)) - 1))


def _mix(x: torch.Tensor) -> torch.Tensor:
    return _fold(_fold(_fold(x, 16) * _M1, 15) * _M2, 16)


def _hash(index: torch.Tensor, k0: torch.Tensor, k1: torch.Tensor) -> torch.Tensor:
    """Hash element numbers under a two-word key; all int32, wrapping."""
    x = _fold((index * _GOLDEN) ^ k0, 16) * _M1
    x = _fold(x ^ k1, 15) * _M2
    return _fold(x, 16)


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


def key_words(keys: Sequence[int], device: torch.device | str) -> torch.Tensor:
    """Return 64-bit keys as an int32 tensor ``[T, 2]``."""
    words = [[_signed(key >> 32), _signed(key & 0xFFFFFFFF)] for key in keys]
    return torch.tensor(words, dtype=torch.int32, device=device)


@lru_cache(maxsize=4096)
def purpose_words(purpose: str) -> tuple[int, int]:
    """Return the two words of a purpose, signed."""
    digest = hashlib.blake2b(purpose.encode(), digest_size=8).digest()
    return _signed(int.from_bytes(digest[:4], "big")), _signed(int.from_bytes(digest[4:], "big"))


class Rng:
    """The keyed draws of one trial at one step (or, inside the engine, of all trials of a block at once).

    Two draws of equal purpose and shape in one step are equal: give each its own ``purpose``.
    """

    def __init__(self, words: torch.Tensor, epoch: torch.Tensor, step: torch.Tensor) -> None:
        """Take key words ``[..., 2]`` and the counters as 0-d (or ``[T]``) integer tensors."""
        self._words, self._epoch, self._step = words, epoch, step
        self._keys: tuple[torch.Tensor, torch.Tensor] | None = None

    def _step_keys(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._keys is None:
            w0, w1 = self._words[..., 0], self._words[..., 1]
            epoch, step = self._epoch.to(torch.int32), self._step.to(torch.int32)
            k0 = _mix(_mix(w0 + epoch * _GOLDEN) ^ (step * _M1 + 1))
            k1 = _mix(_mix(w1 ^ _mix(epoch * _M1 + 2)) + step * _GOLDEN)
            self._keys = (k0, k1)
        return self._keys

    def bits(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Return uniform 32-bit words (int32) of the given shape."""
        k0, k1 = self._step_keys()
        p0, p1 = purpose_words(purpose)
        k0, k1 = _mix(k0 ^ p0), _mix(k1 + p1)
        ones = (1,) * len(shape)
        index = torch.arange(math.prod(shape), dtype=torch.int32, device=k0.device).view(*shape)
        return _hash(index, k0.reshape(*k0.shape, *ones), k1.reshape(*k1.shape, *ones))

    def words24(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Return uniform integers in [0, 2^24) (int32): the 24 bits that a float32 holds exactly."""
        return (self.bits(purpose, shape) >> 8) & 0xFFFFFF

    def uniform(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Return float32 numbers in [0, 1), multiples of 2^-24."""
        return self.words24(purpose, shape).to(torch.float32) * 2.0**-24

    def bernoulli(self, purpose: str, probability: torch.Tensor | float, shape: Sequence[int]) -> torch.Tensor:
        """Return booleans that are true with the given probability."""
        return self.uniform(purpose, shape) < probability

    def normal(self, purpose: str, shape: Sequence[int]) -> torch.Tensor:
        """Return float32 standard normal numbers (Box-Muller)."""
        radius = torch.sqrt(-2.0 * torch.log(1.0 - self.uniform(f"{purpose}/radius", shape)))
        return radius * torch.cos(2.0 * math.pi * self.uniform(f"{purpose}/angle", shape))

    def permutation(self, purpose: str, count: int) -> torch.Tensor:
        """Return a uniform permutation of 0 … count-1 (int64)."""
        return _argsort(self.bits(purpose, (count,)))


def purpose_keys(rng: Rng, purpose: str) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """Return the key words of a step, and the words of a purpose that ``Rng.bits`` mixes with them."""
    return (*rng._step_keys(), *purpose_words(purpose))


def _argsort(bits: torch.Tensor) -> torch.Tensor:
    """Return the order that sorts 32-bit words along the last axis, ties by position."""
    count = bits.shape[-1]
    place = torch.arange(count, dtype=torch.int64, device=bits.device)
    composite = (bits.to(torch.int64) << 32) | place
    return torch.sort(composite, dim=-1).values & 0xFFFFFFFF


def keyed_order(words_T2: torch.Tensor, epoch: int, count: int) -> torch.Tensor:
    """Return one permutation of 0 … count-1 per trial, ``[T, count]`` int64, for an epoch."""
    zero = torch.zeros((), dtype=torch.int32, device=words_T2.device)
    bits_TN = Rng(words_T2, zero + epoch, zero).bits("order", (count,))
    if bits_TN.device.type == "cpu":
        # Row by row: torch's one-dimensional CPU sort is four times as fast as its batched one.
        return torch.stack([_argsort(bits_N) for bits_N in bits_TN])
    return _argsort(bits_TN)
