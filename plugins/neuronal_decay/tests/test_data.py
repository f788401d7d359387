"""Rotations, task data, batches and test subsets (acceptance tests D1 to D6, E2).

Axes: P pixel, N image.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import xfw
from xfw.data.sources import Sources
from xfw.engine.rng import Rng, key_words
from xfw.experiment import Experiment
from xfw.testing.blocks import block_session
from xfw_neuronal_decay import data
from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.data import Phase, epochs, train_set
from xfw_neuronal_decay.model import _subsets
from xfw_neuronal_decay.rotation import index_map, rotated


@pytest.mark.parametrize(
    ("angle", "unmapped", "distinct", "total", "weighted"),
    [
        (0, 0, 784, 306_936, 160_322_904),
        (80, 56, 708, 285_012, 117_384_918),
        (160, 96, 636, 269_352, 77_329_468),
    ],
)
def test_index_maps_have_the_published_check_values(
    angle: float, unmapped: int, distinct: int, total: int, weighted: int
) -> None:
    map_P = index_map(angle)
    found = map_P[map_P >= 0]
    place = torch.arange(784)[map_P >= 0]
    assert int((map_P < 0).sum()) == unmapped
    assert len(set(found.tolist())) == distinct
    assert int(found.sum()) == total
    assert int((place * found).sum()) == weighted


def test_rows_of_the_maps_are_those_of_the_specification() -> None:
    eighty, more = index_map(80)[14 * 28 : 15 * 28].tolist(), index_map(160)[14 * 28 : 15 * 28].tolist()
    assert eighty[:6] == [11, 39, 67, 95, 123, 152]
    assert eighty[-2:] == [743, 771]
    assert more[:5] == [250, 277, 276, 275, 302]


@pytest.mark.parametrize("angle", [0.0, 80.0, 160.0, 12.5, -37.0])
def test_index_maps_follow_the_formula(angle: float) -> None:
    radians = math.radians(angle)
    expected = []
    for row in range(28):
        for column in range(28):
            u, v = column - 13.5, row - 13.5
            source_column = round(u * math.cos(radians) - v * math.sin(radians) + 13.5)
            source_row = round(u * math.sin(radians) + v * math.cos(radians) + 13.5)
            inside = 0 <= source_row <= 27 and 0 <= source_column <= 27
            expected.append(28 * source_row + source_column if inside else -1)
    assert index_map(angle).tolist() == expected


@pytest.mark.parametrize("angle", [0.0, 80.0, 160.0, 45.0, 90.0, 180.0, -30.0, 7.3])
def test_rotation_is_torchvisions_bit_for_bit(angle: float) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    images = torch.randint(0, 256, (40, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rotated(images.flatten(1), angle).view_as(images), functional.rotate(images, angle))


def test_batches_of_mnist_are_those_of_the_path_through_torchvision(mnist: Path) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    source = Sources().load("mnist")
    sets = data.load(Config(), Sources())
    test = sets["test"]
    for task, angle in enumerate((0.0, 80.0, 160.0)):
        index = slice(10_000 * task, 10_000 * (task + 1))
        images, labels = test.prepare(test.tensors[0][index], test.tensors[1][index])  # type: ignore[misc]
        expected = functional.rotate(source.test_images.unsqueeze(1).float() / 255.0, angle).flatten(1)
        assert torch.equal(images, expected)
        assert torch.equal(labels, source.test_labels)


def test_mean_squared_norms_of_the_tasks(mnist: Path) -> None:
    images = data.load(Config(), Sources())["train3"].tensors[0]
    assert len(images) == 180_000
    for task, expected in enumerate((87.8100, 88.3103, 87.8746)):
        part = images[60_000 * task : 60_000 * (task + 1)]
        squares = torch.arange(256, dtype=torch.float64).square() / 255.0**2
        mean = (torch.bincount(part.flatten().int(), minlength=256) * squares).sum() / 60_000
        assert float(mean) == pytest.approx(expected, abs=1e-3)


def test_replay_sets_are_slices_of_one_storage(mnist: Path) -> None:
    sets = data.load(Config(), Sources())
    assert [len(sets[train_set(task)]) for task in (1, 2, 3)] == [60_000, 120_000, 180_000]
    assert len({sets[train_set(task)].tensors[0].untyped_storage().data_ptr() for task in (1, 2, 3)}) == 1
    labels = sets["train3"].tensors[1].view(3, -1)
    assert torch.equal(labels[0], labels[1])
    assert torch.equal(labels[0], labels[2])


def test_without_replay_a_task_has_its_own_rotation_only() -> None:
    replay, alone = (data.load(Config(data="digits", replay=each), Sources()) for each in (True, False))
    for task in (1, 2, 3):
        own, whole = alone[train_set(task)].tensors[0], replay["train3"].tensors[0]
        assert len(own) == 1500
        assert torch.equal(own, whole[1500 * (task - 1) : 1500 * task])


def batches_of(experiment: Experiment, replay: bool) -> list[list[np.ndarray]]:
    """Return the image numbers of every iteration of every task of one MNIST trial."""
    images = torch.zeros(180_000, 1, dtype=torch.uint8)
    labels = torch.arange(180_000)
    session = block_session(
        experiment, [f"replay={str(replay).lower()}", *("n_neurons=2", "data=digits")], trials=1, preset="paper"
    )
    found = []
    for task in (1, 2, 3):
        own = slice(0 if replay else 60_000 * (task - 1), 60_000 * task)
        spec = session.epochs[task - 1]
        session.trainer.datasets[spec.dataset] = xfw.Dataset((images[own], labels[own]))  # type: ignore[index]
        batches = session.trainer.batches_of(spec)
        batches.shuffle(task - 1)
        rows = []
        for step in range(batches.steps):
            batches.position.fill_(step)
            rows.append(batches.take(batches.size(step))[1][0].numpy())
        found.append(rows)
    return found


@pytest.mark.parametrize(
    ("replay", "table"),
    [
        (True, [(118, 512, 96), (118, 1024, 192), (118, 1536, 288)]),
        (False, [(118, 512, 96), (59, 1024, 608), (40, 1536, 96)]),
    ],
)
def test_batch_lists_are_those_of_the_paper(
    experiment: Experiment, replay: bool, table: list[tuple[int, int, int]]
) -> None:
    consumed = 0
    for task, (rows, (per_pass, size, last)) in enumerate(zip(batches_of(experiment, replay), table, strict=True), 1):
        sizes = [len(row) for row in rows]
        assert len(rows) == 500
        assert sizes[:per_pass] == [size] * (per_pass - 1) + [last]
        for step in range(500 - per_pass):
            assert np.array_equal(rows[step], rows[step + per_pass])
        first = 0 if replay else 60_000 * (task - 1)
        assert np.array_equal(np.sort(np.concatenate(rows[:per_pass])), np.arange(first, 60_000 * task))
        consumed += sum(sizes)
    assert consumed == (1_526_016 if replay else 1_513_728)


@pytest.mark.parametrize(
    ("test_size", "batch", "expected"),
    [(2000, 512, [2048, 2048, 3072]), (0, 512, [10_000] * 3), (9999, 512, [10_000] * 3), (100, 512, [512, 1024, 1536])],
)
def test_sizes_of_the_test_subsets(test_size: int, batch: int, expected: list[int]) -> None:
    config = Config(test_size=test_size, batch_size=batch)
    assert [config.tested(task, 10_000) for task in (1, 2, 3)] == expected
    assert [Phase.of(epoch.label).tested for epoch in epochs(config)] == expected


def test_full_mode_tests_every_image() -> None:
    assert Config(eval_mode="full").tested(1, 10_000) == 10_000


def subsets(key: int, step: int, task: int = 2) -> list[list[int]]:
    rng = Rng(key_words([key], "cpu")[0], torch.tensor(0), torch.tensor(step))
    phase = Phase(task=task, tasks=3, tested=2048, mean_batch=False)
    return [each.tolist() for each in _subsets(rng, phase, 10_000, torch.device("cpu"))]


def test_subsets_are_fresh_and_without_repeats() -> None:
    found = [tuple(each) for step in (0, 1, 2) for each in subsets(7, step)] + [tuple(each) for each in subsets(8, 0)]
    assert all(len(set(each)) == 2048 for each in found)
    assert len(set(found)) == len(found)


def test_subsets_are_uniform() -> None:
    """Over 400 draws of 2048 of 10 000 an image is tested 81.9 times, SD 8.1: none lies further than six SD away."""
    counts = Counter(index for step in range(200) for each in subsets(3, step) for index in each)
    expected, sd = 400 * 0.2048, math.sqrt(400 * 0.2048 * 0.7952)
    assert max(abs(counts[index] - expected) for index in range(10_000)) < 6 * sd


def test_phases_survive_their_labels() -> None:
    for phase in (Phase(2, 3, 2048, False), Phase(1, 1, 297, True)):
        assert Phase.of(phase.label()) == phase


def test_quick_splits_the_digits_in_order() -> None:
    whole = Sources().load("digits", size=28, scale="bilinear")
    sets = data.load(Config(data="digits"), Sources())
    assert torch.equal(sets["train1"].tensors[0], whole.train_images[:1500].flatten(1))
    assert torch.equal(sets["test"].tensors[0][:297], whole.train_images[1500:].flatten(1))
    assert len(sets["test"]) == 3 * 297


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_bytes_are_divided_exactly(device: str) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, -1)
    found, _ = data.scaled(images.to(device), torch.zeros(1, device=device))
    assert found.dtype == torch.float32
    assert found.cpu().tolist() == [[float(np.float32(value) / np.float32(255.0)) for value in range(256)]]
