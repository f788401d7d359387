"""The rule of S2 against its element-wise definition, in three implementations (spec 2.3, 10.4-10.10, 10.15-10.20)."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xfw_netfragments import full, lateral, measures, sparse
from xfw_netfragments.layer import FEATURES, Dynamics, Layer, Learning, initial_weights, median_rank

SMALL = Layer(alternatives=3, locality=2)
POWER = (1.2, 1.4, 1.6, 1.8, 2.0, 2.2)
WITH_NUMBA = importlib.util.find_spec("numba") is not None
KERNELS = ["sparse", pytest.param("compiled", marks=pytest.mark.skipif(not WITH_NUMBA, reason="needs numba"))]

Floats = NDArray[np.float32]


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    """The code of a CPU's steps: plain, and compiled."""
    return importlib.import_module(f"xfw_netfragments.{request.param}")


def some_weights(rng: np.random.Generator, layer: Layer, density: float = 0.1) -> Floats:
    values = rng.random(layer.shape) * (rng.random(layer.shape) < density)
    return np.maximum(values, initial_weights(layer)).astype(np.float32)


def some_features(rng: np.random.Generator, height: int = 9, width: int = 11, density: float = 0.2) -> Floats:
    return (rng.random((FEATURES, height, width)) < density).astype(np.float32)


def seen_by_patches(weight: NDArray[Any], inputs_IHW: NDArray[Any]) -> NDArray[np.float64]:
    """The support of every channel, summed patch by patch in float64: the definition, (C, P)."""
    reach = weight.shape[2] // 2
    framed = np.pad(inputs_IHW.astype(np.float64), ((0, 0), (reach, reach), (reach, reach)))
    height, width = inputs_IHW.shape[1:]
    patches = np.stack(
        [framed[:, y : y + 2 * reach + 1, x : x + 2 * reach + 1].ravel() for y in range(height) for x in range(width)]
    )
    return weight.reshape(len(weight), -1).astype(np.float64) @ patches.T


def patches_of(inputs_IHW: NDArray[Any], reach: int) -> NDArray[np.float64]:
    """What every position sees, (P, I·K)."""
    framed = np.pad(inputs_IHW.astype(np.float64), ((0, 0), (reach, reach), (reach, reach)))
    height, width = inputs_IHW.shape[1:]
    side = 2 * reach + 1
    return np.stack([framed[:, y : y + side, x : x + side].ravel() for y in range(height) for x in range(width)])


# --- the definition, element by element ----------------------------------------------------------------------


def defined_winners(weight: Floats, seen_FHW: Floats, layer: Layer) -> NDArray[np.int64]:
    """argmax of the mean of agreement minus disagreement over all inputs, ties to the lowest alternative."""
    inputs = np.concatenate([seen_FHW, np.zeros((layer.channels, *seen_FHW.shape[1:]))])
    b_PD = patches_of(inputs, layer.locality)
    w_CD = (weight.reshape(layer.channels, -1) > 0).astype(np.float64)
    agreement = (w_CD[:, None] * b_PD[None]) - np.abs(w_CD[:, None] - b_PD[None])
    score = agreement.mean(2).reshape(FEATURES, layer.alternatives, -1)
    # Sums of numbers that are exact in theory: undo the rounding of the mean.
    return np.asarray(np.rint(score * b_PD.shape[1]).argmax(1))


def defined_step(
    weight: Floats, seen_FHW: Floats, z_CP: Any, winner_FP: Any, layer: Layer, theta: float, power: float
) -> tuple[Any, Any]:
    """One time step by the book: firing (C, P) and v̂ (C, P)."""
    shape = seen_FHW.shape[1:]
    s_CP = seen_by_patches(weight, np.concatenate([seen_FHW, z_CP.reshape(-1, *shape)]))
    g_CP = np.where(s_CP < layer.limit, s_CP, layer.limit - (s_CP - layer.limit) / 2)
    mask = np.repeat(winner_FP, layer.alternatives, 0) == np.tile(np.arange(layer.alternatives), FEATURES)[:, None]
    v = (g_CP * mask).reshape(FEATURES, -1)
    scaled = (v / (1e-10 + v.max(1, keepdims=True))).reshape(s_CP.shape)
    return (scaled >= 0) & (np.maximum(scaled, 0) ** power >= theta), scaled


