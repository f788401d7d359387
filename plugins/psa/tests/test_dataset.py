"""The description of the data: class counts and majority classes of every split (specification, 3.2 and 5.4)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from xfw import WrongInput
from xfw.analysis.output import Output
from xfw_psa.analysis import dataset
from xfw_psa.analysis.dataset import PUBLISHED_Z

DATA_DIR = Path(os.environ.get("XFW_DATA_DIR", ""))
needs_mnist = pytest.mark.skipif(not (DATA_DIR / "MNIST" / "raw").is_dir(), reason="MNIST is not in XFW_DATA_DIR")

COUNTS = {
    "full training": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    "split training": (4950, 5640, 4946, 5121, 4858, 4556, 4909, 5173, 4870, 4977),
    "split validation": (973, 1102, 1012, 1010, 984, 865, 1009, 1092, 981, 972),
}
ZERO_R = {"full training": 11.2367, "test": 11.35, "split training": 11.28, "split validation": 11.02}


@needs_mnist
def test_published_counts_and_majority_classes() -> None:
    splits = {split.name: split for split in dataset.describe("mnist", str(DATA_DIR))}
    assert {name: split.counts for name, split in splits.items()} == COUNTS
    for name, split in splits.items():
        assert split.zero_r_class == 1
        assert split.zero_r_accuracy == pytest.approx(ZERO_R[name], abs=5e-5)
        assert sum(split.percentages) == pytest.approx(100, abs=1e-9)


def test_digits_are_split_as_they_are_trained_on() -> None:
    whole, test, train, validation = dataset.describe("digits")
    assert (whole.total, test.total, train.total, validation.total) == (1797, 300, 1197, 300)
    summed = torch.tensor(test.counts) + torch.tensor(train.counts) + torch.tensor(validation.counts)
    assert tuple(summed.tolist()) == whole.counts


@needs_mnist
def test_z_comes_from_the_labels() -> None:
    assert dataset.zero_r(str(DATA_DIR)) == 11.02


def test_z_without_the_labels_is_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert dataset.zero_r() == PUBLISHED_Z


@needs_mnist
def test_damaged_labels_are_named(tmp_path: Path) -> None:
    shutil.copytree(DATA_DIR / "MNIST", tmp_path / "MNIST")
    labels = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.chmod(0o644)
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x05")
    with pytest.raises(WrongInput, match=r"train-labels-idx1-ubyte' is damaged: found MD5 \w{32}, expected d53e|MD5"):
        dataset.describe("mnist", str(tmp_path))
    with pytest.raises(WrongInput, match="is damaged"):
        dataset.zero_r(str(tmp_path))


def test_missing_files_are_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(WrongInput) as caught:
        dataset.describe("mnist", str(tmp_path))
    said = str(caught.value)
    assert "MNIST/raw/train-images-idx3-ubyte" in said
    assert str(tmp_path) in said
    assert "data=digits" in said
    assert caught.value.exit_code == 2


def test_a_data_directory_that_does_not_exist_is_refused() -> None:
    with pytest.raises(WrongInput, match="no directory '/no/such/folder'"):
        dataset.describe("mnist", "/no/such/folder")


def test_tables_mark_the_majority_class(tmp_path: Path) -> None:
    output = Output(tmp_path)
    dataset.analyse(None, dataset.Options(data="digits"), output)
    rows = output.tables["dataset-split-validation"]
    assert [row["class"] for row in rows if row["majority"]] == ["0"]
    assert rows[-1] == {"class": "total", "count": 300, "percentage": 100.0, "majority": ""}
    assert output.tables["dataset"][0] == {
        "dataset": "whole set",
        "samples": 1797,
        "zeror_class": 3,
        "zeror_accuracy": pytest.approx(100 * 183 / 1797),
    }
