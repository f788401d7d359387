"""Which neuron is drawn, what becomes zero, and what stays zero while training."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from xfw_psa import ablation, model
from xfw_psa.ablation import Target
from xfw_psa.config import Config

DRAWS = 20_000


def drawn(config: Config) -> Counter[Target]:
    random = np.random.default_rng(11)
    return Counter(target for _ in range(DRAWS) if (target := ablation.draw(config, config.maps, random)))


def units(config: Config, layers: range) -> list[tuple[int, int]]:
    return [(layer, unit) for layer in layers for unit in range(config.maps[layer].outputs)]


def chi_square(counts: list[int], expected: list[float]) -> float:
    return float(stats.chisquare(counts, expected).pvalue)


@pytest.mark.parametrize(
    ("config", "layers", "targets"),
    [
        (Config(arch="[4*4,2*8]", mode="hidden"), range(1, 14), 72),
        (Config(arch="[4*4,2*8]", mode="hidden", hidden_scope="all"), range(14), 76),
        (Config(arch="[4*4,2*8]", mode="hidden", family="simplemlp"), range(6), 32),
    ],
)
def test_hidden_is_uniform_over_the_units_in_scope(config: Config, layers: range, targets: int) -> None:
    counts = drawn(config)
    expected = units(config, layers)
    assert len(expected) == targets
    assert {(each.layer, each.unit) for each in counts} == set(expected)
    found = [counts[Target(layer, unit, column=True)] for layer, unit in expected]
    assert chi_square(found, [DRAWS / targets] * targets) > 0.001


def test_full_draws_the_map_first() -> None:
    config = Config(arch="[4*4,2*8]", mode="full")
    counts = drawn(config)
    expected = units(config, range(15))
    share = [DRAWS / 15 / config.maps[layer].outputs for layer, _ in expected]
    assert chi_square([counts[Target(*unit)] for unit in expected], share) > 0.001


def test_full_by_unit_is_uniform_over_all_units() -> None:
    config = Config(arch="[4*4,2*8]", mode="full", full_sampling="unit")
    counts = drawn(config)
    expected = units(config, range(15))
    assert chi_square([counts[Target(*unit)] for unit in expected], [DRAWS / len(expected)] * len(expected)) > 0.001


def test_output_is_uniform_over_the_ten_output_units() -> None:
    counts = drawn(Config(arch="[1*4]", mode="output"))
    assert {each.layer for each in counts} == {3}
    assert chi_square([counts[Target(3, unit)] for unit in range(10)], [DRAWS / 10] * 10) > 0.001


def test_inner_spares_the_first_map_even_without_a_projection() -> None:
    config = Config(arch="[1*784]", mode="hidden")
    assert {each.layer for each in drawn(config)} == {1}


@pytest.mark.parametrize("scope", ["inner", "all"])
def test_hidden_never_touches_the_output_map(scope: str) -> None:
    config = Config(arch="[1*4]", mode="hidden", hidden_scope=scope)
    assert max(each.layer for each in drawn(config)) == 2


@pytest.mark.parametrize("family", ["resmlp", "simplemlp"])
@pytest.mark.parametrize("scope", ["inner", "all"])
def test_linear_classifier_has_no_hidden_target(family: str, scope: str) -> None:
    config = Config(arch="linear", mode="hidden", family=family, hidden_scope=scope)
    assert ablation.draw(config, config.maps, np.random.default_rng(0)) is None


@pytest.mark.parametrize("mode", ["none", "decay", "dropout"])
def test_controls_have_no_target(mode: str) -> None:
    config = Config(arch="[1*4]", mode=mode)
    assert ablation.draw(config, config.maps, np.random.default_rng(0)) is None


def silence(network: torch.nn.Module, config: Config, target: Target) -> None:
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, index in ablation.zeroed(target, config.maps):
            parameters[name][index] = 0.0


def changed_entries(config: Config, target: Target) -> dict[str, int]:
    network = model.build(config)
    before = {name: values.detach().clone() for name, values in network.named_parameters()}
    silence(network, config, target)
    changed: dict[str, int] = {}
    for name, values in network.named_parameters():
        differs = values.detach() != before[name]
        assert (values.detach()[differs] == 0).all()
        if differs.any():
            changed[name] = int(differs.sum())
    return changed


def test_output_damage_is_one_row_and_one_bias() -> None:
    config = Config(arch="[1*6]", mode="output")
    assert changed_entries(config, Target(3, 2)) == {"layer_stack.4.weight": 6, "layer_stack.4.bias": 1}


def test_full_damage_is_one_row_and_one_bias() -> None:
    config = Config(arch="[1*6]", mode="full")
    assert changed_entries(config, Target(0, 5)) == {"layer_stack.0.weight": 784, "layer_stack.0.bias": 1}


def test_hidden_damage_adds_a_column_of_the_next_map() -> None:
    config = Config(arch="[1*4,1*6]", mode="hidden")
    block, transition = "layer_stack.3.blocks.0.layers", "layer_stack.4"
    inner = changed_entries(config, Target(1, 3, column=True))
    assert inner == {f"{block}.0.weight": 4, f"{block}.0.bias": 1, f"{block}.3.weight": 4}
    outer = changed_entries(config, Target(2, 3, column=True))
    assert outer == {f"{block}.3.weight": 4, f"{block}.3.bias": 1, f"{transition}.weight": 6}


def trained_after(config: Config, target: Target, steps: int = 20) -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    network = model.build(config)
    silence(network, config, target)
    images, labels = torch.randn(64, 784), torch.arange(64) % 10
    update = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        update.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        update.step()
    return {name: values.detach() for name, values in network.named_parameters()}


@pytest.mark.parametrize(
    ("target", "stays"),
    [
        (Target(0, 2), True),  # initial projection
        (Target(1, 2), True),  # inner map A
        (Target(1, 2, column=True), True),  # A row with B column
        (Target(2, 2), False),  # outer map B
        (Target(2, 2, column=True), False),
        (Target(3, 2), True),  # transition
        (Target(6, 2), False),  # output map
    ],
)
def test_permanence_of_damage_in_the_residual_network(target: Target, stays: bool) -> None:
    config = Config(arch="[1*8,1*6]")
    parameters = trained_after(config, target)
    for name, index in ablation.zeroed(target, config.maps):
        assert bool((parameters[name][index] == 0).all()) is stays, name


@pytest.mark.parametrize("column", [False, True])
def test_silenced_hidden_unit_of_the_plain_network_stays_dead(column: bool) -> None:
    config = Config(arch="[2*8]", family="simplemlp")
    target = Target(1, 3, column=column)
    parameters = trained_after(config, target)
    for name, index in ablation.zeroed(target, config.maps):
        assert (parameters[name][index] == 0).all(), name