def defined(weight: Floats, seen_FHW: Floats, layer: Layer, dynamics: Dynamics) -> list[Any]:
    assert dynamics.theta is not None
    winner = defined_winners(weight, seen_FHW, layer)
    z: Any = np.zeros((layer.channels, seen_FHW[0].size))
    steps = []
    for power in dynamics.power:
        z, _ = defined_step(weight, seen_FHW, z, winner, layer, dynamics.theta, power)
        steps.append(z)
        z = z.astype(float)
    return steps


def defined_change(weight: Floats, x_FHW: Floats, y_CP: Any, layer: Layer, learning: Learning) -> Floats:
    """The update of 2.4, position by position, in float64."""
    shape = x_FHW.shape[1:]
    x_PD = patches_of(np.concatenate([x_FHW, y_CP.reshape(-1, *shape)]), layer.locality)
    y = y_CP.astype(np.float64)[:, :, None]
    capped = np.minimum(x_PD, 1)[None]
    change = y * capped
    if learning.negative_correlation:
        change = change - (y * (x_PD == 0)[None] + (1 - y) * capped)
    positive = np.maximum(change.mean(1), 0)
    scaled = (positive - positive.min()) / (positive.max() - positive.min() + 1e-10)
    return np.clip(weight + learning.rate * scaled.reshape(weight.shape), 0, 1).astype(np.float32)


def by_channel(z_FP: Any, channel_FP: Any, layer: Layer) -> Any:
    y = np.zeros((layer.channels, z_FP.shape[1]))
    for feature in range(FEATURES):
        y[channel_FP[feature], np.arange(z_FP.shape[1])] = z_FP[feature]
    return y


# --- winners and support -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_winners_agree_best_with_what_they_see(kernel: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, seen = some_weights(rng, SMALL), some_features(rng)
    expected = defined_winners(weight, seen, SMALL) + 3 * np.arange(FEATURES)[:, None]
    assert np.array_equal(kernel.winners(weight, sparse.look(seen, SMALL), SMALL).channel_FP, expected)
    dense = lateral.winners(torch.from_numpy(weight), torch.from_numpy(seen)[None], SMALL)
    assert np.array_equal(dense.channel[0].numpy(), expected)


