"""Stacked replicas against the same replicas one by one: six modes, two trials each (spec, tests 26 and 27)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from xfw.engine.assembly import make_trainer
from xfw.plugins.registry import load_experiment
from xfw.testing.blocks import block_session, train_block

ALL_MODES = ["mode=all", "meta_loops=2", "dropout=0.2"]
NETWORKS = ["arch=[3*8,1*16]", "arch=2*64"]


@pytest.mark.parametrize("family", ["resmlp", "simplemlp"])
@pytest.mark.parametrize("network", NETWORKS)
def test_float64_runs_agree_in_weights_counts_and_decisions(network: str, family: str) -> None:
    keys = [*ALL_MODES, network, f"family={family}"]
    experiment = load_experiment("psa")
    stacked = train_block(experiment, keys, strategy="stack", dtype="float64")
    single = train_block(experiment, keys, strategy="serial", dtype="float64")
    assert stacked.commit.layout["lowering"] == "twin"
    assert np.abs(stacked.parameters() - single.parameters()).max() <= 1e-12
    for variable in ("val_correct", "lkg_correct", "accepted", "ablated_layer", "ablated_unit"):
        assert np.array_equal(stacked.record("epoch", variable), single.record("epoch", variable)), variable


@pytest.mark.parametrize("network", NETWORKS)
def test_float32_gradients_of_one_step_agree_tensor_by_tensor(network: str) -> None:
    session = block_session(load_experiment("psa"), [*ALL_MODES, network])
    gradients = {}
    for strategy in ("stack", "serial"):
        trainer = make_trainer(session.parts, strategy, lambda text: None)
        trainer.gradients(session.epochs[0])
        gradients[strategy] = {name: view.clone() for name, view in trainer.network.gradients.items()}
    for name, expected in gradients["serial"].items():
        flat = expected.flatten(1).double()
        difference = (gradients["stack"][name].flatten(1) - flat).norm(dim=1)
        assert (difference <= 1e-5 * flat.norm(dim=1)).all(), name


def test_float32_accuracy_after_a_loop_agrees_to_three_tenths_of_a_point() -> None:
    keys = ["mode=all", "meta_loops=1", "arch=2*64", "batch_size=30"]  # 40 steps
    experiment = load_experiment("psa")
    correct = [
        train_block(experiment, keys, strategy=each).record("epoch", "val_correct") for each in ("stack", "serial")
    ]
    assert np.abs(correct[0] - correct[1]).max() <= 0.003 * 300


def test_the_plugin_draws_from_no_global_generator() -> None:
    before = torch.get_rng_state()
    train_block(load_experiment("psa"), ["meta_loops=1", "mode=dropout"], trials=1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("arch", ["[1*128,1*2]", "[1*64,1*3]", "[1*7,2*5]", "[2*1]", "[3*18]"])
def test_company_changes_no_bit_where_maps_are_vectors_or_batches_are_odd(arch: str, dtype: str) -> None:
    keys = [f"arch={arch}", "meta_loops=2", "mode=none,hidden", "family=simplemlp"]  # the last batch has 173 images
    experiment = load_experiment("psa")
    together = train_block(experiment, keys, trials=5, dtype=dtype)
    for place in (0, 7):
        alone = train_block(experiment, keys, trials=5, only=[place], dtype=dtype)
        assert np.array_equal(alone.parameters()[0], together.parameters()[place])
