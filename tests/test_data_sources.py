"""Where data sets are found, and what is said when they are not."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from xfw.data import mnist, sources
from xfw.data.sources import DATA_SETS, Sources, check_data_dir
from xfw.errors import UserError, WrongInput

SHARED = Path(os.environ.get("XFW_DATA_DIR", "/nowhere"))
needs_mnist = pytest.mark.skipif(not (SHARED / "MNIST" / "raw").is_dir(), reason="MNIST is not in XFW_DATA_DIR")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without data sets; no download leaves this machine."""

    def refuse(folder: Path) -> None:
        raise UserError("cannot download mnist: no network", exit_code=2)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    offline = attrs.evolve(DATA_SETS["mnist"], fetch=refuse)
    monkeypatch.setattr(sources, "DATA_SETS", {**DATA_SETS, "mnist": offline})
    return tmp_path


def idx(array: np.ndarray) -> bytes:
    header = b"\x00\x00\x08" + bytes([array.ndim])
    return header + np.asarray(array.shape, dtype=">u4").tobytes() + array.astype(np.uint8).tobytes()


def fake_mnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Write four small IDX files and make their checksums the expected ones."""
    import hashlib

    arrays = [
        np.arange(3 * 28 * 28).reshape(3, 28, 28) % 256,
        np.array([5, 0, 4]),
        np.zeros((2, 28, 28)),
        np.array([7, 2]),
    ]
    files = []
    for file, array in zip(mnist.FILES, arrays, strict=True):
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(idx(array))
        files.append(attrs.evolve(file, bytes=path.stat().st_size, md5=hashlib.md5(path.read_bytes()).hexdigest()))
    monkeypatch.setattr(mnist, "FILES", tuple(files))
    monkeypatch.setattr(
        sources,
        "DATA_SETS",
        {**sources.DATA_SETS, "mnist": attrs.evolve(sources.DATA_SETS["mnist"], files=tuple(files))},
    )
    return arrays


def test_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(WrongInput, match="did you mean 'mnist'"):
        Sources().load("mnits")


def test_data_dir_that_does_not_exist_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="no directory") as raised:
        Sources(str(tmp_path / "nothing"))
    assert raised.value.exit_code == 2


def test_data_dir_that_is_a_file_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WrongInput, match="not a directory"):
        check_data_dir(str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every directory")
def test_data_dir_without_rights_is_an_error_at_once(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    with pytest.raises(WrongInput, match="no permission"):
        check_data_dir(str(locked))


def test_a_folder_that_is_named_is_the_only_one_searched(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFW_DATA_DIR", str(empty))
    assert Sources().folders() == [empty, empty / "cache" / "xfw" / "data"]
    fake_mnist(empty, monkeypatch)
    (empty / "named").mkdir()
    with pytest.raises(WrongInput, match=f"searched: {empty / 'named'}$".replace("$", "\n")):
        Sources(str(empty / "named")).load("mnist")


def test_a_folder_in_the_environment_that_does_not_exist_is_an_error(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFW_DATA_DIR", str(empty / "gone"))
    with pytest.raises(WrongInput, match="XFW_DATA_DIR: no directory"):
        Sources().load("mnist")


@pytest.mark.parametrize("below", ["MNIST/raw", "mnist/raw", "MNIST", "mnist", "."])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_files_are_taken_under_every_name_they_go_by(
    empty: Path, monkeypatch: pytest.MonkeyPatch, below: str, dotted: bool, packed: bool
) -> None:
    arrays = fake_mnist(empty / "original", monkeypatch)
    for file in mnist.FILES:
        content = (empty / "original" / file.path).read_bytes()
        name = Path(file.path).name.replace("-idx", ".idx" if dotted else "-idx") + (".gz" if packed else "")
        (empty / "mine" / below).mkdir(parents=True, exist_ok=True)
        (empty / "mine" / below / name).write_bytes(gzip.compress(content) if packed else content)
    assert np.array_equal(Sources(str(empty / "mine")).load("mnist").train_images.numpy(), arrays[0])


def test_a_good_file_is_taken_where_the_usual_one_is_damaged(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mnist(empty, monkeypatch)
    usual = empty / mnist.FILES[1].path
    (usual.parent / f"{usual.name}.gz").write_bytes(gzip.compress(usual.read_bytes()))
    usual.write_bytes(b"damaged")
    assert Sources(str(empty)).load("mnist").train_labels.tolist() == [5, 0, 4]


@pytest.mark.parametrize("content", [b"not packed", gzip.compress(bytes(1000))[:-9], gzip.compress(bytes(10**6))])
def test_a_packed_file_that_is_damaged_is_named(empty: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    fake_mnist(empty, monkeypatch)
    usual = empty / mnist.FILES[0].path
    usual.unlink()
    usual.with_name(f"{usual.name}.gz").write_bytes(content)
    with pytest.raises(WrongInput, match=r"train-images-idx3-ubyte\.gz'"):
        Sources(str(empty)).load("mnist")


def test_what_lies_in_the_folder_instead_is_named(empty: Path) -> None:
    (empty / "mnist_train.csv").touch()
    with pytest.raises(WrongInput, match=r"found there: mnist_train\.csv"):
        Sources(str(empty)).load("mnist")


def test_a_plan_that_is_only_shown_downloads_nothing(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[Path] = []
    online = attrs.evolve(DATA_SETS["mnist"], fetch=fetched.append)
    monkeypatch.setattr(sources, "DATA_SETS", {"mnist": online})
    with pytest.raises(WrongInput, match="--data-dir or XFW_DATA_DIR"):
        Sources(download=False).load("mnist")
    assert fetched == []
    assert not (empty / "cache").exists()


def test_missing_set_names_files_folders_and_the_embedded_one(empty: Path) -> None:
    with pytest.raises(WrongInput) as raised:
        Sources().load("mnist")
    said = str(raised.value)
    assert raised.value.exit_code == 2
    assert "MNIST/raw/t10k-labels-idx1-ubyte" in said
    assert str(empty / "cache") in said
    assert "data=digits" in said
    assert "no network" in said


def test_nothing_is_downloaded_where_a_data_dir_is_given(empty: Path) -> None:
    with pytest.raises(WrongInput, match="nothing is downloaded where --data-dir is given"):
        Sources(str(empty)).load("mnist")


def test_missing_set_is_downloaded_to_the_cache(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = fake_mnist(empty / "elsewhere", monkeypatch)

    def fetch(folder: Path) -> None:
        folder.parent.mkdir(parents=True)
        (empty / "elsewhere").rename(folder)

    monkeypatch.setattr(sources, "DATA_SETS", {"mnist": attrs.evolve(sources.DATA_SETS["mnist"], fetch=fetch)})
    images = Sources().load("mnist")
    assert np.array_equal(images.train_images.numpy(), arrays[0])
    assert Sources().find("mnist") == empty / "cache" / "xfw" / "data"


def test_raw_files_are_read_as_stored(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = fake_mnist(empty, monkeypatch)
    images = Sources(str(empty)).load("mnist")
    assert images.train_images.dtype == torch.uint8
    assert images.train_labels.dtype == torch.int64
    assert np.array_equal(images.train_images.numpy(), arrays[0])
    assert images.test_labels.tolist() == [7, 2]


def test_damaged_file_is_named_with_both_checksums(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mnist(empty, monkeypatch)
    damaged = empty / mnist.FILES[1].path
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x09")
    with pytest.raises(WrongInput) as raised:
        Sources(str(empty)).load("mnist")
    assert raised.value.exit_code == 2
    assert str(damaged) in str(raised.value)
    assert f"expected {mnist.FILES[1].md5}" in str(raised.value)
    assert "found MD5" in str(raised.value)


def test_file_that_cannot_be_read_is_named(empty: Path) -> None:
    directory = empty / mnist.FILES[0].path
    directory.mkdir(parents=True)
    with pytest.raises(WrongInput, match="train-images-idx3-ubyte"):
        mnist.FILES[0].read(empty)


@needs_mnist
def test_class_counts_of_the_original_files() -> None:
    images = Sources(str(SHARED)).load("mnist")
    assert torch.bincount(images.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(images.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert tuple(images.train_images.shape) == (60_000, 28, 28)


@needs_mnist
def test_raw_files_give_what_torchvision_reads() -> None:
    from torchvision import datasets

    theirs = datasets.MNIST(SHARED, train=False)
    ours = Sources(str(SHARED)).load("mnist")
    assert torch.equal(ours.test_images, theirs.data)
    assert torch.equal(ours.test_labels, theirs.targets)


@pytest.mark.parametrize("each", DATA_SETS.values(), ids=str)
def test_every_set_states_licence_and_origin(each: object) -> None:
    described = each.describe()  # type: ignore[attr-defined]
    assert described["licence"]
    assert described["origin"]
