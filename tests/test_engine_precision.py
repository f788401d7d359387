"""Products in bfloat16, all that is kept in float32: alone, stacked, in company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xfw
from torch import nn
from torch.nn import functional
from xfw import seeds
from xfw.engine.network import initial_model
from xfw.engine.rng import key_words, keyed_order
from xfw.engine.twin import TwinLinear
from xfw.testing.blocks import train_block
from xfw.testing.shapes import LOWERINGS, Config, experiment, load_data, network, run

ROUNDING = 2.0**-8
"""Relative rounding of bfloat16."""

SETTINGS = ["lr=0.05,0.01"]


def step(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, y = batch
    return functional.cross_entropy(model(x), y)


def momentum(**changes: Any) -> Any:
    hooks = {"train_step": step, "build_optimizer": lambda config: xfw.SGD(lr=config.lr, momentum=0.9)}
    return experiment(**(hooks | changes))


@pytest.mark.parametrize("model", ["mlp", "conv", "layernorm"])
def test_a_trial_equals_a_loop_under_autocast(model: str) -> None:
    trained = train_block(momentum(), [f"model={model}"], dtype="bfloat16", strategy="serial", trials=2)
    key = int(f"{seeds.trial_key(1, 1, {}):016x}", 16)
    own = initial_model(lambda: network(Config(model=model)), key)
    update = torch.optim.SGD(own.parameters(), lr=0.05, momentum=0.9)
    x, y = load_data(Config())["train"].tensors
    losses = []
    for number in range(3):
        total = 0.0
        for index in keyed_order(key_words([key], "cpu"), number, 70)[0].split(16):
            update.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = step(own, (x[index], y[index]))
            loss.backward()
            update.step()
            total += loss.item() * len(index)
        losses.append(total / 70)
    assert np.abs(trained.record("epoch", "loss")[:, 1] - losses).max() <= 1e-6


@pytest.mark.parametrize("model", LOWERINGS)
def test_what_is_kept_is_float32_and_only_a_twin_is_stacked(model: str) -> None:
    trained = run(model, "stack", overrides=SETTINGS, dtype="bfloat16")
    assert trained.commit.layout["lowering"] == ("twin" if LOWERINGS[model] == "twin" else "modules")
    kinds = {value.dtype for value in trained.commit.state.values() if value.dtype.kind == "f"}
    assert kinds == {np.dtype(np.float32)}
    single = run(model, "serial", overrides=SETTINGS, dtype="bfloat16").record("epoch", "loss")
    assert np.abs(trained.record("epoch", "loss") - single).max() <= 4 * ROUNDING * single.max()


@pytest.mark.parametrize("model", ["mlp", "residual", "linear", "conv"])
def test_company_changes_no_bit(model: str) -> None:
    together = run(model, "stack", overrides=SETTINGS, dtype="bfloat16", trials=3)
    for place in (0, 5):
        alone = run(model, "stack", overrides=SETTINGS, dtype="bfloat16", trials=3, only=[place])
        assert np.array_equal(alone.parameters()[0], together.parameters()[place])


@pytest.mark.parametrize("strategy", ["serial", "stack"])
def test_products_are_short_and_losses_are_not(strategy: str) -> None:
    seen: set[torch.dtype] = set()

    def spying(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        loss = step(model, batch)
        seen.add(loss.dtype)
        return loss

    short = train_block(momentum(train_step=spying), dtype="bfloat16", strategy=strategy)
    assert torch.bfloat16 not in seen
    assert torch.float32 in seen
    long = train_block(momentum(), strategy=strategy)
    assert not np.array_equal(short.parameters(), long.parameters())


@pytest.mark.parametrize("outputs", [1, 6])
@pytest.mark.parametrize("batch", [5, 16])
def test_a_stacked_layer_rounds_as_a_single_one_under_autocast(batch: int, outputs: int) -> None:
    torch.manual_seed(1)
    layers = [nn.Linear(7, outputs) for _ in range(3)]
    weight_TOI, bias_TO = (torch.stack([getattr(own, n).detach() for own in layers]) for n in ("weight", "bias"))
    targets = torch.zeros_like(weight_TOI), torch.zeros_like(bias_TO)
    x_TBI = torch.randn(3, batch, 7, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = TwinLinear(weight_TOI, bias_TO, *targets)(x_TBI)
    assert found.dtype == torch.bfloat16
    found.float().square().sum().backward()
    for lane, layer in enumerate(layers):
        x = x_TBI[lane].detach().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            expected = layer(x)
        expected.float().square().sum().backward()
        pairs = [(found[lane], expected), (targets[0][lane], layer.weight.grad), (targets[1][lane], layer.bias.grad)]
        for own, other in [*pairs, (x_TBI.grad[lane], x.grad)]:  # type: ignore[index]
            assert other is not None
            assert (own.float() - other.float()).abs().max() <= 3 * ROUNDING * other.float().abs().max()
