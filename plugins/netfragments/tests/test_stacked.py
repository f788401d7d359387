"""The dense step, which a GPU runs, for all trials at once: the same bits as one trial after another."""

from __future__ import annotations

import numpy as np
import pytest
from xfw.plugins.registry import load_experiment
from xfw.testing.blocks import train_block
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
