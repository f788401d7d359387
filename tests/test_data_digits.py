"""The embedded digits, as they are and scaled to the size of MNIST."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from xfw.data.digits import bilinear_weights
from xfw.data.sources import Sources

STORED = load_digits()


def test_small_digits_are_as_stored() -> None:
    images = Sources().load("digits", size=8)
    assert images.white == 16
    assert images.train_images.dtype == torch.uint8
    assert np.array_equal(images.train_images.numpy(), STORED.images)
    assert np.array_equal(images.train_labels.numpy(), STORED.target)
    assert len(images.test_images) == len(images.test_labels) == 0


def test_repeated_digits_are_framed_by_zeros() -> None:
    images = Sources().load("digits", size=28, scale="repeat").train_images.numpy()
    assert images.shape == (1797, 28, 28)
    for row in range(28):
        for column in range(28):
            inside = 2 <= row < 26 and 2 <= column < 26
            source = STORED.images[:, (row - 2) // 3, (column - 2) // 3] if inside else np.zeros(1797)
            assert np.array_equal(images[:, row, column], np.rint(255 * source / 16))


def test_bilinear_digits_are_those_of_torch() -> None:
    images = Sources().load("digits", size=28, scale="bilinear").train_images.double()
    stored = torch.from_numpy(STORED.images)[:, None]
    theirs = torch.nn.functional.interpolate(stored, size=(28, 28), mode="bilinear", align_corners=False)[:, 0]
    assert (images - 255 * theirs / 16).abs().max() <= 0.5 + 1e-9


def test_bilinear_weights_of_every_pixel_sum_to_one() -> None:
    assert np.allclose(bilinear_weights(8, 28).sum(axis=1), 1.0)


@pytest.mark.parametrize("options", [{"size": 32}, {"size": 28, "scale": "cubic"}])
def test_unknown_option_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Sources().load("digits", **options)
