"""The plan of a run: groups of equal shape, blocks, seeds, estimates; and how it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import torch
import xfw
from xfw.config.resolve import condition_configs, resolve
from xfw.config.structure import flatten, unstructure
from xfw.data.sources import Sources
from xfw.experiment import Experiment
from xfw.manifest import Condition, Execution, Manifest, Member
from xfw.plan.build import Plan, Request, build, groups_of, plan
from xfw.plan.source import source_condition, stored_configs
from xfw.plan.table import as_data, as_text, block_row, size, time_in_words, total_seconds
from xfw.plan.trials import Only
from xfw.seeds import trial_key
from xfw.terminal import duration
from xfw.testing.plugins import make_experiment


@attrs.frozen
class Config:
    width: int = xfw.key(4, help="hidden units", ge=1)
    lr: float = xfw.key(0.1, help="rate", gt=0, per_trial=True)
    mode: str = xfw.key("none", help="mode", choices=("none", "full", "output"), per_trial=True)


def build_model(config: Config) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, config.width), torch.nn.ReLU(), torch.nn.Linear(config.width, 2))


def load_data(config: Config) -> Mapping[str, xfw.Dataset]:
    return {"train": xfw.Dataset((torch.zeros(50, 3),)), "test": xfw.Dataset((torch.zeros(7, 3),))}


def demo(**hooks: Any) -> Experiment:
    made = {
        "build_model": build_model,
        "load_data": load_data,
        "train_step": lambda model, batch: model(batch[0]).sum(),
        "plan_passes": lambda config: [xfw.Pass(batch_size=20), xfw.Pass(batch_size=20, steps=4)],
        **hooks,
    }
    return make_experiment(Config, "xfw", **made)


def execution(**changes: Any) -> Execution:
    return attrs.evolve(Execution("cpu", "float32", False, "auto", 1, 2, ""), **changes)


def planned(*overrides: str, experiment: Experiment | None = None, **changes: Any) -> Plan:
    experiment = experiment or demo()
    request = attrs.evolve(Request(execution=execution(), seed=5), **changes)
    return plan(experiment, resolve(experiment, overrides=overrides), request)


def members(manifest: Manifest) -> list[list[tuple[int, int]]]:
    return [[(each.condition, each.trial) for each in block.members] for block in manifest.blocks]


def test_keys_marked_per_trial_share_a_group_and_others_do_not() -> None:
    configs = [Config(width=4), Config(width=5), Config(width=4, lr=1), Config(width=5, mode="full")]
    assert groups_of(Config, [flatten(unstructure(config)) for config in configs]) == [[0, 2], [1, 3]]


def test_blocks_hold_conditions_of_equal_shape_in_canonical_order() -> None:
    made = planned("width=4,5", "mode=none,full", trials=3, execution=execution(jobs=1))
    assert members(made.manifest) == [
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)],
        [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)],
    ]
    assert [(each.condition, each.trial) for each in made.manifest.members()][:4] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_shapes_between_other_shapes_find_their_group() -> None:
    made = planned("mode=none,full", "width=4,5", execution=execution(jobs=1))
    assert members(made.manifest) == [[(0, 0), (2, 0)], [(1, 0), (3, 0)]]


def test_trials_are_dealt_over_the_jobs() -> None:
    assert [len(block.members) for block in planned(trials=10).manifest.blocks] == [5, 5]


def test_steps_and_parameters_are_those_of_one_trial() -> None:
    made = planned("width=4")
    assert made.manifest.blocks[0].steps == 3 + 4
    assert made.estimates[0].parameters == 3 * 4 + 4 + 4 * 2 + 2


def test_the_first_kept_trial_of_a_filter_is_that_of_the_whole_plan() -> None:
    whole = planned("mode=none,full", trials=10).manifest
    alone = planned("mode=none,full", trials=10, only=Only({"mode": ("full",)}, (7,))).manifest
    assert members(alone) == [[(0, 7)]]
    assert alone.conditions == (Condition(0, {"mode": "full"}),)
    wanted = next(each for each in whole.members() if (each.condition, each.trial) == (1, 7))
    assert alone.members()[0].key == wanted.key


def test_the_hash_is_that_of_the_kept_conditions() -> None:
    kept = planned("mode=none,full", only=Only({"mode": ("full",)})).manifest
    assert kept.config_hash == planned("mode=full").manifest.config_hash


def test_random_keys_are_paired_unless_the_experiment_says_otherwise() -> None:
    paired = planned("mode=none,full").manifest.members()
    assert paired[0].key == paired[1].key == f"{trial_key(5, 0, {}):016x}"
    unpaired = planned(
        "mode=none,full", experiment=demo(select_unpaired_keys=lambda config: ["mode"])
    ).manifest.members()
    expected = [trial_key(5, 0, {"mode": text}) for text in ('"none"', '"full"')]
    assert [int(each.key, 16) for each in unpaired] == expected


def test_planning_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    planned("width=4,5")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def small_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which the estimate of at most 30 trials fits."""
    one = planned().manifest.blocks[0].memory
    fixed = 2 * one - planned(block_size=2, trials=2).manifest.blocks[0].memory
    monkeypatch.setattr("xfw.plan.build.total_memory", lambda device: fixed + 30 * (one - fixed))


