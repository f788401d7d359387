"""The dense step, which a GPU runs, for all trials at once: the same bits as one trial after another."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from xfw.plugins.registry import load_experiment
from xfw.testing.blocks import train_block
from xfw_netfragments import outputs
from xfw_netfragments.config import S2, Config
from xfw_netfragments.layer import FEATURES, Dynamics, initial_weights
from xfw_netfragments.model import Fragments

SHORT = ["train.epochs=1", "data.train=6", "evaluate.noise=[]", "evaluate.line_interrupt=[]", "evaluate.samples=1"]


@pytest.mark.parametrize("activation", ["0.5", "bernoulli"])
def test_stacked_trials_learn_what_they_learn_one_by_one(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fragments, "host", property(lambda self: False))
    experiment = load_experiment("netfragments")
    how = {"preset": "net_fragments", "trials": 2}
    overrides = [*SHORT, f"s2.activation={activation}"]
    stacked = train_block(experiment, overrides, strategy="stack", **how)
    single = train_block(experiment, overrides, strategy="serial", **how)
    assert stacked.commit.layout["lowering"] == "vmap"
    assert np.array_equal(stacked.parameters(), single.parameters())
    assert not np.array_equal(stacked.parameters()[0], stacked.parameters()[1])


@pytest.mark.parametrize("at_once", [1, 2, 3, 10, 100])
def test_parts_of_images_and_trials_together_have_the_bits_of_a_cpu(at_once: int) -> None:
    rng = np.random.default_rng(2)
    config = Config(s2=S2(alternatives=3, locality=2, timesteps=3))
    shape = (3, *config.layer.shape)
    weights = np.maximum(rng.random(shape) * (rng.random(shape) < 0.1), initial_weights(config.layer)).astype(
        np.float32
    )
    features = list((rng.random((3, 5, FEATURES, 7, 9)) < 0.2).astype(np.float32))
    uniform = list(rng.random((3, 5, 3, FEATURES, 63), np.float32))
    dynamics = [Dynamics(theta, (1.2, 1.4, 1.6)) for theta in (0.3, None, 0.7)]
    function = partial(outputs._densely, config, dynamics, "strength", at_once)
    stacked = outputs.over_trials(function, at_once, torch.from_numpy(weights), features, uniform)
    for lane in range(3):
        own = outputs._on_host(config, dynamics, "strength", weights[lane], features[lane], uniform[lane])
        assert own[1].z.any()
        assert not np.array_equal(own[0].z, own[1].z)
        for (z, strength), expected in zip(stacked, own, strict=True):
            assert np.array_equal(z[lane].numpy(), expected.z)
            assert np.array_equal(strength[lane].numpy(), expected.strength)
