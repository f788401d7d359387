"""The keyed draws: distributions, independence, and the same bits alone, stacked and under vmap."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from xfw.engine.rng import Rng, key_words, keyed_order

ZERO = torch.zeros((), dtype=torch.int64)
KEYS = [11, 12, 2**63 + 5, 2**64 - 1]
SIGNIFICANCE = 1e-4
"""Chance of a false alarm of each test; the draws are fixed, so a passing test stays passing."""


def block(epoch: int = 1, step: int = 2) -> Rng:
    return Rng(key_words(KEYS, "cpu"), ZERO + epoch, ZERO + step)


def test_a_trial_alone_draws_what_it_draws_in_a_block() -> None:
    together = block().bits("noise", (7, 5))
    for lane in range(len(KEYS)):
        alone = Rng(key_words(KEYS, "cpu")[lane], ZERO + 1, ZERO + 2).bits("noise", (7, 5))
        assert torch.equal(together[lane], alone)


def test_vmap_draws_the_same_bits() -> None:
    batched = torch.func.vmap(lambda words: Rng(words, ZERO + 1, ZERO + 2).uniform("noise", (9,)))
    assert torch.equal(batched(key_words(KEYS, "cpu")), block().uniform("noise", (9,)))


def test_uniform_numbers_are_uniform() -> None:
    numbers = block().uniform("noise", (200_000,))
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    for lane in numbers:
        assert stats.kstest(lane.numpy(), "uniform").pvalue > SIGNIFICANCE


def test_normal_numbers_are_normal() -> None:
    numbers = block().normal("noise", (200_000,))
    for lane in numbers:
        assert stats.kstest(lane.numpy(), "norm").pvalue > SIGNIFICANCE


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_is_fair(bit: int) -> None:
    ones = int(((block().bits("noise", (100_000,)) >> bit) & 1).sum())
    assert stats.binomtest(ones, 400_000).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("lag", [1, 2, 3, 16, 18, 256])
def test_neighbouring_elements_are_uncorrelated(lag: int) -> None:
    numbers = block().uniform("noise", (200_000,))[0].numpy()
    assert stats.pearsonr(numbers[:-lag], numbers[lag:]).pvalue > SIGNIFICANCE


@pytest.mark.parametrize(
    "other",
    [
        block(epoch=2).uniform("noise", (200_000,))[0],
        block(step=3).uniform("noise", (200_000,))[0],
        block().uniform("other", (200_000,))[0],
        block().uniform("noise", (200_000,))[1],
    ],
    ids=["epoch", "step", "purpose", "trial"],
)
def test_streams_are_uncorrelated(other: torch.Tensor) -> None:
    numbers = block().uniform("noise", (200_000,))[0]
    assert stats.pearsonr(numbers.numpy(), other.numpy()).pvalue > SIGNIFICANCE


def test_bernoulli_has_its_probability() -> None:
    hits = int(block().bernoulli("noise", 0.1, (100_000,)).sum())
    assert stats.binomtest(hits, 400_000, 0.1).pvalue > SIGNIFICANCE


def test_orders_are_permutations_that_differ_between_epochs_and_trials() -> None:
    words = key_words(KEYS, "cpu")
    first, second = keyed_order(words, 0, 1000), keyed_order(words, 1, 1000)
    assert torch.equal(first.sort(1).values, torch.arange(1000).repeat(len(KEYS), 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, keyed_order(words, 0, 1000))


def test_all_orders_of_three_are_equally_frequent() -> None:
    words = key_words(range(6000), "cpu")
    codes = (keyed_order(words, 0, 3) * torch.tensor([9, 3, 1])).sum(1)
    counts = codes.unique(return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts.numpy()).pvalue > SIGNIFICANCE
