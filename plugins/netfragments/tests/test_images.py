"""Images, features, corruptions and random streams: equal to the published ones (spec 10.1 to 10.3)."""

from __future__ import annotations

import random
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from xfw.seeds import generator
from xfw_netfragments import drawings, lines, rasters, s1
from xfw_netfragments.config import Config, Data, Evaluate, Train
from xfw_netfragments.imagery import flipped_features, scene
from xfw_netfragments.points import Corruption

Vectors = dict[str, NDArray[Any]]
PUBLISHED = Config(random="published")


def keyed(purpose: str, counter: int) -> np.random.Generator:
    return generator(1234, purpose, counter)


def no_key(purpose: str, counter: int) -> np.random.Generator:
    pytest.fail(f"a published stream drew from a key: {purpose} {counter}")


# --- images --------------------------------------------------------------------------------------------------


def test_training_lines_are_the_published_ones(vectors: Vectors) -> None:
    found = rasters.training_lines(32)
    assert np.array_equal(found, vectors["train_lines"])
    images = rasters.draw_all(found, 32)
    assert np.array_equal(images, vectors["train_images"])
    assert len(found) == 58
    assert len({image.tobytes() for image in images}) == 56


def test_training_lines_have_29_pixels_and_pass_the_centre() -> None:
    images = rasters.draw_all(rasters.training_lines(32), 32)
    assert (images.sum((1, 2)) == 29).all()
    assert images[:, 16, 16].all()


def test_28_training_lines_depend_on_the_direction_of_drawing() -> None:
    found = rasters.training_lines(32)
    differing = [line for line in found if not np.array_equal(rasters.draw(line), rasters.draw((line[1], line[0])))]
    assert len(differing) == 28


def test_lines_are_those_of_pillow() -> None:
    from PIL import Image, ImageDraw

    for line in [*rasters.training_lines(32), *rasters.rotating_lines(60)]:
        image = Image.new("L", (32, 32))
        ImageDraw.Draw(image).line([*line[0], *line[1]], fill=1)
        assert np.array_equal(np.asarray(image), rasters.draw(line)), line


def test_test_lines_turn_and_come_back_with_swapped_ends(vectors: Vectors) -> None:
    found = rasters.rotating_lines(60)
    assert np.array_equal(found, vectors["test_lines"])
    assert [(b, a) for a, b in found[:4]] == found[56:]
    known = {image.tobytes() for image in vectors["train_images"]}
    rastered = [rasters.draw(line).tobytes() for line in found]
    assert sum(image in known for image in rastered) == 37
    assert len(set(rastered)) == 58


@pytest.mark.parametrize("length", range(8))
def test_interrupted_lines_are_the_published_ones(vectors: Vectors, length: int) -> None:
    found = [rasters.interrupt(rasters.draw(line), line, length) for line in rasters.rotating_lines(60)]
    assert np.array_equal(found, vectors["test_images"][length])


def test_interrupt_of_a_rising_line_counts_row_by_row() -> None:
    line = ((30, 22), (2, 10))
    image = rasters.draw(line)
    removed = np.argwhere(image - rasters.interrupt(image, line, 5))
    assert removed.tolist() == [[15, 14], [16, 15], [16, 16], [16, 17], [17, 18]]


@given(st.integers(0, 100), st.integers(0, 57))
def test_two_pixels_of_a_line_always_stay(length: int, number: int) -> None:
    line = rasters.training_lines(32)[number]
    assert rasters.interrupt(rasters.draw(line), line, length).sum() == max(2, 29 - length)


def test_curved_lines_of_the_published_seed(vectors: Vectors) -> None:
    config = attrs.evolve(PUBLISHED, evaluate=Evaluate(images="curved"))
    assert np.array_equal(scene(config, no_key, 0).images, vectors["curved_seed1"])


def test_curved_lines_are_functions_of_the_key_and_the_number_alone() -> None:
    config = Config(evaluate=Evaluate(images="curved"))
    many, few = (lines.curves(config, keyed, count) for count in (9, 3))
    assert np.array_equal(many[:3], few)
    assert not np.array_equal(many, lines.curves(config, lambda p, c: generator(99, p, c), 9))


def test_curves_are_connected_and_reach_from_border_to_border() -> None:
    for image in lines.curves(Config(), keyed, 40):
        own = image if image.any(0).all() else image.T
        assert own.any(0).all()
        for left, right in zip(own.T[:-1], own.T[1:], strict=True):
            gap = min(abs(a - b) for a in np.flatnonzero(left) for b in np.flatnonzero(right))
            assert gap <= 1


