"""A fast way is trusted after it has done what single models do, and a model's own hooks and state keep their meaning.

Tolerances: float64, whole runs of a few steps by SGD agree to 1e-12.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import xfw
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from xfw.engine.dropout import KeyedDropout, RngHolder
from xfw.engine.rng import Rng, key_words
from xfw.testing.blocks import Trained, block_session, train_block
from xfw.testing.shapes import experiment

TOLERANCE = 1e-12


class Net(nn.Module):
    """A chain of two maps with whatever a test does in between."""

    def __init__(self, between: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.stem, self.head, self.between = nn.Linear(12, 5), nn.Linear(5, 3), between
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.calls, self.alpha = 0, 1.0

    def forward(self, x: torch.Tensor, flag: bool = False) -> torch.Tensor:
        h = self.between(self, torch.relu(self.stem(x)))
        logits: torch.Tensor = self.head(h - h.mean(0) if flag else h)
        return logits


def plain(model: Any, h: torch.Tensor) -> torch.Tensor:
    return h


def plain_step(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, y = batch
    return functional.cross_entropy(model(x), y)


def trained(
    strategy: str, between: Callable[[Any, torch.Tensor], torch.Tensor] = plain, *, how: Any = None, **hooks: Any
) -> Trained:
    """Train three trials for two passes of one label each, by SGD in float64."""
    changes: dict[str, Any] = {
        "build_model": lambda config: Net(between),
        "build_optimizer": lambda config: xfw.SGD(lr=config.lr),
        "plan_passes": lambda: [xfw.Pass(16, label="first"), xfw.Pass(16, label="second", observe_every=2)],
        "train_step": plain_step,
    }
    made = experiment(**(changes | hooks))
    return train_block(made, strategy=strategy, dtype="float64", **({"trials": 3} | (how or {})))


def agree(*arguments: Any, **hooks: Any) -> Trained:
    """Train by ``stack`` and by ``serial``, compare everything, and return the stacked block."""
    stacked, single = trained("stack", *arguments, **hooks), trained("serial", *arguments, **hooks)
    for name, expected in single.commit.state.items():
        assert np.abs(stacked.commit.state[name].astype(float) - expected).max(initial=0) <= TOLERANCE, name
    for variable in ("loss", "correct"):
        found, expected = stacked.record("epoch", variable), single.record("epoch", variable)
        assert np.abs(found - expected).max() <= TOLERANCE, variable
    return stacked


def test_an_evaluation_that_names_an_axis_leaves_the_twin() -> None:
    block = agree(lambda model, h: h if model.training else torch.softmax(h, dim=1))
    assert block.commit.layout["lowering"] == "twin, vmap"
    assert any("'correct' differs" in line and "evaluation of 70 examples" in line for line in block.log)


@pytest.mark.parametrize(
    "path",
    [
        lambda model, x, pass_: model(x, True) if pass_.label == "second" else model(x),
        lambda model, x, pass_: model(x, flag=True) if pass_.label == "second" else model(x),
        lambda model, x, pass_: model(x) * (model.head.weight.sum() if pass_.label == "second" else 1),
        lambda model, x, pass_: model(x) if len(x) == 16 else model(x, True),
    ],
    ids=["flag", "keyword", "attribute", "short batch"],
)
def test_a_path_that_only_some_steps_take_is_rehearsed_before_the_first_of_them(path: Callable[..., Any]) -> None:
    def train_step(model: Any, batch: tuple[torch.Tensor, ...], pass_: xfw.Pass) -> torch.Tensor:
        x, y = batch
        return functional.cross_entropy(path(model, x, pass_), y)

    block = agree(train_step=train_step)
    assert block.commit.layout["lowering"] == "twin, vmap"


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda model, h: h / h.shape[0], "forward uses shape"),
        (lambda model, h: h * (1 if h.dim() < 9 else 2), "forward uses TensorBase.dim"),
        (lambda model, h: h if h.max() < 100 else h / h.max(), "forward uses TensorBase.__bool__"),
        (lambda model, h: h - h[:100].mean(-1, keepdim=True), "forward uses TensorBase.__getitem__"),
        (lambda model, h: torch.stack([row * 2 for row in h]), "forward uses"),
        (lambda model, h: h - h.mean(0), "differs from the single model's"),
    ],
)
def test_a_twin_asks_nothing_of_tensors_that_hold_all_trials(between: Callable[..., Any], reason: str) -> None:
    block = agree(between)
    assert any("stacked twin: refused" in line and reason in line for line in block.log)


def test_an_evaluation_is_judged_by_what_the_model_returns_too() -> None:
    """Its sums alone are counts here, which agree by chance."""

    def evaluate_step(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
        x, y = batch
        return {"correct": (model(x).argmax(1) == y).sum() * 0}

    block = agree(lambda model, h: h if model.training else h - h.mean(0), evaluate_step=evaluate_step)
    assert any("'output 0 of the model' differs" in line for line in block.log)


def test_a_trial_alone_takes_the_way_that_it_takes_among_others() -> None:
    for between in (plain, lambda model, h: h / (1 + h.norm()), lambda model, h: h * model.alpha):
        ways = [trained("stack", between, how={"trials": n}).commit.layout["lowering"] for n in (1, 2, 5)]
        assert len(set(ways)) == 1


def test_what_a_fast_way_would_leave_wrong_in_a_buffer_is_seen() -> None:
    def between(model: Any, h: torch.Tensor) -> torch.Tensor:
        model.steps = model.steps + 1  # another tensor in its place, which vmap loses
        return h

    block = agree(between)
    assert block.commit.layout["lowering"] == "modules"
    assert (block.commit.state["buffers/steps"] == 2 * 5 + 2 * 1).all()  # five steps a pass, and one evaluation


def test_a_counter_in_python_is_seen_and_named() -> None:
    def between(model: Any, h: torch.Tensor) -> torch.Tensor:
        model.calls += 1
        return h * (1 if model.calls <= 7 else 0.5)

    block = agree(between)
    assert block.commit.layout["lowering"] == "modules"
    assert any("'calls' of the model or its code changes from step to step" in line for line in block.log)


def test_a_counter_outside_the_model_is_seen() -> None:
    seen = {"steps": 0}

    def train_step(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        seen["steps"] += 1
        return plain_step(model, batch)

    assert trained("stack", train_step=train_step).commit.layout["lowering"] == "modules"


def test_a_number_that_differs_between_trials_need_not_be_a_buffer_to_be_right() -> None:
    class Scaled(Net):
        def __init__(self, alpha: float) -> None:
            super().__init__(lambda model, h: h * model.alpha)
            self.alpha = alpha

    hooks = {"build_model": lambda config: Scaled(config.lr)}
    made = experiment(**hooks, train_step=plain_step)
    lanes = {"overrides": ["lr=0.05,0.01,0.02"], "dtype": "float64", "trials": 1}
    single, stacked = (train_block(made, strategy=name, **lanes) for name in ("serial", "stack"))
    assert np.abs(single.parameters() - stacked.parameters()).max() <= TOLERANCE
    assert stacked.commit.layout["lowering"] == "modules"


def halve(parameter: torch.Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.mul_(0.5)


def with_gradient_hook(model: Net) -> None:
    mask = torch.zeros(3, 5)
    mask[:2] = torch.rand(2, 5) > 0.5
    model.head.weight.register_hook(lambda gradient: gradient * mask)


HOOKS: dict[str, Callable[[Net], Any]] = {
    "gradient": with_gradient_hook,
    "accumulated gradient": lambda model: model.stem.bias.register_post_accumulate_grad_hook(halve),
    "forward": lambda model: model.stem.register_forward_hook(lambda module, args, out: out + model.head.bias.sum()),
    "forward pre": lambda model: model.head.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,)),
    "backward": lambda model: model.head.register_full_backward_hook(lambda module, inner, outer: (inner[0] * 2,)),
    "backward pre": lambda model: model.head.register_full_backward_pre_hook(lambda module, outer: (outer[0] * 2,)),
    "pruned": lambda model: prune.random_unstructured(model.head, "weight", amount=0.5),
}


def by_hand(strategy_key: int, add: Callable[[Net], Any]) -> dict[str, np.ndarray]:
    """Train trial 0 by a plain loop, with the hook that ``add`` sets."""
    from xfw import seeds
    from xfw.engine.network import initial_model
    from xfw.engine.rng import keyed_order
    from xfw.testing.shapes import Config, load_data

    def build() -> Net:
        model = Net(plain)
        add(model)
        return model

    key = seeds.trial_key(strategy_key, 0, {})
    model = initial_model(build, key).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x, y = load_data(Config())["train"].tensors
    for number in range(2):
        for index in keyed_order(key_words([key], "cpu"), number, len(x))[0].split(16):
            optimizer.zero_grad()
            plain_step(model, (x[index].double(), y[index])).backward()
            optimizer.step()
    return {name: p.detach().numpy() for name, p in [*model.named_parameters(), *model.named_buffers()]}


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_acts_as_in_a_plain_loop(name: str) -> None:
    def build(config: Any) -> Net:
        model = Net(plain)
        HOOKS[name](model)
        return model

    expected, without = by_hand(1, HOOKS[name]), by_hand(1, lambda model: None)
    assert any(not np.array_equal(without.get(path), array) for path, array in expected.items())
    for strategy in ("serial", "stack"):
        block = trained(strategy, build_model=build)
        row = block.parameters()[0]
        for path, shape, offset in block.commit.layout["parameters"]:
            own = row[offset : offset + int(np.prod(shape))].reshape(shape)
            assert np.abs(own - expected[path]).max() <= TOLERANCE, (strategy, path)
    assert any("stack: not used" in line and "hook" in line for line in block.log)
    assert block.commit.layout["lowering"].startswith("modules")


# --- what a step returns -------------------------------------------------------------------------------------


def by_itself(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    loss = plain_step(model, batch)
    names = [name for name, _ in model.named_parameters()]
    for name, gradient in zip(names, torch.autograd.grad(loss, list(model.parameters())), strict=True):
        with torch.no_grad():
            model.get_parameter(name).sub_(0.05 * gradient)
    return {"loss": loss.detach()}


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_step_that_updates_by_itself_may_record_its_loss(strategy: str) -> None:
    own = trained(strategy, train_step=by_itself, build_optimizer=lambda config: xfw.AdamW(lr=1.0, weight_decay=0.5))
    assert np.abs(own.parameters() - trained("serial").parameters()).max() <= TOLERANCE
    assert np.abs(own.record("epoch", "loss") - trained("serial").record("epoch", "loss")).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda loss: loss.detach(), "a loss without gradients"),
        (lambda loss: (loss.detach(), {}), "a loss without gradients"),
        (lambda loss: (loss, {"loss": loss.detach()}), r"\(loss, metrics\) with a metric 'loss'"),
        (lambda loss: loss.expand(3), r"the loss has shape \(3,\)"),
        (lambda loss: [loss], "returned a list"),
    ],
)
@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_result_that_means_nothing_is_refused(strategy: str, output: Callable[..., Any], message: str) -> None:
    with pytest.raises(xfw.UserError, match=message):
        trained(strategy, train_step=lambda model, batch: output(plain_step(model, batch)))


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: float(torch.rand(()))])
@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_draw_from_any_global_generator_is_refused(strategy: str, draw: Callable[[], float]) -> None:
    with pytest.raises(xfw.UserError, match="global generator"):
        trained(strategy, train_step=lambda model, batch: plain_step(model, batch) * (1 + draw()))


# --- what a network may be -----------------------------------------------------------------------------------


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.index = nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)


class Growing(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("memory", torch.zeros(3 if config.lr > 0.02 else 4))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda config: nn.LazyLinear(3), "parameter 'weight' has no shape yet"),
        (lambda config: Whole(), "parameter 'index' is of type torch.int64"),
        (lambda config: Growing(config), r"different networks \(first difference: memory"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_network_that_no_arena_can_hold_is_refused_by_name(build: Callable[..., Any], message: str) -> None:
    with pytest.raises(xfw.UserError, match=message):
        block_session(experiment(build_model=build), ["lr=0.05,0.01"])


def test_a_dropout_layer_that_is_called_twice_draws_twice() -> None:
    site = KeyedDropout("dropout/x", [0.5], RngHolder(), torch.device("cpu")).single().train()
    zero, x = torch.zeros((), dtype=torch.int64), torch.ones(1000)
    for _ in range(2):
        site.holder.current = Rng(key_words([1], "cpu")[0], zero, zero)
        first, second = site(x), site(x)
        assert not torch.equal(first, second)
    site.holder.current = Rng(key_words([1], "cpu")[0], zero, zero)
    assert torch.equal(site(x), first)


def test_a_dropout_layer_in_place_changes_what_it_was_given() -> None:
    site = KeyedDropout("dropout/x", [0.5], RngHolder(), torch.device("cpu"), inplace=True).single().train()
    site.holder.current = Rng(key_words([1], "cpu")[0], torch.tensor(0), torch.tensor(0))
    x = torch.ones(100)
    assert torch.equal(site(x), x)
    assert (x == 0).any()


def test_a_rate_that_changes_is_refused() -> None:
    def train_step(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        model[2].p = 0.5
        return plain_step(model, batch)

    with pytest.raises(xfw.UserError, match="the rate of dropout layer '2' was changed"):
        train_block(experiment(train_step=train_step), ["rate=0.1"], strategy="serial")
