"""Dropout is active where and when the paper says."""

from __future__ import annotations

import pytest
import torch
from xfw_psa import model
from xfw_psa.config import MODES, Config


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "dropout"])
@pytest.mark.parametrize("family", ["resmlp", "simplemlp"])
def test_training_equals_evaluation_outside_dropout(mode: str, family: str) -> None:
    network = model.build(Config(arch="[2*8,1*6]", mode=mode, family=family))
    images = torch.randn(5, 784)
    assert torch.equal(network.train()(images), network.eval()(images))


@pytest.mark.parametrize("family", ["resmlp", "simplemlp"])
def test_dropout_follows_every_projection_and_sits_inside_every_block(family: str) -> None:
    network = model.build(Config(arch="[2*8,1*6]", mode="dropout", dropout=0.3, family=family))
    rates = [each.p for each in network.modules() if isinstance(each, torch.nn.Dropout)]
    assert rates == [0.3] * (5 if family == "resmlp" else 3)


def test_dropout_is_never_active_in_evaluation() -> None:
    network = model.build(Config(arch="[2*8]", mode="dropout", dropout=0.9)).eval()
    images = torch.randn(5, 784)
    assert torch.equal(network(images), network(images))