@pytest.mark.usefixtures("small_device")
def test_a_device_gets_equal_parts_where_memory_ends() -> None:
    made = planned(trials=64, execution=execution(device="cuda")).manifest
    assert [(len(block.members), block.width) for block in made.blocks] == [(22, 22), (22, 22), (20, 22)]


@pytest.mark.usefixtures("small_device")
def test_a_filter_on_a_device_keeps_the_width_of_the_plan() -> None:
    request = {"trials": 10, "execution": execution(device="cuda")}
    made = planned("mode=none,full", only=Only({"mode": ("full",)}, (7,)), **request).manifest
    assert [(block.width, members(made)[0]) for block in made.blocks] == [(20, [(0, 7)])]


def test_an_unknown_strategy_of_the_device_is_refused() -> None:
    with pytest.raises(xfw.UserError, match="unknown strategy 'stak'"):
        planned(execution=execution(strategy="stak"))


def test_missing_data_stop_the_plan() -> None:
    def refuse(config: Config) -> Mapping[str, xfw.Dataset]:
        raise xfw.WrongInput("data set 'mnist' was not found")

    with pytest.raises(xfw.WrongInput, match="was not found"):
        planned(experiment=demo(load_data=refuse))


def test_every_shape_loads_its_data_through_sources_that_read_once() -> None:
    seen = []

    def load(config: Config, sources: Any) -> Mapping[str, xfw.Dataset]:
        seen.append(sources.load("digits"))
        return load_data(config)

    planned("width=4,5", experiment=demo(load_data=load))
    assert len(seen) == 2
    assert seen[0] is seen[1]


def test_the_manifest_holds_what_fixes_the_run() -> None:
    manifest = build(demo(), resolve(demo(), overrides=["lr=0.5"]), Request(execution(), 9, command=("xfw", "run")))
    assert (manifest.run, manifest.seed, manifest.stages, manifest.command) == ("", 9, ("train",), ("xfw", "run"))
    assert set(manifest.versions) == {"xfw", "torch", "numpy", "python"}
    assert manifest.provenance["lr"] == "command line"
    assert condition_configs(manifest, Config) == (Config(lr=0.5),)


# --- showing it -------------------------------------------------------------------------------------------


def test_plain_data_hold_every_block_and_trial() -> None:
    data = json.loads(json.dumps(as_data(planned("mode=none,full", trials=2))))
    assert data["schema"] == 1
    assert data["conditions"] == [{"mode": "none"}, {"mode": "full"}]
    assert [len(block["members"]) for block in data["blocks"]] == [2, 2]
    assert data["blocks"][0]["members"][0].keys() == {"condition", "trial", "key"}


def test_the_table_names_conditions_trials_and_cost() -> None:
    made = planned("mode=none,full", trials=2, execution=execution(jobs=1))
    assert as_text(made).splitlines()[0] == "xfw: 4 trials in 1 block"
    assert len(as_text(made).splitlines()) == 4
    assert block_row(made, made.manifest.blocks[0])[:6] == ["0", "mode=none,full", "0-1", "stack", "4", "26"]


def test_long_lists_of_conditions_are_cut() -> None:
    made = planned("lr=" + ",".join(str(number) for number in range(1, 10)), execution=execution(jobs=1))
    assert block_row(made, made.manifest.blocks[0])[1] == "lr=1.0,2.0,3.0,4.0,5.0,6.0,… (9)"


def test_the_time_of_a_run_deals_blocks_over_the_jobs() -> None:
    made = planned(trials=3, block_size=1)
    estimates = [attrs.evolve(made.estimates[0], seconds=seconds) for seconds in (10.0, 20.0, 5.0)]
    assert total_seconds(attrs.evolve(made, estimates=tuple(estimates))) == 20.0


