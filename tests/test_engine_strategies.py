"""Every strategy computes what a plain loop over single models computes.

Tolerances: in float64 one step's gradients and whole short runs agree to 1e-12 (rounding of a few hundred operations
on numbers of order one); in float32 a trial's bits are compared with the same trial's in other company.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import xfw
from torch import nn
from torch.nn import functional
from xfw.engine.dropout import KeyedDropout, RngHolder
from xfw.engine.rng import Rng, key_words
from xfw.engine.strategy import choose
from xfw.engine.twin import _affine, refusal
from xfw.testing.blocks import train_block
from xfw.testing.shapes import LOWERINGS, Config, experiment, load_data, network, python_branch, run, train_step

TOLERANCE = 1e-12


@pytest.mark.parametrize("model", LOWERINGS)
def test_stacked_trials_equal_single_ones_in_float64(model: str) -> None:
    settings = ["lr=0.05,0.01", "rate=0,0.3"]
    stacked = run(model, "stack", overrides=settings, dtype="float64")
    single = run(model, "serial", overrides=settings, dtype="float64")
    assert stacked.commit.layout["lowering"] == LOWERINGS[model]
    for name, expected in single.commit.state.items():
        assert np.abs(stacked.commit.state[name].astype(float) - expected).max() <= TOLERANCE, name
    assert np.array_equal(stacked.record("epoch", "correct"), single.record("epoch", "correct"))


def plain_loop(key: str, lr: float) -> np.ndarray:
    """Train one trial of ``mlp`` without dropout the ordinary way, with the same keyed order and noise."""
    from xfw.engine.network import initial_model
    from xfw.engine.rng import Rng, key_words, keyed_order

    words = key_words([int(key, 16)], "cpu")
    model = initial_model(lambda: network(Config(lr=lr)), int(key, 16)).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    x, y = load_data(Config())["train"].tensors
    for epoch in range(3):
        order = keyed_order(words, epoch, len(x))[0]
        for step, index in enumerate(order.split(16)):
            rng = Rng(words[0], torch.tensor(epoch), torch.tensor(step))
            optimizer.zero_grad()
            train_step(model, (x[index].double(), y[index]), rng).backward()
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_trial_equals_an_ordinary_training_loop(strategy: str) -> None:
    from xfw import seeds

    trained = run("mlp", strategy, dtype="float64", trials=3)
    slots = trained.commit.layout["parameters"]
    for trial in range(3):
        row = trained.parameters()[trial]
        found = np.concatenate([row[offset : offset + int(np.prod(shape))] for _, shape, offset in slots])
        expected = plain_loop(f"{seeds.trial_key(1, trial, {}):016x}", 0.05)
        assert np.abs(found - expected).max() <= TOLERANCE


@pytest.mark.parametrize("strategy", ["stack", "serial"])
@pytest.mark.parametrize("model", ["residual", "layernorm", "conv"])
def test_company_changes_no_bit_of_a_trial(model: str, strategy: str) -> None:
    settings = ["lr=0.05,0.01", "rate=0,0.3"]
    together = run(model, strategy, overrides=settings, trials=3)
    for place in (0, 7, 11):
        alone = run(model, strategy, overrides=settings, trials=3, only=[place])
        assert np.array_equal(alone.parameters()[0], together.parameters()[place])
        assert np.array_equal(alone.record("epoch", "loss")[:, 0], together.record("epoch", "loss")[:, place])


@pytest.mark.parametrize("outputs", [1, 2, 3, 18])
def test_company_changes_no_bit_of_an_evaluation(outputs: int) -> None:
    x, weight, bias = torch.randn(300, 784), torch.randn(20, outputs, 784), torch.randn(20, outputs)
    together = _affine(x, weight, bias)
    for lane in (0, 7, 19):
        alone = _affine(x, weight[lane : lane + 1], bias[lane : lane + 1])
        assert torch.equal(alone[0], together[lane])


def test_idle_lanes_are_neither_stored_nor_felt() -> None:
    padded, exact = run("mlp", "stack", trials=2, width=5), run("mlp", "stack", trials=2)
    assert padded.record("epoch", "loss").shape == (3, 2)
    assert np.array_equal(padded.record("epoch", "loss"), exact.record("epoch", "loss"))
    assert padded.status == ["done", "done"]


@pytest.mark.parametrize("model", ["mlp", "layernorm"])
def test_dropout_drops_its_rate_and_scales_the_rest(model: str) -> None:
    from xfw.engine.dropout import KeyedDropout, RngHolder
    from xfw.engine.rng import Rng, key_words

    holder = RngHolder()
    site = KeyedDropout("dropout/x", [0.1, 0.0], holder, torch.device("cpu")).train()
    zero = torch.zeros((), dtype=torch.int64)
    holder.current = Rng(key_words([1, 2], "cpu"), zero, zero)
    x = torch.ones(2, 1000, 100)
    y = site(x)
    assert abs(float((y[0] == 0).double().mean()) - 0.1) < 0.005
    assert set(y[0].unique().tolist()) == {0.0, float(np.float32(1 / 0.9))}
    assert torch.equal(y[1], x[1])
    assert torch.equal(site.eval()(x), x)


def test_what_vmap_refuses_runs_as_single_models_and_says_why() -> None:
    trained = train_block(experiment(train_step=python_branch))
    assert trained.commit.layout["lowering"] == "modules, twin"  # the evaluation has no such branch
    assert any("vmap: refused" in line and "data-dependent control flow" in line for line in trained.log)


def test_an_evaluation_may_look_into_a_model_whose_training_does_not() -> None:
    def evaluate_step(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
        x, y = batch
        right = (model(x).argmax(1) == y).sum()
        return {"correct": right, "loss": model.linear.weight.square().sum()}

    found = {
        strategy: train_block(
            experiment(evaluate_step=evaluate_step), ["model=scaled"], strategy=strategy, dtype="float64"
        )
        for strategy in ("stack", "serial")
    }
    assert found["stack"].commit.layout["lowering"] == "twin, vmap"
    assert np.array_equal(found["stack"].record("epoch", "correct"), found["serial"].record("epoch", "correct"))


def test_a_step_that_moves_the_global_generator_is_an_error() -> None:
    def noisy(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x, y = batch
        return functional.cross_entropy(model(x + torch.randn_like(x)), y)

    with pytest.raises(xfw.UserError, match="global generator"):
        train_block(experiment(train_step=noisy))


def test_an_error_of_the_plugin_is_shown_as_it_is() -> None:
    def broken(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return model(batch[0]).mean() + undefined_name  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(NameError, match="undefined_name"):
        train_block(experiment(train_step=broken))


class Counter(nn.Module):
    """Hebbian-like: an update in place, without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(12), requires_grad=False)


