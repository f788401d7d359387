"""What is refused, and how the message reads (spec 10.30 to 10.38); schedules and presets."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xfw.config.resolve import Resolved, resolve
from xfw.errors import UserError, WrongInput
from xfw.plugins.registry import load_experiment
from xfw_netfragments import connections, points, schedules
from xfw_netfragments.config import Config
from xfw_netfragments.layer import Layer, initial_weights


def resolved(*keys: str, preset: str | None = None) -> Resolved:
    return resolve(load_experiment("netfragments"), preset=preset, overrides=keys)


def config(*keys: str, preset: str | None = None) -> Config:
    found = resolved(*keys, preset=preset).configs[0]
    assert isinstance(found, Config)
    return found


def refusal(*keys: str, preset: str | None = None) -> str:
    with pytest.raises(WrongInput) as caught:
        resolved(*keys, preset=preset)
    return "\n".join(str(problem) for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("evaluate.noise=[-0.1]", ["$.evaluate.noise", "[-0.1]", ">= 0 and <= 1"]),
        ("evaluate.noise=[1.5]", ["$.evaluate.noise", "[1.5]", ">= 0 and <= 1"]),
        ("evaluate.line_interrupt=[-1]", ["$.evaluate.line_interrupt", "[-1]", ">= 0"]),
        ("evaluate.theta=[foo]", ["$.evaluate.theta", "expected a number in (0, 1] or 'bernoulli'"]),
        ("evaluate.theta=[0]", ["$.evaluate.theta", "expected a number in (0, 1] or 'bernoulli'"]),
        ("evaluate.theta=[1.2]", ["$.evaluate.theta", "expected a number in (0, 1] or 'bernoulli'"]),
        ("s2.activation=1.2", ["$.s2.activation", "expected a number in (0, 1] or 'bernoulli'"]),
        ("s2.power=[1,1.2]", ["$.s2.power", "6 time steps need 6 power factors, got 2"]),
        ("s2.power=[1,1,1,1,1,0]", ["$.s2.power", "> 0"]),
        ("evaluate.power=[[1,1.2]]", ["$.evaluate.power", "6 time steps need 6 power factors, got 2"]),
        ("evaluate.power=[1.2-0.3t]", ["$.evaluate.power", "power factors must be > 0, got -0.3"]),
        ("evaluate.power=[-1+0.3t]", ["$.evaluate.power", "must be greater than 0"]),
        ("evaluate.power=[fast]", ["$.evaluate.power", "expected a schedule such as 1.2+0.2t"]),
        ("evaluate.images=digit", ["$.evaluate.images", "straight, curved, digits, objects"]),
        (
            "train.batch_size=32",
            ["$.train.batch_size", "s2.alternatives=10", "winners depend on all updates before it"],
        ),
        ("s1.activation=None", ["$.s1.activation", "s1.activation=clip"]),
        ("weights=nowhere.npz", ["$.weights", "no file 'nowhere.npz'"]),
        ("train.start_epoch=3", ["$.train.start_epoch", "none is given"]),
        ("evaluate.nois=[0.1]", ["evaluate.nois", "did you mean 'evaluate.noise'"]),
    ],
)
def test_wrong_values_are_refused(key: str, parts: list[str]) -> None:
    text = refusal(key)
    assert all(part in text for part in parts), text


@pytest.mark.parametrize("images", ["curved", "digits", "objects"])
def test_only_straight_lines_can_be_interrupted(images: str) -> None:
    text = refusal(f"evaluate.images={images}", "evaluate.line_interrupt=[2]")
    assert "$.evaluate.line_interrupt" in text
    assert "only straight lines can be interrupted" in text
    assert points.corruptions(config(f"evaluate.images={images}"))[-1].interrupt == 0


def test_an_interrupt_longer_than_the_line_warns() -> None:
    warnings = resolved("evaluate.line_interrupt=[30]").warnings
    assert any("30 is more than a line of 29 pixels can lose; two of them stay" in text for text in warnings)
    assert not resolved("evaluate.line_interrupt=[27]").warnings


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(UserError) as caught:
        resolved(preset="train_v6")
    assert "unknown preset 'train_v6'" in caught.value.what
    assert "did you mean 'train_v" in caught.value.hint
    assert "net_fragments_published" in caught.value.hint


def test_weights_of_another_shape_name_both_shapes_and_their_settings(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(connections.file_content(initial_weights(Layer(alternatives=3, locality=2))))
    text = refusal(f"weights={path}")
    assert "(12, 16, 5, 5) (A = 3, L = 2, F = 4)" in text
    assert "(40, 44, 11, 11) (A = 10, L = 5, F = 4)" in text
    assert config(f"weights={path}", "s2.alternatives=3", "s2.locality=2").weights == str(path)


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_text("nothing")
    assert "cannot read" in refusal(f"weights={path}")
    np.savez(path, other=np.zeros(3))
    assert "has no array 'co'" in refusal(f"weights={path}")


@pytest.mark.skipif(importlib.util.find_spec("numba") is not None, reason="numba is installed")
def test_the_compiled_kernel_needs_numba() -> None:
    assert "pip install 'xfw-netfragments[fast]'" in refusal("kernel=numba")


def test_keys_without_effect_warn() -> None:
    assert "is used by random=published only" in str(resolved("published_seed=3").warnings)
    assert "is used by model=s2 only" in str(resolved("s2.timesteps=2", preset="autoencoder").warnings)
    assert "one repeat is made" in str(resolved("evaluate.repeats=3").warnings)
    assert not resolved("evaluate.repeats=3", "evaluate.theta=[bernoulli]").warnings


# --- presets -------------------------------------------------------------------------------------------------


def test_paper_is_the_published_preset_and_fixes_the_random_numbers() -> None:
    paper, named = config(preset="paper"), config(preset="net_fragments_published")
    assert paper == named
    assert (paper.train.epochs, paper.s2.timesteps, paper.random, paper.published_seed) == (100, 6, "published", 1)
    assert len(points.settings(paper)) * len(points.corruptions(paper)) == 252


@pytest.mark.parametrize(
    ("preset", "row"),
    [
        ("train_v1", (50, 2, "0.5", 1.2, "small", "threshold")),
        ("train_v2", (50, 6, "0.5", 1.0, "small", "threshold")),
        ("train_v3", (100, 6, "bernoulli", 1.0, "small", "threshold")),
        ("train_v4", (50, 6, "bernoulli", 1.0, "large", "bernoulli")),
        ("train_v5", (50, 6, "bernoulli", 1.0, "large", "clip")),
        ("net_fragments", (101, 6, "0.5", 1.2, "small", "threshold")),
        ("quick", (5, 6, "0.5", 1.2, "small", "threshold")),
    ],
)
def test_presets_are_the_rows_of_the_published_table(preset: str, row: tuple[object, ...]) -> None:
    found = config(preset=preset)
    s1, s2 = found.s1, found.s2
    assert (found.train.epochs, s2.timesteps, s2.activation, s2.power[0], s1.filters, s1.activation) == row
    assert (found.data.train, found.data.validation, s2.learning_rate, s2.alternatives, s2.locality) == (
        300,
        4,
        0.2,
        10,
        5,
    )
    assert found.layer.limit == pytest.approx(14.3)


def test_evaluation_takes_the_run_s_own_threshold_and_schedule() -> None:
    own = config("s2.activation=0.7", "s2.power=[1,1,1,2,2,2]", "evaluate.theta=none", preset="quick")
    assert [setting.name for setting in points.settings(own)] == ["θ = 0.7, γ = [1,1,1,2,2,2], T = 6"]
    assert points.settings(own)[0].dynamics == own.dynamics


def test_points_are_every_noise_and_every_interrupt_and_on_request_their_product() -> None:
    keys = ("evaluate.noise=[0,0.1]", "evaluate.line_interrupt=[0,2]")
    found = [(each.noise, each.interrupt) for each in points.corruptions(config(*keys))]
    assert found == [(0.0, 0), (0.1, 0), (0.0, 2)]
    found = [(each.noise, each.interrupt) for each in points.corruptions(config(*keys, "evaluate.full_product=true"))]
    assert sorted(found) == [(0.0, 0), (0.0, 2), (0.1, 0), (0.1, 2)]
    assert len(points.corruptions(config("evaluate.grid=published"))) == 28


# --- schedules -----------------------------------------------------------------------------------------------


@given(st.decimals("0.1", "3", places=1), st.decimals("0", "1", places=2), st.integers(1, 8))
def test_linear_schedules_are_read_and_recognised(start: object, step: object, count: int) -> None:
    (text,) = schedules.powers([f"{start}+{step}t"])
    power = schedules.power_of(text, count)
    assert power == tuple(round(float(str(start)) + float(str(step)) * t, 10) for t in range(count))
    assert schedules.powers([text]) == (text,)
    if count > 1:
        assert schedules.linear(power) == (pytest.approx(float(str(start))), pytest.approx(float(str(step))))


def test_a_list_of_numbers_is_one_schedule() -> None:
    assert schedules.powers(["1.2", "1.4"]) == ("[1.2,1.4]",)
    assert schedules.powers(["[1.2,1.4]", "1+0.5t"]) == ("[1.2,1.4]", "1+0.5t")
    assert config("evaluate.power=[1,1,1,1,1,2]").evaluate.power == ("[1,1,1,1,1,2]",)
    assert config('evaluate.power=["1.2+0.2t"]').evaluate.power == ("1.2+0.2t",)


def test_schedules_that_are_not_linear_are_recognised() -> None:
    assert schedules.linear((1.0, 1.2, 1.5)) is None
    assert schedules.linear((1.0, 1.2, 1.4004)) == (1.0, pytest.approx(0.2))


@given(st.floats(0.001, 1.0))
def test_thresholds_keep_their_value(theta: float) -> None:
    text = schedules.threshold(str(theta))
    assert schedules.threshold(text) == text
    assert schedules.theta_of(text) == pytest.approx(theta, rel=1e-9)
