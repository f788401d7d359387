"""Weight files of the original's layout as a starting point."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import xfw
from xfw_psa import model, weights
from xfw_psa.config import Config
from xfw_psa.problems import problems

CONFIG = Config(arch="[1*4]")


def state() -> dict[str, torch.Tensor]:
    return model.build(CONFIG).state_dict()


def test_bare_state_has_no_loops_behind_it(tmp_path: Path) -> None:
    saved = state()
    torch.save(saved, tmp_path / "bare.pt")
    loaded = weights.read(tmp_path / "bare.pt", CONFIG)
    assert (loaded.loops_done, loaded.bounty_loop) == (0, 0)
    assert all(np.array_equal(loaded.parameters[name], each.numpy()) for name, each in saved.items())


def test_checkpoint_of_the_original_brings_its_loops(tmp_path: Path) -> None:
    path = tmp_path / "mnist_lkg.safetensors"  # in truth a pickled dictionary, as the original writes it
    torch.save({"model_state": state(), "global_meta_loops": 7, "bounty_meta_loop": 5}, path)
    loaded = weights.read(path, CONFIG)
    assert (loaded.loops_done, loaded.bounty_loop) == (7, 5)


def test_truncated_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    torch.save(state(), path)
    path.write_bytes(content := path.read_bytes()[:500])
    with pytest.raises(xfw.WrongInput, match=r"cut\.pt"):
        weights.read(path, CONFIG)
    assert path.read_bytes() == content


def test_pickled_code_is_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "code.pt"
    torch.save({"model_state": Path("x")}, path)
    with pytest.raises(xfw.WrongInput, match="cannot read"):
        weights.read(path, CONFIG)


def test_other_network_is_refused_with_both_shapes(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "small.pt")
    with pytest.raises(xfw.WrongInput, match=r"shape \(4, 784\), expected \(5, 784\)"):
        weights.read(tmp_path / "small.pt", Config(arch="[1*5]"))
    with pytest.raises(xfw.WrongInput, match="missing"):
        weights.read(tmp_path / "small.pt", Config(arch="[2*4]"))


def test_wrong_weight_file_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "small.pt")
    found = problems(Config(arch="[1*5]", init_from=str(tmp_path / "small.pt")), frozenset())
    assert [each.path for each in found] == ["$.init_from"]
    assert problems(Config(arch="[1*4]", init_from=str(tmp_path / "small.pt")), frozenset()) == []


def test_bfloat16_is_read_as_the_float32_of_equal_value(tmp_path: Path) -> None:
    halved = {name: each.bfloat16() for name, each in state().items()}
    torch.save(halved, tmp_path / "half.pt")
    loaded = weights.read(tmp_path / "half.pt", CONFIG)
    assert all(np.array_equal(loaded.parameters[name], each.float().numpy()) for name, each in halved.items())


@pytest.mark.parametrize(("value", "kind"), [(torch.zeros(4, 784, dtype=torch.int8), r"torch\.int8"), (3, "int")])
def test_weights_that_are_no_floating_point_numbers_are_refused(tmp_path: Path, value: object, kind: str) -> None:
    torch.save(state() | {"layer_stack.0.weight": value}, tmp_path / "odd.pt")
    with pytest.raises(xfw.WrongInput, match=rf"layer_stack\.0\.weight is {kind}, expected a tensor of floating-point"):
        weights.read(tmp_path / "odd.pt", CONFIG)


def test_the_path_becomes_absolute_and_the_content_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state(), tmp_path / "small.pt")
    monkeypatch.chdir(tmp_path)
    config = Config(arch="[1*4]", init_from="small.pt")
    assert config.init_from == str(tmp_path / "small.pt")
    assert config.init_sha256 == hashlib.sha256((tmp_path / "small.pt").read_bytes()).hexdigest()


def test_a_file_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.pt"
    torch.save(state(), path)
    planned = Config(arch="[1*4]", init_from=str(path))
    weights.check_unchanged(planned)
    torch.save(state(), path)
    with pytest.raises(xfw.WrongInput, match="is not the file that the run was planned with"):
        weights.check_unchanged(planned)
    found = problems(planned, frozenset())
    assert ["planned with" in each.message for each in found] == [True]
    path.unlink()
    with pytest.raises(xfw.WrongInput, match="cannot read the weights"):
        weights.check_unchanged(planned)