@pytest.mark.parametrize(
    ("seconds", "least", "text"), [(None, 5.0, "?"), (None, 7200.0, "≥ 2 h 00 min"), (11.0, 7200.0, "11 s")]
)
def test_a_time_is_said_where_it_is_known_and_else_what_it_is_at_least(
    seconds: float | None, least: float, text: str
) -> None:
    assert time_in_words(seconds, least) == text


def test_a_network_that_no_machine_holds_is_refused_before_it_is_built() -> None:
    with pytest.raises(xfw.UserError, match=r"training one network takes at least [\d,]+ GiB"):
        planned("width=999999999999")


def test_sizes_that_exhaust_memory_while_planning_are_an_error_of_the_user() -> None:
    experiment = demo(plan_passes=lambda: [xfw.Pass(batch_size=1)] * 2**62)
    with pytest.raises(xfw.UserError, match="a size is too large"):
        planned(experiment=experiment)


def test_too_many_trials_are_refused_before_they_are_made() -> None:
    with pytest.raises(xfw.UserError, match=r"99,999,999,999 trials \(1 condition × .* expected at most 100,000"):
        planned(trials=99_999_999_999)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "< 1 s"), (59, "59 s"), (61, "1 min 01 s"), (3600 * 5 + 120, "5 h 02 min")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 B"), (2048, "2.0 KiB"), (3 * 2**30, "3.0 GiB"), (2**41, "2.0 TiB")]
)
def test_sizes_have_binary_units(count: int, text: str) -> None:
    assert size(count) == text


# --- another run to start from ----------------------------------------------------------------------------


def test_the_only_stored_condition_is_the_source() -> None:
    assert source_condition(demo(), Config(mode="full"), planned("mode=none").manifest) == 0


def test_the_condition_equal_in_the_swept_keys_is_the_source() -> None:
    stored = planned("mode=none,full", "lr=0.1,0.2").manifest
    assert source_condition(demo(), Config(mode="full", lr=0.2, width=9), stored) == 3


def test_a_condition_that_is_not_stored_is_refused_with_those_that_are() -> None:
    stored = planned("mode=none,full").manifest
    with pytest.raises(xfw.UserError, match="has no condition mode=output") as error:
        source_condition(demo(), Config(mode="output"), stored)
    assert "it has: mode=none; mode=full" in str(error.value)


def test_the_experiment_may_choose_the_source() -> None:
    stored = planned("mode=none,full").manifest
    experiment = demo(choose_source=lambda config, stored: [each["mode"] for each in stored].index("full"))
    assert source_condition(experiment, Config(mode="output"), stored) == 1


def test_stored_configurations_are_whole() -> None:
    assert stored_configs(planned("mode=none,full", "lr=0.5").manifest) == [
        {"width": 4, "lr": 0.5, "mode": "none"},
        {"width": 4, "lr": 0.5, "mode": "full"},
    ]


def test_members_are_plain_values() -> None:
    assert planned().manifest.members() == [Member(0, 0, f"{trial_key(5, 0, {}):016x}")]


def test_data_are_cut_once_for_all_shapes() -> None:
    made: list[str] = []

    def cut() -> dict[str, xfw.Dataset]:
        made.append("cut")
        return dict(load_data(Config()))

    experiment = demo(load_data=lambda config, sources: sources.derived("sets", cut))
    assert len(planned("width=4,5,6", experiment=experiment, execution=execution(jobs=1)).manifest.blocks) == 3
    assert made == ["cut"]
    assert Sources().derived("sets", cut).keys() == Sources().derived("sets", cut).keys()
    assert made == ["cut"] * 3


@pytest.mark.parametrize(
    ("hook", "answer"),
    [
        ("plan_passes", lambda config: [xfw.Pass(batch_size=20, steps=1 + int(config.lr))]),
        ("declare_records", lambda config: xfw.Records(default=config.mode)),
        ("define_stages", lambda config: [xfw.Stage("train", "train"), xfw.Stage("probe", config.mode, cells=1)]),
    ],
)
def test_a_key_that_changes_what_a_block_has_once_cannot_be_per_trial(hook: str, answer: Any) -> None:
    key = "lr" if hook == "plan_passes" else "mode"
    with pytest.raises(xfw.UserError, match=rf"{hook}: .* where only {key} differs, which is marked per_trial"):
        planned("width=4", "lr=1,3" if key == "lr" else "mode=none,full", experiment=demo(**{hook: answer}))
