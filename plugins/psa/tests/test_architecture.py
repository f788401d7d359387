"""The grammar, the counts of the paper, and the networks themselves."""

from __future__ import annotations

import math
import re

import pytest
import torch
from xfw_psa import architecture, model
from xfw_psa.ablation import hidden_maps
from xfw_psa.config import Config
from xfw_psa.weights import shapes

# arch, resmlp parameters, maps, hidden targets, simplemlp parameters, hidden targets
COUNTS = [
    ("[1*1]", 809, 4, 2, 805, 1),
    ("[1*16]", 13_274, 4, 32, 12_730, 16),
    ("[1*1024]", 2_913_290, 4, 2_048, 814_090, 1_024),
    ("[1*2048]", 10_020_874, 4, 4_096, 1_628_170, 2_048),
    ("[2*939]", 4_277_155, 6, 3_756, 1_629_175, 1_878),
    ("[4*119]", 208_855, 10, 952, 137_455, 476),
    ("[18*18]", 26_632, 38, 648, 20_134, 324),
    ("[115*115]", 3_159_635, 232, 26_450, 1_612_195, 13_225),
    ("[2048*1]", 8_997, 4_098, 4_096, 4_899, 2_048),
    ("[32*4]", 4_470, 66, 256, 3_810, 128),
    ("[4*4, 2*8]", 3_718, 15, 72, 3_402, 32),
    ("[4*4, 2*8, 1*16]", 4_486, 18, 120, 3_626, 48),
    ("[2*128, 4*64]", 208_714, 15, 1_088, 138_378, 512),
    ("[1*512, 2*256, 4*128, 8*64]", 1_562_186, 35, 4_544, 719_498, 2_048),
    ("[8*32, 1*784]", 1_306_618, 21, 2_864, 66_234, 1_040),
    ("[1*784]", 1_238_730, 3, 784, 623_290, 784),
]

STUDY = [
    *((1, 2**power) for power in range(11, 0, -1)),
    *((2, width) for width in (939, 588, 354, 214, 115, 59, 30, 16, 8, 4)),
    *((4, width) for width in (632, 425, 280, 185, 119, 76, 47, 29, 17)),
    *((side, side) for side in (115, 91, 71, 56, 44, 35)),
    *((side, side) for side in range(32, 0, -1)),
    *((depth, 4) for depth in (632, 425, 280, 185, 119, 76, 47, 29, 17)),
    *((depth, 2) for depth in (939, 588, 354, 214, 115, 59, 30, 16, 8, 4)),
    *((2**power, 1) for power in range(11, 0, -1)),
]


def hidden_targets(arch: str, family: str) -> int:
    config = Config(arch=arch, family=family)
    return sum(config.maps[layer].outputs for layer in hidden_maps(config, config.maps))


@pytest.mark.parametrize(("arch", "residual", "maps", "hidden", "plain", "plain_hidden"), COUNTS)
def test_published_counts(arch: str, residual: int, maps: int, hidden: int, plain: int, plain_hidden: int) -> None:
    stacks = architecture.parse(arch)
    assert architecture.parameter_count(stacks, "resmlp") == residual
    assert len(architecture.linear_maps(stacks, "resmlp")) == maps
    assert hidden_targets(arch, "resmlp") == hidden
    assert architecture.parameter_count(stacks, "simplemlp") == plain
    assert hidden_targets(arch, "simplemlp") == plain_hidden


def test_sums_over_the_study() -> None:
    assert len(STUDY) == 98
    stacks = [architecture.parse(f"{depth}*{width}") for depth, width in STUDY]
    assert sum(architecture.parameter_count(each, "resmlp") for each in stacks) == 36_590_550
    assert sum(architecture.parameter_count(each, "simplemlp") for each in stacks) == 14_189_280


@pytest.mark.parametrize("family", ["resmlp", "simplemlp"])
@pytest.mark.parametrize("arch", ["[1*3]", "[4*4,2*8]", "[8*32,1*784]", "[1*784]", "[2*784,1*5]", "linear"])
def test_maps_name_the_parameters_of_the_built_network(arch: str, family: str) -> None:
    config = Config(arch=arch, family=family)
    built = {name: tuple(values.shape) for name, values in model.build(config).named_parameters()}
    assert built == shapes(config)
    assert sum(math.prod(shape) for shape in built.values()) == architecture.parameter_count(config.stacks, family)