@pytest.mark.parametrize(("height", "width"), [(9, 11), (32, 32), (64, 64)])
def test_support_by_patches_convolution_and_scattering_agree(kernel: ModuleType, height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    layer = SMALL if height < 32 else Layer(alternatives=2)
    weight, seen = some_weights(rng, layer), some_features(rng, height, width)
    dynamics = Dynamics(0.5, POWER[:3])
    look = sparse.look(seen, layer)
    found = kernel.winners(weight, look, layer)
    activity = kernel.settle(weight, found, layer, dynamics)
    everything = sparse.settle_all(weight, look, found, activity, layer)
    z = np.zeros((layer.channels, height * width))
    for step in range(3):
        expected = seen_by_patches(weight, np.concatenate([seen, z.reshape(-1, height, width)]))
        np.testing.assert_allclose(everything[step], expected, rtol=1e-5, atol=1e-6)
        own = np.take_along_axis(expected, found.channel_FP, 0)
        np.testing.assert_allclose(activity.support_TFP[step], own, rtol=1e-5, atol=1e-6)
        z = by_channel(activity.z_TFP[step], found.channel_FP, layer)
    images, tensor = torch.from_numpy(seen)[None], torch.from_numpy(weight)
    dense = lateral.winners(tensor, images, layer)
    convolved = full.settle_all(tensor, images, dense, layer, dynamics)
    assert np.array_equal(convolved.support[:, 0].numpy(), everything)


@pytest.mark.parametrize("seed", range(4))
def test_activity_equals_its_definition(kernel: ModuleType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, seen = some_weights(rng, SMALL), some_features(rng)
    dynamics = Dynamics((0.3, 0.5, 0.7, 0.9)[seed], POWER[: 2 + seed])
    found = kernel.winners(weight, sparse.look(seen, SMALL), SMALL)
    activity = kernel.settle(weight, found, SMALL, dynamics)
    for z_FP, expected in zip(activity.z_TFP, defined(weight, seen, SMALL, dynamics), strict=True):
        assert np.array_equal(by_channel(z_FP, found.channel_FP, SMALL), expected)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([None, 0.3, 0.5, 0.7]), st.booleans(), st.sampled_from([1, 2, 4, 6]))
def test_all_implementations_give_the_same_bits(seed: int, theta: float | None, negative: bool, steps: int) -> None:
    rng = np.random.default_rng(seed)
    layer = Layer(alternatives=int(rng.integers(2, 11)), locality=int(rng.integers(1, 6)))
    weight, features = some_weights(rng, layer, 0.05), some_features(rng, 13, 12)
    if seed % 2:
        features *= rng.integers(0, 5, features.shape).astype(np.float32) / 2
    dynamics, learning = Dynamics(theta, POWER[:steps]), Learning(0.2, negative)
    uniform = rng.random((steps, FEATURES, 156), np.float32)
    found = []
    for name in ("sparse", "compiled") if WITH_NUMBA else ("sparse",):
        module = importlib.import_module(f"xfw_netfragments.{name}")
        look = sparse.look(features, layer)
        winners = module.winners(weight, look, layer)
        activity = module.settle(weight, winners, layer, dynamics, uniform)
        changed = weight.copy()
        sparse.apply(changed, module.change(weight, look, activity.z_TFP, winners, layer, learning))
        found.append((winners.channel_FP, activity.z_TFP, activity.support_TFP, activity.strength_TFP, changed))
    tensor, images = torch.from_numpy(weight), torch.from_numpy(features)[None]
    own = lateral.winners(tensor, images, layer)
    dense = lateral.settle(tensor, own, layer, dynamics, lambda step: torch.from_numpy(uniform[step])[None])
    active = lateral.by_channel(lateral.median(dense.z), own.channel, layer)
    after = lateral.change(tensor, images, active, layer, learning).numpy()
    parts = (own.channel[0], dense.z[:, 0] > 0, dense.support[:, 0], dense.strength[:, 0])
    found.append((*(part.numpy() for part in parts), after))
    for other in found[1:]:
        for first, second in zip(found[0], other, strict=True):
            assert np.array_equal(first, second)


# --- the time steps ------------------------------------------------------------------------------------------


def line_features() -> Floats:
    from xfw_netfragments import rasters, s1

    return s1.features(rasters.draw(((3, 2), (29, 30)))[None], "small", "threshold")[0]


def test_the_untrained_network_repeats_the_features(kernel: ModuleType) -> None:
    layer, seen = Layer(), line_features()
    weight = initial_weights(layer)
    found = kernel.winners(weight, sparse.look(seen, layer), layer)
    activity = kernel.settle(weight, found, layer, Dynamics(0.5, POWER))
    assert (found.channel_FP == 10 * np.arange(FEATURES)[:, None]).all()
    assert (activity.z_TFP == (seen.reshape(FEATURES, -1) > 0)).all()
    supports = [set(activity.support_TFP[step][activity.z_TFP[step]].tolist()) for step in range(6)]
    assert supports == [{1.0}, *[{2.0}] * 5]


@pytest.mark.parametrize("activation", ["clip", "bernoulli"])
def test_the_untrained_network_sees_graded_features_above_one_half(kernel: ModuleType, activation: str) -> None:
    rng = np.random.default_rng(0)
    graded = rng.choice([0, 0.5, 1, 1.5, 4], (FEATURES, 32, 32)).astype(np.float32)
    features = np.minimum(graded, 1) if activation == "bernoulli" else graded
    layer = Layer()
    found = kernel.winners(initial_weights(layer), sparse.look(features, layer), layer)
    z = kernel.settle(initial_weights(layer), found, layer, Dynamics(0.5, POWER[:1])).z_TFP[0]
    assert np.array_equal(z, features.reshape(FEATURES, -1) > 0.5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32))
def test_every_supported_feature_has_an_active_cell(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, seen = some_weights(rng, SMALL), some_features(rng, density=float(rng.choice([0.0, 0.02, 0.2])))
    found = sparse.winners(weight, sparse.look(seen, SMALL), SMALL)
    activity = sparse.settle(weight, found, SMALL, Dynamics(1.0, POWER[:2]))
    tensor = torch.from_numpy(activity.support_TFP)
    supported = lateral.attenuated(tensor, SMALL.limit).amax(-1).numpy() > 0
    assert np.array_equal(activity.z_TFP.any(2), supported)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.floats(0.05, 0.95), st.floats(0.5, 3.0))