def test_digits_and_objects_are_the_published_ones(vectors: Vectors) -> None:
    assert np.array_equal(drawings.digits(), vectors["digits"])
    assert np.array_equal(drawings.objects(), vectors["objects"])
    assert drawings.digits().sum((1, 2)).tolist() == [37, 97, 97, 75, 97, 114, 57, 131, 114, 112]
    lit = [180, 168, 150, 215, 156, 97, 98, 125, 144, 167, 157, 322, 228, 361, 336, 200, 119, 231]
    assert drawings.objects().sum((1, 2)).tolist() == lit


# --- features ------------------------------------------------------------------------------------------------


def test_features_of_all_training_lines_are_the_published_ones(vectors: Vectors) -> None:
    images = rasters.draw_all(rasters.training_lines(32), 32)
    assert np.array_equal(s1.features(images, "small", "threshold"), vectors["train_s1"])
    assert np.array_equal(2 * s1.features(images, "large", "clip"), vectors["train_s1_large_twice"])


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        (((2, 16), (30, 16)), [6, 10, 31, 10]),
        (((16, 2), (16, 30)), [31, 10, 6, 10]),
        (((2, 2), (30, 30)), [6, 6, 6, 31]),
        (((2, 30), (30, 2)), [6, 31, 6, 6]),
    ],
)
def test_number_of_active_features(line: rasters.Line, counts: list[int]) -> None:
    found = s1.features(rasters.draw(line)[None], "small", "threshold")[0]
    assert found.sum((1, 2)).tolist() == counts


def test_mean_number_of_active_features_of_the_test_lines() -> None:
    images = rasters.draw_all(rasters.rotating_lines(60), 32)
    small = s1.features(images, "small", "threshold").sum((1, 2, 3))
    large = s1.features(images, "large", "clip")
    assert (round(float(small.mean()), 2), small.min(), small.max()) == (105.47, 49, 156)
    assert round(float((large > 0).sum((1, 2, 3)).mean()), 2) == 103.07
    assert round(float((large > 0.5).sum((1, 2, 3)).mean()), 1) == 65.0


def test_the_best_match_gives_1_with_small_and_4_with_large_filters() -> None:
    for filters, best in (("small", 1.0), ("large", 4.0)):
        for kernel in s1.KERNELS[filters]:
            image = np.zeros((1, 9, 9), np.uint8)
            image[0, 2:7, 2:7] = kernel > 0
            assert s1.features(image, filters, "clip").max() == best


def test_responses_equal_a_correlation_in_exact_arithmetic() -> None:
    from scipy.signal import correlate2d

    image = (np.random.default_rng(3).random((20, 23)) < 0.3).astype(np.uint8)
    for filters, kernels in s1.KERNELS.items():
        found = s1.responses(image[None], filters)[0]
        for own, kernel in zip(found, kernels, strict=True):
            assert np.array_equal(own, correlate2d(image.astype(int), kernel, mode="same"))


def test_probabilities_of_features_are_clipped_responses() -> None:
    images = rasters.draw_all(rasters.training_lines(32), 32)
    found = s1.features(images, "large", "bernoulli")
    assert np.array_equal(found, np.minimum(s1.features(images, "large", "clip"), 1))


# --- random streams ------------------------------------------------------------------------------------------


def test_first_lines_of_the_original_stream() -> None:
    known = rasters.training_lines(32)
    found = [known[index] for index in lines.published_stream(1, 8, 32)]
    assert found == [
        ((2, 29), (30, 3)),
        ((4, 2), (28, 30)),
        ((2, 17), (30, 15)),
        ((17, 2), (15, 30)),
        ((27, 2), (5, 30)),
        ((2, 17), (30, 15)),
        ((2, 28), (30, 4)),
        ((2, 21), (30, 11)),
    ]


def test_the_original_stream_goes_through_validation_and_training_in_turn() -> None:
    config = attrs.evolve(PUBLISHED, data=Data(train=7, validation=3), train=Train(epochs=2))
    stream = lines.published_stream(1, 3 + 2 * 10, 32)
    rng = np.random.default_rng()
    found = [
        lines.validation_order(config, 0, no_key, 0),
        lines.training_order(config, 0, rng, 0, 7),
        lines.validation_order(config, 0, no_key, 1),
        lines.training_order(config, 0, rng, 1, 7),
        lines.validation_order(config, 0, no_key, 2),
    ]
    assert np.array_equal(np.concatenate(found), stream)


