"""Keys, presets, versions with defects, and what is refused."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch
import xfw
from xfw.config.structure import structure, unstructure
from xfw_psa import config as configuration
from xfw_psa import model
from xfw_psa.config import MODES, PRESETS, Config, DropoutRates, source_index
from xfw_psa.problems import problems

NOT_SHARED = {"data", "arch", "hidden_layers", "family", "batch_size", "meta_loops"}
NOT_SHARED |= {"init_from", "init_sha256", "share_order"}


def messages(config: Config, *given: str) -> list[str]:
    return [str(each) for each in problems(config, frozenset(given))]


def test_keys_that_may_differ_within_a_block() -> None:
    shared = {each.name for each in attrs.fields(Config) if each.metadata["xfw"].per_trial}
    assert {each.name for each in attrs.fields(Config)} - shared == NOT_SHARED


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_valid_and_survive_a_round_trip(name: str) -> None:
    config = structure(Config, dict(PRESETS[name].values))
    assert structure(Config, unstructure(config)) == config
    assert messages(config) == []


def test_quick_changes_data_network_and_mode_only() -> None:
    assert dict(PRESETS["quick"].values) == {"data": "digits", "arch": "[2*64]", "mode": "hidden"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"batch_size": 0},
        {"meta_loops": 0},
        {"dropout": 1.0},
        {"weight_decay": -1.0},
        {"mode": "hiden"},
        {"arch": "[0*5]"},
        {"family": "mlp"},
        {"hidden_layers": [0]},
    ],
)
def test_bad_value_names_its_key(wrong: dict[str, object]) -> None:
    with pytest.raises(xfw.WrongInput) as raised:
        structure(Config, wrong)
    assert raised.value.exit_code == 2
    assert f"$.{next(iter(wrong))}" in str(raised.value)


@pytest.mark.parametrize(
    ("compat", "family", "mode", "decay", "rates"),
    [
        ("final", "resmlp", "none", 0.0, DropoutRates(0.0, 0.0)),
        ("final", "resmlp", "decay", 1e-4, DropoutRates(0.0, 0.0)),
        ("final", "simplemlp", "dropout", 0.0, DropoutRates(0.1, 0.1)),
        ("resmlp-preliminary", "resmlp", "none", 0.01, DropoutRates(0.0, 0.1)),
        ("resmlp-preliminary", "resmlp", "decay", 1e-4, DropoutRates(0.0, 0.1)),
        ("resmlp-preliminary", "resmlp", "dropout", 0.01, DropoutRates(0.1, 0.1)),
        ("simplemlp-superseded", "simplemlp", "full", 0.01, DropoutRates(0.0, 0.0)),
        ("simplemlp-superseded", "simplemlp", "decay", 1e-4, DropoutRates(0.0, 0.0)),
    ],
)
def test_decay_and_dropout_of_every_version(
    compat: str, family: str, mode: str, decay: float, rates: DropoutRates
) -> None:
    config = Config(compat=compat, family=family, mode=mode)
    assert config.decay == decay
    assert config.rates == rates


def test_preliminary_dropout_is_inside_blocks_only() -> None:
    network = model.build(Config(arch="[1*4,1*6]", compat="resmlp-preliminary"))
    rates = {name: each.p for name, each in network.named_modules() if isinstance(each, torch.nn.Dropout)}
    assert {name: rate > 0 for name, rate in rates.items()} == {
        "layer_stack.2": False,
        "layer_stack.3.blocks.0.layers.2": True,
        "layer_stack.6": False,
        "layer_stack.7.blocks.0.layers.2": True,
    }


@pytest.mark.parametrize("compat", ["final", "resmlp-preliminary"])
def test_all_modes_have_the_same_structure(compat: str) -> None:
    texts = set()
    for mode in MODES:
        network = model.build(Config(arch="[2*4,1*6]", mode=mode, compat=compat))
        texts.add(tuple((name, type(each).__name__) for name, each in network.named_modules()))
    assert len(texts) == 1


def test_version_of_the_other_family_is_refused() -> None:
    assert any("$.compat" in each for each in messages(Config(family="simplemlp", compat="resmlp-preliminary")))


def test_shared_order_is_refused_and_not_ignored() -> None:
    assert any("$.share_order" in each and "not supported" in each for each in messages(Config(share_order=True)))


def test_architecture_and_hidden_layers_together_are_refused() -> None:
    assert any("$.hidden_layers" in each for each in messages(Config(hidden_layers=(8,)), "arch", "hidden_layers"))


def test_unused_options_are_warned_of_only_when_given() -> None:
    assert messages(Config(mode="full")) == []
    given = messages(Config(mode="full"), "weight_decay", "dropout", "num_workers")
    assert len(given) == 3
    assert all(each.startswith("warning: $.") for each in given)
    assert messages(Config(mode="decay"), "weight_decay") == []


def test_linear_classifier_is_warned_of_in_mode_hidden() -> None:
    assert ["no target" in each for each in messages(Config(arch="linear", mode="hidden"))] == [True]


def test_missing_weight_file_is_refused(tmp_path: Path) -> None:
    assert any("no file" in each for each in messages(Config(init_from=str(tmp_path / "none.pt"))))


def test_cells_are_independent_where_modes_are_not_paired() -> None:
    import xfw_psa

    assert list(xfw_psa.select_unpaired_keys(Config())) == []
    assert list(xfw_psa.select_unpaired_keys(Config(pair_modes=False))) == ["arch", "family", "mode"]


def stored(*modes: str, arch: str = "[1*8]") -> list[dict[str, str]]:
    return [{"family": "resmlp", "arch": arch, "mode": mode} for mode in modes]


def test_source_is_the_condition_of_equal_mode() -> None:
    assert source_index(Config(arch="1*8", mode="output"), stored("none", "output")) == 1


def test_source_of_the_only_mode_serves_every_mode() -> None:
    assert source_index(Config(arch="1*8", mode="output"), stored("none")) == 0


def test_named_mode_decides_among_several() -> None:
    assert source_index(Config(arch="1*8", mode="output", resume_from="full"), stored("none", "full")) == 1


def test_unclear_source_names_the_key() -> None:
    with pytest.raises(xfw.WrongInput, match="resume_from"):
        source_index(Config(arch="1*8", mode="output"), stored("none", "full"))


def test_source_without_the_network_names_both() -> None:
    with pytest.raises(xfw.WrongInput) as raised:
        source_index(Config(arch="1*9"), stored("none"))
    assert "[1*9]" in str(raised.value)
    assert "[1*8]" in str(raised.value)


def test_configuration_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys, xfw_psa; print([name for name in ('torch', 'h5py', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert configuration.MODES == MODES