def test_published_names_of_the_parameters() -> None:
    names = list(shapes(Config(arch="[1*4,1*8]")))
    assert names[0] == "layer_stack.0.weight"
    assert names[2:6] == [
        f"layer_stack.3.blocks.0.layers.{part}" for part in ("0.weight", "0.bias", "3.weight", "3.bias")
    ]
    assert names[6] == "layer_stack.4.weight"
    assert names[-2:] == ["layer_stack.8.weight", "layer_stack.8.bias"]
    assert list(shapes(Config(arch="[2*4]", family="simplemlp")))[2::2] == [
        "layer_stack.3.weight",
        "layer_stack.6.weight",
    ]


def test_linear_classifier_has_one_map() -> None:
    assert architecture.parameter_count(architecture.parse("linear"), "resmlp") == 7_850


def test_no_projection_where_the_first_width_is_the_input() -> None:
    assert len(Config(arch="[1*784]").maps) == 3


def test_adjacent_equal_widths_are_one_stack() -> None:
    assert Config(arch="[2*4, 2*4]").arch == Config(arch="4*4").arch == "[4*4]"
    outputs = []
    for arch in ("[2*4, 2*4]", "[4*4]"):
        torch.manual_seed(3)
        outputs.append(model.build(Config(arch=arch))(torch.ones(2, 784)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("text", ["[ 4 * 4 ,2*8 ]", "[4*4,2*8]", " [4*4 , 2*8]"])
def test_blanks_are_allowed_around_every_token(text: str) -> None:
    assert Config(arch=text).arch == "[4*4,2*8]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4*4*4", "malformed segment '4*4*4'"),
        ("[4]", "malformed segment '4'"),
        ("[4*4,]", "malformed segment ''"),
        ("[4*4*4]", "malformed segment '4*4*4'"),
        ("[4*4 2*8]", "malformed segment '4*4 2*8'"),
        ("[0*5]", "malformed segment '0*5'"),
        ("[5*0]", "malformed segment '5*0'"),
        ("[]", "invalid architecture string '[]'"),
        ("[-1*4]", "invalid architecture string '[-1*4]'"),
        ("[a*b]", "invalid architecture string '[a*b]'"),
        ("4*4,2*8", "invalid architecture string '4*4,2*8'"),
        ("[4*4", "invalid architecture string '[4*4'"),
    ],
)
def test_malformed_text_is_quoted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        architecture.parse(text)


def test_hidden_layers_stand_for_the_architecture() -> None:
    assert Config(hidden_layers=(64, 64, 8)).arch == "[2*64,1*8]"


def test_zero_block_passes_what_is_not_negative() -> None:
    block = model.ResidualBlock(4, 0.0)
    for values in block.parameters():
        torch.nn.init.zeros_(values)
    h = torch.tensor([[0.0, 1.5, -2.0, 3.0]])
    assert torch.equal(block(h), torch.tensor([[0.0, 1.5, 0.0, 3.0]]))


def test_residual_block_follows_its_formula() -> None:
    block = model.ResidualBlock(5, 0.0)
    h = torch.randn(3, 5)
    a, b = block.layers[0], block.layers[3]
    u = torch.clamp(h @ a.weight.T + a.bias, min=0)
    assert torch.allclose(block(h), torch.clamp(h + u @ b.weight.T + b.bias, min=0), atol=1e-6)


def test_initial_weights_are_uniform_within_the_inverse_root_of_the_inputs() -> None:
    torch.manual_seed(0)
    network = model.build(Config(arch="[1*1024]"))
    for each in Config(arch="[1*1024]").maps:
        linear = network.get_submodule(each.name)
        bound = 1 / math.sqrt(each.inputs)
        for values in (linear.weight, linear.bias):
            assert values.abs().max() <= bound
        if each.outputs == 1024:
            assert linear.weight.var().item() == pytest.approx(1 / (3 * each.inputs), rel=0.02)