def hebbian(model: Any, batch: tuple[torch.Tensor, ...], rng: Any) -> Mapping[str, torch.Tensor]:
    x, _ = batch
    kept = rng.bernoulli("cells", 0.5, (12,))
    model.weight.add_(x.mean(0) * kept)
    return {"moved": kept.double().mean()}


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_an_update_without_gradients_happens_in_place(strategy: str) -> None:
    def observe(block: Any, metrics: Mapping[str, torch.Tensor]) -> None:
        block.record("epoch", loss=metrics["moved"], correct=[0] * block.size)

    made = experiment(
        build_model=lambda config: Counter(),
        build_optimizer=lambda config: None,
        train_step=hebbian,
        on_epoch_end=observe,
    )
    trained = train_block(made, strategy=strategy, dtype="float64", trials=3)
    reference = train_block(made, strategy="serial", dtype="float64", trials=1)
    assert np.abs(trained.parameters()[0] - reference.parameters()[0]).max() <= TOLERANCE
    assert np.abs(trained.parameters()).sum() > 0
    assert (trained.commit.layout["lowering"] == "vmap") == (strategy == "stack")


def test_one_diverging_trial_harms_no_other() -> None:
    wild = ["lr=1e30,0.05"]
    made = experiment(build_optimizer=lambda config: xfw.SGD(lr=config.lr))
    for strategy in ("stack", "serial"):
        together = train_block(made, wild, strategy=strategy, trials=1)
        calm = train_block(made, wild, strategy=strategy, trials=1, only=[1])
        assert together.status == ["diverged", "done"]
        assert np.array_equal(together.parameters()[1], calm.parameters()[0])
        assert sum("loss is not finite (first seen in epoch 1, step " in line for line in together.log) == 1


def test_the_rule_depends_on_the_model_and_the_device_only() -> None:
    narrow, wide = nn.Sequential(nn.Linear(784, 18), nn.Linear(18, 10)), nn.Linear(784, 1024)
    conv = nn.Conv2d(1, 2, 3)
    assert [choose(each, "cpu") for each in (narrow, wide, conv)] == ["stack", "pool", "pool"]
    assert [choose(each, "cuda") for each in (narrow, wide, conv)] == ["stack", "stack", "streams"]
    assert choose(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), "cuda:1") == "stack"
    own = nn.ParameterList([nn.Parameter(torch.ones(3))])
    assert [choose(own, device) for device in ("cuda", "mps", "cpu")] == ["stack", "serial", "pool"]
    assert [choose(nn.Sequential(nn.LayerNorm(3), each), "cuda") for each in (nn.GRU(3, 3), nn.Embedding(3, 3))] == [
        "streams",
        "streams",
    ]
    assert choose(wide, "cpu", "stack") == "stack"
    with pytest.raises(xfw.UserError, match="unknown strategy 'stak'"):
        choose(wide, "cpu", "stak")


def test_a_dropout_rate_of_one_leaves_nothing() -> None:
    site = KeyedDropout("site", [1.0], RngHolder(), torch.device("cpu")).single()
    site.holder.current = Rng(key_words([1], "cpu")[0], torch.tensor(0), torch.tensor(0))
    assert not site(torch.ones(4)).any()


class Tied(nn.Module):
    """Two maps with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 12)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(torch.tanh(self.first(x)))
        return y[:, :3]


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_shared_weight_is_one_in_every_strategy(strategy: str) -> None:
    from xfw.testing.blocks import block_session

    gradients = {}
    for way in (strategy, "serial"):
        session = block_session(experiment(build_model=lambda config: Tied()), strategy=way, dtype="float64")
        session.start(None)
        model = session.block.module(1)
        assert model.get_parameter("second.weight") is model.get_parameter("first.weight")
        session.trainer.gradients(session.epochs[0])
        gradients[way] = session.trainer.network.gradients["first.weight"].clone()
    assert gradients["serial"].abs().min() > 0
    assert (gradients[strategy] - gradients["serial"]).abs().max() <= TOLERANCE


def test_shared_weights_have_no_twin() -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert "shares a parameter" in refusal(tied)
