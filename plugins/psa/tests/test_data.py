"""The split of the published study, and the embedded digits in the same form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from xfw.data.sources import Sources
from xfw_psa import data
from xfw_psa.config import Config

FOLDER = os.environ.get("XFW_DATA_DIR", "")
needs_mnist = pytest.mark.skipif(
    not (FOLDER and (Path(FOLDER) / "MNIST" / "raw").is_dir()), reason="MNIST is not in XFW_DATA_DIR"
)


def test_permutation_is_the_published_one() -> None:
    order = data.permutation(60_000)
    train, validation = order[:50_000], order[50_000:]
    assert train[:10].tolist() == [27415, 57082, 25212, 22657, 23939, 28148, 28313, 3041, 10690, 18767]
    assert validation[:10].tolist() == [18382, 16291, 8096, 15917, 13192, 50855, 55691, 2422, 52202, 21816]
    assert (train.sum().item(), validation.sum().item()) == (1_501_118_356, 298_851_644)


def test_permutation_does_not_depend_on_the_global_generator() -> None:
    torch.manual_seed(5)
    first = data.permutation(100)
    torch.manual_seed(6)
    assert torch.equal(first, data.permutation(100))


@needs_mnist
def test_class_counts_and_zero_rule_of_every_split() -> None:
    sets = data.load(Config(data="mnist"), Sources(FOLDER))
    counts = {name: torch.bincount(each.tensors[1]).tolist() for name, each in sets.items()}
    assert counts == {
        "train": [4950, 5640, 4946, 5121, 4858, 4556, 4909, 5173, 4870, 4977],
        "validation": [973, 1102, 1012, 1010, 984, 865, 1009, 1092, 981, 972],
        "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    }
    assert sets["train"].tensors[1][:10].tolist() == [6, 4, 9, 0, 3, 5, 9, 1, 4, 4]
    assert sets["validation"].tensors[1][:10].tolist() == [9, 3, 0, 2, 7, 1, 9, 6, 0, 7]


@needs_mnist
def test_pixels_are_stored_as_bytes_and_standardised_in_float32() -> None:
    train = data.load(Config(data="mnist"), Sources(FOLDER))["train"]
    assert train.tensors[0].dtype == torch.uint8
    assert train.prepare is not None
    images, _ = train.prepare(*(each[:1000] for each in train.tensors))
    assert images.dtype == torch.float32
    assert (images.min().item(), images.max().item()) == pytest.approx((-0.42421, 2.82149), abs=1e-5)


def test_embedded_digits_are_split_with_the_same_seed() -> None:
    sets = data.load(Config(data="digits"), Sources())
    sizes = {name: len(each) for name, each in sets.items()}
    assert sizes == {"train": 1197, "validation": 300, "test": 300}
    labels = torch.from_numpy(load_digits().target)
    assert torch.equal(sets["validation"].tensors[1], labels[data.permutation(1797)[1197:1497]])


def test_declared_sizes_are_those_of_the_data() -> None:
    sets = data.load(Config(data="digits"), Sources())
    declared = data.SIZES["digits"]
    assert (len(sets["train"]), len(sets["validation"]), len(sets["test"])) == (
        declared.train,
        declared.validation,
        declared.test,
    )