def test_higher_thresholds_and_powers_leave_fewer_cells(seed: int, theta: float, power: float) -> None:
    rng = np.random.default_rng(seed)
    strength = torch.from_numpy(rng.random((1, FEATURES, 50), np.float32))
    low = lateral.fire(strength, Dynamics(theta, (power,)), 0, None)
    assert (lateral.fire(strength, Dynamics(min(1.0, theta + 0.05), (power,)), 0, None) <= low).all()
    assert (lateral.fire(strength, Dynamics(theta, (power + 0.1,)), 0, None) <= low).all()


def test_attenuation_is_continuous_and_largest_at_the_limit() -> None:
    limit = Layer().limit
    support = torch.linspace(0, 4 * limit, 4001, dtype=torch.float64)
    g = lateral.attenuated(support, limit)
    assert g.max() == pytest.approx(limit, abs=0.02)
    assert float(support[g.argmax()]) == pytest.approx(limit, abs=0.02)
    assert float(lateral.attenuated(torch.tensor(3 * limit, dtype=torch.float64), limit)) == pytest.approx(0, abs=1e-12)
    assert (g.diff().abs() < 0.02).all()


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_support_beyond_three_limits_never_fires(power: float) -> None:
    limit = 10.0
    support = torch.tensor([[[5.0, 31.0, 58.0, 100.0]]])
    strength = lateral.normalise(support, limit, False)
    assert lateral.fire(strength, Dynamics(0.5, (power,)), 0, None).tolist() == [[[1, 0, 0, 0]]]
    host = sparse.normalise(support[0].numpy(), limit, False)
    assert sparse.fire(host, Dynamics(0.5, (power,)), 0, None).tolist() == [[True, False, False, False]]


def test_powers_of_two_of_a_feature_change_nothing_below_the_limit(kernel: ModuleType) -> None:
    rng = np.random.default_rng(2)
    layer = Layer(alternatives=3, locality=2, support_factor=1000.0)
    weight, seen = some_weights(rng, layer), some_features(rng)
    look, dynamics = sparse.look(seen, layer), Dynamics(0.5, POWER)
    scaled = weight.copy()
    scaled[3:6] *= 4
    results = [kernel.settle(w, kernel.winners(w, look, layer), layer, dynamics).z_TFP for w in (weight, scaled)]
    assert np.array_equal(*results)


def test_bernoulli_cells_fire_with_the_probability_of_their_power() -> None:
    rng = np.random.default_rng(1)
    strength = np.full((FEATURES, 5000), 0.6, np.float32)
    uniform = rng.random((1, FEATURES, 5000), np.float32)
    fired = sparse.fire(strength, Dynamics(None, (2.0,)), 0, uniform)
    assert fired.mean() == pytest.approx(0.36, abs=4 * np.sqrt(0.36 * 0.64 / fired.size))