def test_without_the_initial_validation_the_original_stream_starts_with_training() -> None:
    config = attrs.evolve(PUBLISHED, train=Train(initial_validation=False))
    found = lines.training_order(config, 0, np.random.default_rng(), 0, 300)
    assert np.array_equal(found, lines.published_stream(1, 300, 32))


def test_trials_have_consecutive_published_seeds() -> None:
    rng = np.random.default_rng()
    config = attrs.evolve(PUBLISHED, train=Train(initial_validation=False))
    later = attrs.evolve(config, published_seed=3)
    assert np.array_equal(lines.training_order(config, 2, rng, 0, 50), lines.training_order(later, 0, rng, 0, 50))


def test_the_original_stream_draws_a_uniform_number_and_an_integer() -> None:
    rng = random.Random(7)
    for index in lines.published_stream(7, 200, 32):
        family, place = (0 if rng.random() < 0.5 else 29), rng.randint(2, 30) - 2
        assert index == family + place


@given(st.integers(1, 300), st.integers(1, 300))
def test_keyed_lines_are_functions_of_their_place(first: int, second: int) -> None:
    few, many = sorted((first, second))
    draws = [lines.training_order(Config(), 0, keyed("order", 4), 4, count) for count in (few, many)]
    assert np.array_equal(draws[0], draws[1][:few])


def test_keyed_lines_are_uniform_over_both_families() -> None:
    from scipy.stats import chisquare

    found = lines.training_order(Config(), 0, keyed("order", 0), 0, 58_000)
    assert chisquare(np.bincount(found, minlength=58)).pvalue > 1e-4


def test_the_four_lines_come_in_turn() -> None:
    config = Config(data=Data(lines="four"))
    assert lines.training_order(config, 0, keyed("order", 0), 3, 6).tolist() == [0, 1, 2, 3, 0, 1]
    assert len(lines.drawn_lines("four", 32)) == 4


# --- noise ---------------------------------------------------------------------------------------------------


def test_first_entries_of_the_published_permutations() -> None:
    found = lines.flips(PUBLISHED, no_key, 0, 2, 4096)
    assert found[0, :8].tolist() == [1061, 1635, 3924, 4082, 227, 1726, 3027, 1041]
    assert found[1, :4].tolist() == [2114, 90, 4007, 862]


@pytest.mark.parametrize("config", [Config(), PUBLISHED])
def test_permutations_do_not_depend_on_how_many_images_there_are(config: Config) -> None:
    assert np.array_equal(lines.flips(config, keyed, 0, 5, 100)[:2], lines.flips(config, keyed, 0, 2, 100))
    assert (np.sort(lines.flips(config, keyed, 0, 5, 100)) == np.arange(100)).all()


@pytest.mark.parametrize("config", [Config(), PUBLISHED])
def test_noise_flips_exactly_its_share_and_is_nested(config: Config) -> None:
    clean = scene(config, keyed, 0)
    before = s1.features(clean.images, "small", "threshold")
    earlier: list[set[int]] = [set()] * 60
    for noise, count in ((0.0, 0), (0.01, 40), (0.05, 204), (0.1, 409), (0.2, 819)):
        after, corrupted = flipped_features(config, keyed, clean, Corruption(noise, 0), 0)
        changed = (after != before).reshape(60, -1)
        assert (changed.sum(1) == count).all()
        now = [set(np.flatnonzero(own).tolist()) for own in changed]
        assert all(old <= new for old, new in zip(earlier, now, strict=True))
        assert np.array_equal(np.take_along_axis(after.reshape(60, -1), corrupted.flipped, 1), corrupted.values)
        earlier = now


def test_noise_flips_graded_features_as_they_are_seen() -> None:
    config = attrs.evolve(Config(), s1=attrs.evolve(Config().s1, filters="large", activation="clip"))
    clean = scene(config, keyed, 0)
    before = s1.features(clean.images, "large", "clip").reshape(60, -1)
    after, corrupted = flipped_features(config, keyed, clean, Corruption(1.0, 0), 0)
    assert np.array_equal(after.reshape(60, -1), (before <= 0.5).astype(np.float32))
    assert corrupted.flipped.shape == (60, 4096)
