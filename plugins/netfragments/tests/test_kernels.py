"""The Triton kernels against the tensor operations that they replace; without a GPU Triton's interpreter runs them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from xfw_netfragments import full, lateral
from xfw_netfragments.layer import FEATURES, Dynamics, Layer, Learning, initial_weights

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED or not torch.cuda.is_available() else "cuda"
TINY = Layer(alternatives=2, locality=1)
ON_A_CPU = 3
"""Tests that the interpreter is quick enough for."""

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
compiled = pytest.mark.skipif(DEVICE == "cpu" and not INTERPRETED, reason="needs a CUDA device, or the interpreter")
on_a_gpu = [pytest.mark.gpu, pytest.mark.skipif(DEVICE == "cpu", reason="too slow for the interpreter")]
POWER = (1.2, 1.4)


@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="the other tests run the kernels themselves")
def test_the_kernels_under_tritons_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{ON_A_CPU} passed" in done.stdout, done.stdout


def trials(rng: np.random.Generator, layer: Layer, count: int) -> torch.Tensor:
    shape = (count, *layer.shape)
    weight = np.maximum(rng.random(shape) * (rng.random(shape) < 0.2), initial_weights(layer))
    return torch.from_numpy(weight.astype(np.float32)).to(DEVICE)


def seen(rng: np.random.Generator, count: int, images: int, height: int, width: int) -> torch.Tensor:
    values = (rng.random((count, images, FEATURES, height, width)) < 0.3).astype(np.float32)
    return torch.from_numpy(values * rng.integers(1, 4, values.shape).astype(np.float32) / 2).to(DEVICE)


def with_others(z_NCP: torch.Tensor) -> torch.Tensor:
    """Let other cells than winners act too, as a feedback layer does."""
    return torch.maximum(z_NCP, z_NCP.roll(1, 1))


def one_step(layer: Layer, dynamics: Dynamics, learning: Learning) -> Callable[..., Any]:
    """Return a training step of one trial that returns everything it computes."""

    def step(weight: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        winners = lateral.winners(weight, features, layer)
        activity = lateral.settle(weight, winners, layer, dynamics)
        active = lateral.by_channel(lateral.median(activity.z), winners.channel, layer)
        both = lateral.coincidences(active.unflatten(2, features.shape[2:]), features, layer)
        changed = lateral.change(weight, features, active, layer, learning)
        whole = full.settle_all(weight, features, winners, layer, dynamics)
        others = full.settle_all(weight, features, winners, layer, dynamics, feedback=with_others)
        found = (winners.channel, winners.support, activity.z, activity.support, activity.strength, both, changed)
        return *found, whole.z, whole.support, whole.strength, others.z, others.support

    return step


@compiled
@pytest.mark.parametrize(
    ("layer", "lanes", "images", "height", "width"),
    [
        (TINY, 2, 2, 3, 3),
        (Layer(alternatives=1, locality=2), 1, 1, 2, 4),
        pytest.param(Layer(alternatives=3, locality=2), 3, 2, 5, 9, marks=on_a_gpu),
        pytest.param(Layer(), 10, 1, 32, 32, marks=on_a_gpu),
        pytest.param(Layer(), 2, 5, 64, 64, marks=on_a_gpu),
    ],
)
def test_a_step_by_kernels_has_the_bits_of_tensor_operations(
    layer: Layer, lanes: int, images: int, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(7)
    weight, features = trials(rng, layer, lanes), seen(rng, lanes, images, height, width)
    step = torch.vmap(one_step(layer, Dynamics(0.5, POWER), Learning()))
    if INTERPRETED:
        from xfw_netfragments import kernels as interpreted

        monkeypatch.setattr(interpreted, "CELLS", 4)  # else all positions of so small an image are searched at once
    found = {}
    for kernels in (False, True):
        monkeypatch.setattr(lateral, "has_kernels", lambda _weight, answer=kernels: answer)
        found[kernels] = step(weight, features)
    assert found[True][2].any()
    for operations, kernels in zip(found[False], found[True], strict=True):
        assert operations.shape == kernels.shape
        assert torch.equal(operations, kernels)


@compiled
def test_a_trial_alone_has_the_bits_of_one_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    weight, features = trials(rng, TINY, 1)[0], seen(rng, 2, 1, 3, 3)
    monkeypatch.setattr(lateral, "has_kernels", lambda _weight: True)
    step = one_step(TINY, Dynamics(0.5, POWER[:1]), Learning())
    stacked = torch.vmap(step, (None, 0))(weight, features)
    for lane in range(2):
        for alone, together in zip(step(weight, features[lane]), stacked, strict=True):
            assert torch.equal(alone, together[lane])