@pytest.mark.parametrize(("steps", "needed"), [(2, 2), (3, 2), (5, 3), (6, 4)])
def test_lower_median(steps: int, needed: int) -> None:
    assert median_rank(steps) == needed
    z = torch.zeros(steps, 1, 1, steps + 1)
    for count in range(steps + 1):
        z[:count, 0, 0, count] = 1
    expected = z.sort(0).values[(steps - 1) // 2]
    assert torch.equal(lateral.median(z), expected)


# --- learning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("negative", [True, False])
@pytest.mark.parametrize("graded", [False, True])
def test_the_update_equals_its_definition(kernel: ModuleType, negative: bool, graded: bool) -> None:
    rng = np.random.default_rng(5)
    weight, features = some_weights(rng, SMALL), some_features(rng)
    if graded:
        features *= rng.integers(0, 9, features.shape).astype(np.float32) / 2
    look, learning = sparse.look(features, SMALL), Learning(0.2, negative)
    found = kernel.winners(weight, look, SMALL)
    z = rng.random((3, *found.channel_FP.shape)) < 0.3
    y = by_channel(z.sum(0) >= median_rank(3), found.channel_FP, SMALL)
    expected = defined_change(weight, features, y, SMALL, learning)
    after = weight.copy()
    changed = sparse.apply(after, kernel.change(weight, look, z, found, SMALL, learning))
    assert changed == (after != weight).any()
    np.testing.assert_allclose(after, expected, atol=2e-7)
    active = torch.from_numpy(y).float()[None]
    dense = lateral.change(torch.from_numpy(weight), torch.from_numpy(features)[None], active, SMALL, learning)
    assert np.array_equal(dense.numpy(), after)


def test_a_batch_learns_from_the_mean_over_its_images() -> None:
    rng = np.random.default_rng(8)
    layer, learning = Layer(alternatives=1, locality=1), Learning(0.2, False)
    features = np.stack([some_features(rng, 5, 6) for _ in range(3)])
    active = (rng.random((3, 4, 30)) < 0.4).astype(np.float32)
    weight = initial_weights(layer, self_connection=False)
    patches = [patches_of(np.concatenate([x, y.reshape(4, 5, 6)]), 1) for x, y in zip(features, active, strict=True)]
    delta = np.mean([y[:, :, None] * p[None] for y, p in zip(active, patches, strict=True)], axis=0).mean(1)
    grown = np.clip(weight.reshape(4, -1) + 0.2 * (delta - delta.min()) / (delta.max() - delta.min()), 0, 1)
    expected = grown / (0.2 * np.linalg.norm(grown, axis=1, keepdims=True))
    found = lateral.change(
        torch.from_numpy(weight), torch.from_numpy(features), torch.from_numpy(active), layer, learning
    )
    np.testing.assert_allclose(found.numpy().reshape(4, -1), expected, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_weights_grow_by_at_most_the_rate_and_only_of_winners(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight, features = some_weights(rng, SMALL, 0.02), some_features(rng)
    look = sparse.look(features, SMALL)
    found = sparse.winners(weight, look, SMALL)
    activity = sparse.settle(weight, found, SMALL, Dynamics(0.5, POWER[:3]))
    after = weight.copy()
    sparse.apply(after, sparse.change(weight, look, activity.z_TFP, found, SMALL, Learning()))
    growth = after - weight
    assert growth.min() >= 0
    assert growth.max() <= 0.2 + 1e-7
    assert after.min() >= 0
    assert after.max() <= 1
    assert (after[initial_weights(SMALL) == 1] == 1).all()
    active = (activity.z_TFP.sum(0) >= 2).nonzero()
    learning = set(found.channel_FP[active].tolist())
    assert set(np.flatnonzero(growth.reshape(SMALL.channels, -1).any(1)).tolist()) <= learning


def test_the_strongest_coincidence_grows_by_the_rate() -> None:
    seen, layer = line_features(), Layer()
    weight = initial_weights(layer) / 2  # so that no entry is clipped
    look = sparse.look(seen, layer)
    found = sparse.winners(weight, look, layer)
    activity = sparse.settle(weight, found, layer, Dynamics(0.5, POWER))
    after = weight.copy()
    sparse.apply(after, sparse.change(weight, look, activity.z_TFP, found, layer, Learning()))
    assert (after - weight).max() == pytest.approx(0.2, abs=1e-7)


def test_an_image_without_agreement_leaves_the_weights_bit_identical(kernel: ModuleType) -> None:
    layer = SMALL
    weight = some_weights(np.random.default_rng(0), layer)
    look = sparse.look(np.ones((FEATURES, 9, 11), np.float32), layer)
    found = kernel.winners(weight, look, layer)
    z = np.zeros((2, FEATURES, 99), bool)
    before = weight.tobytes()
    assert not sparse.apply(weight, kernel.change(weight, look, z, found, layer, Learning()))
    assert weight.tobytes() == before


# --- other forms ---------------------------------------------------------------------------------------------


def test_the_form_of_2023_divides_by_the_weights_and_by_the_best_of_all() -> None:
    rng = np.random.default_rng(4)
    weight, seen = some_weights(rng, SMALL), some_features(rng)
    tensor, images = torch.from_numpy(weight), torch.from_numpy(seen)[None]
    found = lateral.winners(tensor, images, SMALL)
    dynamics = Dynamics(0.5, (1.2,))
    activity = full.settle_all(tensor, images, found, SMALL, dynamics, older=True)
    support = seen_by_patches(weight, np.concatenate([seen, np.zeros((SMALL.channels, 9, 11))]))
    attenuated = lateral.attenuated(torch.from_numpy(support), SMALL.limit).numpy()
    shares = attenuated / (weight.reshape(SMALL.channels, -1).sum(1, dtype=np.float64) + 1e-10)[:, None]
    best = shares.reshape(FEATURES, -1).max(1)
    scaled = (shares.reshape(FEATURES, 3, -1) / best[:, None, None]).reshape(SMALL.channels, -1)
    own = np.take_along_axis(scaled, found.channel[0].numpy(), 0)
    assert np.array_equal(activity.z[0, 0].gather(0, found.channel[0]).numpy() > 0, own**1.2 >= 0.5)


def test_one_cell_a_feature_starts_without_its_connection_to_itself() -> None:
    layer = Layer(alternatives=1)
    assert np.count_nonzero(initial_weights(layer, self_connection=False)) == 4
    assert np.count_nonzero(initial_weights(layer)) == 8
    assert initial_weights(layer).shape == (4, 8, 11, 11)


def test_initial_weights_are_80_ones() -> None:
    weight = initial_weights(Layer())
    assert weight.shape == (40, 44, 11, 11)
    assert (np.count_nonzero(weight), weight.sum()) == (80, 80)
    assert weight[23, 2, 5, 5] == weight[23, 27, 5, 5] == 1


def test_unit_norm_leaves_every_cell_with_the_norm_of_five() -> None:
    weight = torch.rand(4, 8, 11, 11)
    assert torch.allclose(lateral.unit_norm(weight).flatten(1).norm(dim=1), torch.full((4,), 5.0))


# --- measures ------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32))
def test_overlaps_are_at_most_one_half(seed: int) -> None:
    rng = np.random.default_rng(seed)
    z = rng.random((5, 40)) < 0.3
    found = measures.overlaps(z)
    assert 0 <= found["overlap_mean"] <= found["overlap_max_mean"] <= 0.5
    assert found["active_cells"] + found["inactive_cells"] == 40


def test_equal_outputs_overlap_by_one_half() -> None:
    z = np.tile(np.arange(30) < 7, (3, 1))
    assert measures.overlaps(z)["overlap_mean"] == 0.5


def slow_measures(z: Any, b: Any, corrupted: measures.Corrupted) -> dict[str, float]:
    """The definitions of 5.2, image by image and cell by cell."""
    count, cells = z.shape
    rows: dict[str, list[float]] = {name: [] for name in ("nr", "acc", "rec", "pre", "line")}
    for i in range(count):
        kept = [z[i, j] != v for j, v in zip(corrupted.flipped[i], corrupted.values[i], strict=True)]
        rows["nr"].append(np.mean(kept))
        rows["acc"].append(1 - sum(abs(int(z[i, j]) - int(b[i, j])) for j in range(cells)) / cells)
        rows["rec"].append(np.mean([z[i, j] for j in range(cells) if b[i, j]]))
        rows["pre"].append(np.mean([b[i, j] for j in range(cells) if z[i, j]]))
        hole = [z[i, j] for j in range(cells) if corrupted.removed_NX[i, j] and b[i, j]]
        rows["line"].append(np.mean(hole) if hole else 0.0)
    return {name: float(np.mean(values)) for name, values in rows.items()}


def test_measures_equal_their_definitions() -> None:
    rng = np.random.default_rng(6)
    z, b = rng.random((2, 6, 50)) < 0.4
    flipped = np.stack([rng.permutation(50)[:9] for _ in range(6)])
    corrupted = measures.Corrupted(flipped, rng.random((6, 9)) < 0.8, rng.random((6, 50)) < 0.05)
    found, slow = measures.measure(z, b, corrupted), slow_measures(z, b, corrupted)
    names = {
        "nr": "noise_reduction",
        "acc": "accuracy",
        "rec": "recall",
        "pre": "precision",
        "line": "line_reconstruction",
    }
    for short, name in names.items():
        assert found[name] == pytest.approx(slow[short], abs=1e-12), name


def test_undefined_images_are_left_out_of_a_mean_and_counted() -> None:
    z = np.array([[True, False, True], [False, False, False]])
    b = np.array([[True, True, False], [True, False, False]])
    nothing = measures.Corrupted(np.zeros((2, 0), int), np.zeros((2, 0), bool), np.zeros((2, 3), bool))
    found = measures.measure(z, b, nothing)
    assert (found["precision"], found["precision_images"]) == (0.5, 1)
    assert (found["recall"], found["recall_images"]) == (0.25, 2)
    assert found["noise_reduction"] == 0
    assert np.isnan(found["false_removed"])
