"""The ratchet on a stand-in for the block: ordinary networks, hand-made scores, no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xfw
from xfw_psa import model, ratchet
from xfw_psa.config import Config


class Fake:
    """A block of stacked parameters whose validation scores are dealt from a list."""

    def __init__(self, configs: Sequence[Config], scores: Sequence[Sequence[int]] = ()) -> None:
        self.configs, self.size, self.members = list(configs), len(configs), list(configs)
        self.dtype = torch.float32
        self.device, self.epoch, self.first_epoch, self.epochs, self.conditions = "cpu", 0, 0, 3, 1
        networks = [model.build(config) for config in configs]
        names = [name for name, _ in networks[0].named_parameters()]
        self.parameters = {
            name: torch.stack([network.get_parameter(name).detach() for network in networks]) for name in names
        }
        self.values: dict[str, torch.Tensor] = {}
        self.snapshots: dict[str, dict[str, torch.Tensor]] = {}
        self.scores = [torch.tensor(each) for each in scores]
        self.broken = torch.zeros(self.size, dtype=torch.int64)
        self.finite = torch.ones(self.size, dtype=torch.bool)
        self.rows: list[dict[str, Any]] = []
        self.arrays: dict[str, torch.Tensor] = {}
        self.warnings: list[str] = []
        self.resets = 0
        labels = SimpleNamespace(tensors=(None, torch.tensor([0, 1, 1, 2])))
        self.data = {"validation": labels}

    def snapshot(self, name: str, where: torch.Tensor | None = None) -> None:
        kept = self.snapshots.setdefault(name, {key: each.clone() for key, each in self.parameters.items()})
        for key, values in self.parameters.items():
            chosen = slice(None) if where is None else where
            kept[key][chosen] = values[chosen]

    def restore(self, name: str, where: torch.Tensor | None = None) -> None:
        assert where is None
        for key, values in self.snapshots[name].items():
            self.parameters[key].copy_(values)

    def load_snapshot(self, name: str, lane: int, values: Mapping[str, np.ndarray]) -> None:
        for key, array in values.items():
            self.snapshots[name][key][lane] = torch.from_numpy(array)

    def reset_optimizer(self) -> None:
        self.resets += 1

    def assign(self, entries: Sequence[tuple[int, str, tuple[Any, ...]]]) -> None:
        for lane, name, index in entries:
            self.parameters[name][lane][index] = 0.0

    def evaluate(self, dataset: str) -> dict[str, torch.Tensor]:
        return {"correct": self.scores.pop(0), "broken": self.broken}

    def record(self, stream: str, **values: Any) -> None:
        self.rows.append({name: torch.as_tensor(each).tolist() for name, each in values.items()})

    def array(self, name: str, values: torch.Tensor) -> None:
        self.arrays[name] = values

    def generator(self, lane: int, purpose: str, counter: int) -> np.random.Generator:
        return np.random.default_rng([lane, counter])

    def tensor(self, values: Sequence[Any]) -> torch.Tensor:
        return torch.tensor(values)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def train(block: Fake) -> None:
    """Stand in for an epoch: move every parameter by an amount that depends on the loop."""
    for values in block.parameters.values():
        values += 0.001 * (block.first_epoch + block.epoch + 1)


def run(block: Fake, loops: int, source: Sequence[Any] | None = None) -> None:
    ratchet.start(block, source)
    for block.epoch in range(loops):
        ratchet.damage(block)
        train(block)
        ratchet.select(block, {"loss": torch.zeros(block.size)})


def column(block: Fake, name: str) -> list[list[Any]]:
    return [row[name] for row in block.rows]


def copy(values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: each.clone() for name, each in values.items()}


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


SMALL = Config(arch="[1*4]", mode="none")


def test_only_strictly_better_copies_are_accepted() -> None:
    block = Fake([SMALL, SMALL], scores=[[5, 0], [5, 3], [4, 3], [6, 9]])
    run(block, 4)
    assert column(block, "accepted") == [[True, True], [False, True], [False, False], [True, True]]
    assert column(block, "lkg_correct") == [[5, 0], [5, 3], [5, 3], [6, 9]]
    assert column(block, "val_correct") == [[5, 0], [5, 3], [4, 3], [6, 9]]
    assert block.values["bounty_loop"].tolist() == [4, 4]


def test_only_accepted_trials_copy_their_parameters() -> None:
    block = Fake([SMALL, SMALL], scores=[[5, 5], [5, 6]])
    ratchet.start(block, None)
    ratchet.damage(block)
    train(block)
    ratchet.select(block, {"loss": torch.zeros(2)})
    first = copy(block.snapshots["lkg"])
    block.epoch = 1
    ratchet.damage(block)
    train(block)
    ratchet.select(block, {"loss": torch.zeros(2)})
    for name, values in block.snapshots["lkg"].items():
        assert torch.equal(values[0], first[name][0])
        assert torch.equal(values[1], block.parameters[name][1])


def test_loop_after_a_rejection_starts_from_the_best_network() -> None:
    block = Fake([SMALL], scores=[[5], [4]])
    run(block, 2)
    best = copy(block.snapshots["lkg"])
    block.epoch = 2
    ratchet.damage(block)
    assert equal(block.parameters, best)


def test_optimizer_is_reset_in_every_loop() -> None:
    block = Fake([SMALL], scores=[[1], [2], [3]])
    run(block, 3)
    assert block.resets == 3


def test_loop_that_is_not_finite_is_rejected_and_flagged() -> None:
    block = Fake([SMALL, SMALL], scores=[[5, 5], [9, 9]])
    block.finite = torch.tensor([False, True])
    run(block, 2)
    assert column(block, "accepted") == [[False, True], [False, True]]
    assert column(block, "lkg_correct") == [[-1, 5], [-1, 9]]
    assert column(block, "finite") == [[False, True]] * 2


@pytest.mark.parametrize("mode", ["full", "hidden", "output"])
def test_first_loop_is_undamaged_and_all_others_are_damaged(mode: str) -> None:
    block = Fake([Config(arch="[1*4]", mode=mode)], scores=[[1], [2], [2], [1]])
    run(block, 4)
    layers = [row[0] for row in column(block, "ablated_layer")]
    assert layers[0] == -1
    assert min(layers[1:]) >= 0


def test_damage_leaves_the_best_network_alone() -> None:
    block = Fake([Config(arch="[1*4]", mode="hidden")], scores=[[1]])
    run(block, 1)
    best = copy(block.snapshots["lkg"])
    block.epoch = 1
    ratchet.damage(block)
    assert equal(block.snapshots["lkg"], best)
    assert not equal(block.parameters, best)


def test_recorded_target_is_the_one_that_was_silenced() -> None:
    config = Config(arch="[1*4]", mode="output")
    block = Fake([config], scores=[[1], [2]])
    run(block, 1)
    block.epoch = 1
    ratchet.damage(block)
    name = config.maps[-1].name
    row = int((block.parameters[f"{name}.weight"][0] == 0).all(dim=1).nonzero())
    ratchet.select(block, {"loss": torch.zeros(1)})
    assert (block.rows[-1]["ablated_layer"], block.rows[-1]["ablated_unit"]) == ([3], [row])


def test_modes_of_one_block_are_damaged_on_their_own() -> None:
    modes = ("none", "hidden", "dropout", "output")
    block = Fake([Config(arch="[1*4]", mode=mode) for mode in modes], scores=[[1] * 4, [2] * 4])
    run(block, 2)
    assert [layer >= 0 for layer in block.rows[1]["ablated_layer"]] == [False, True, False, True]


def test_final_arrays_are_those_of_the_best_network() -> None:
    block = Fake([SMALL], scores=[[5], [7], [6], [3]])
    run(block, 3)
    block.epochs = 3
    best = copy(block.snapshots["lkg"])
    ratchet.finish(block)
    stored = {name: each.tolist() for name, each in block.arrays.items() if not name.startswith("lkg/")}
    assert stored == {
        "test_correct": [3],
        "bounty_loop": [2],
        "loops_done": [3],
        "parameters": [3230],
        "n_val": [4],
        "z_val": [50.0],
    }
    assert equal({name.removeprefix("lkg/"): each for name, each in block.arrays.items() if "lkg/" in name}, best)


def test_network_whose_outputs_are_not_finite_is_rejected_and_flagged() -> None:
    block = Fake([SMALL, SMALL], scores=[[3, 3]])
    block.broken = torch.tensor([0, 4])
    run(block, 1)
    assert column(block, "accepted") == [[True, False]]
    assert column(block, "finite") == [[True, False]]
    assert block.values["lkg_correct"].tolist() == [3, -1]


def test_weights_are_kept_where_one_trial_of_a_block_asks() -> None:
    configs = [Config(arch="[1*4]", keep_weights=keep) for keep in (False, None, True)]
    block = Fake(configs, scores=[[1, 1, 1], [1, 1, 1]])
    block.conditions = 3
    run(block, 1)
    ratchet.finish(block)
    assert any(name.startswith("lkg/") for name in block.arrays)


@pytest.mark.parametrize(
    ("keep", "conditions", "kept"), [(None, 1, True), (None, 2, False), (True, 2, True), (False, 1, False)]
)
def test_weights_are_kept_for_runs_of_one_condition(keep: bool | None, conditions: int, kept: bool) -> None:
    block = Fake([Config(arch="[1*4]", keep_weights=keep)], scores=[[1], [1]])
    block.conditions = conditions
    run(block, 1)
    ratchet.finish(block)
    assert any(name.startswith("lkg/") for name in block.arrays) is kept


def stored(block: Fake, lane: int, score: int, loops: int = 3) -> SimpleNamespace:
    weights = {name: values[lane].numpy() for name, values in block.snapshots["lkg"].items()}
    return SimpleNamespace(
        run="psa-1",
        trial=lane,
        arrays={"loops_done": loops, "bounty_loop": 2},
        last=lambda stream: {"lkg_correct": score},
        weights=lambda snapshot: weights,
    )


def test_start_from_a_run_takes_over_network_score_and_loops() -> None:
    first = Fake([SMALL, SMALL], scores=[[5, 5], [6, 7], [4, 4]])
    run(first, 3)
    block = Fake([SMALL, SMALL], scores=[[6, 7], [6, 8]])
    run(block, 1, [stored(first, 0, 6), stored(first, 1, 7)])
    assert block.first_epoch == 3
    assert block.warnings == []
    assert column(block, "accepted") == [[False, True]]
    assert block.values["bounty_loop"].tolist() == [2, 4]


def test_score_that_is_not_the_stored_one_is_warned_of() -> None:
    first = Fake([SMALL], scores=[[5]])
    run(first, 1)
    block = Fake([SMALL], scores=[[4]])
    ratchet.start(block, [stored(first, 0, 5)])
    assert block.warnings == ["stored best scores [5] are now measured as [4]"]
    assert block.values["lkg_correct"].tolist() == [4]


def test_first_loop_after_a_start_from_a_run_is_damaged() -> None:
    config = Config(arch="[1*4]", mode="output")
    first = Fake([config], scores=[[5]])
    run(first, 1)
    block = Fake([config], scores=[[5], [6]])
    run(block, 1, [stored(first, 0, 5, loops=1)])
    assert block.rows[0]["ablated_layer"] == [3]


def test_first_loop_is_spared_where_the_original_behaviour_is_asked_for() -> None:
    config = Config(arch="[1*4]", mode="output", resume_undamaged=True)
    first = Fake([config], scores=[[5]])
    run(first, 1)
    block = Fake([config], scores=[[5], [6], [7]])
    run(block, 2, [stored(first, 0, 5, loops=1)])
    assert column(block, "ablated_layer") == [[-1], [3]]


def test_source_without_weights_names_the_key_that_keeps_them() -> None:
    block = Fake([SMALL], scores=[[5]])
    empty = SimpleNamespace(
        run="psa-1", trial=0, arrays={"loops_done": 1, "bounty_loop": 1}, last=None, weights=lambda snapshot: None
    )
    with pytest.raises(xfw.UserError, match="keep_weights"):
        ratchet.start(block, [empty])
