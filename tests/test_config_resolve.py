"""Layers of a configuration, their order and origin, sweeps, and what an experiment objects to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import xfw
from hypothesis import given
from hypothesis import strategies as st
from xfw.config.named import NamedRun
from xfw.config.resolve import SourceConfig, condition_configs, resolve
from xfw.experiment import Experiment
from xfw.manifest import Condition, Execution, Manifest
from xfw.testing.plugins import make_experiment


def doubled(text: str) -> str:
    return text.strip("[]")


@attrs.frozen
class Train:
    epochs: int = xfw.key(3, help="passes", ge=1)


@attrs.frozen
class Config:
    lr: float = xfw.key(1e-3, help="rate", gt=0, per_trial=True)
    mode: str = xfw.key("none", help="mode", choices=("none", "full", "output"), per_trial=True)
    arch: str = xfw.key("1*8", help="network", converter=doubled)
    widths: tuple[int, ...] | None = xfw.key(None, help="widths", ge=1)
    start: str | None = xfw.key(None, help="where to start", inherited=False)
    train: Train = attrs.field(factory=Train)

    def __attrs_post_init__(self) -> None:
        if self.widths:
            object.__setattr__(self, "arch", "-".join(map(str, self.widths)))


PRESETS = {
    "quick": xfw.Preset({"lr": 0.5, "train.epochs": 1}, help="fast", trials=2),
    "paper": xfw.Preset({"mode": "none,full", "arch": "[9*9]"}, help="slow", trials=10),
}


def demo(config_class: type = Config, **hooks: Any) -> Experiment:
    return make_experiment(config_class, **{"define_presets": lambda: PRESETS, **hooks})


def named(**changes: Any) -> NamedRun:
    return NamedRun(**{"name": "mine", "plugin": "demo", "folder": Path(), **changes})


def problems(*overrides: str, **given: Any) -> str:
    with pytest.raises(xfw.WrongInput) as error:
        resolve(demo(), overrides=overrides, **given)
    return str(error.value)


def manifest_of(resolved: Any) -> Manifest:
    return Manifest(
        run="demo-20260101-000000-0000",
        experiment="demo",
        preset=resolved.preset,
        stages=("train",),
        created="",
        command=(),
        seed=1,
        config=resolved.common,
        config_hash=resolved.config_hash,
        provenance=resolved.provenance,
        axes=resolved.axes,
        conditions=resolved.conditions,
        blocks=(),
        execution=Execution("cpu", "float32", False, "auto", 1, 1, ""),
        versions={},
    )


def test_the_preset_quick_is_the_default() -> None:
    resolved = resolve(demo())
    assert resolved.configs == (Config(lr=0.5, train=Train(epochs=1)),)
    assert (resolved.preset, resolved.trials) == ("quick", 2)


def test_an_experiment_without_presets_starts_from_its_defaults() -> None:
    resolved = resolve(make_experiment(Config))
    assert resolved.configs == (Config(),)
    assert (resolved.preset, resolved.trials) == ("", 1)


def test_each_layer_goes_before_those_below_and_is_remembered() -> None:
    run = named(preset="quick", overrides={"lr": 0.25, "arch": "2*2"})
    resolved = resolve(demo(), named=run, overrides=["arch=3*3"])
    assert resolved.configs == (Config(lr=0.25, arch="3*3", train=Train(epochs=1)),)
    assert resolved.provenance == {
        "lr": "experiments.toml",
        "mode": "default",
        "arch": "command line",
        "widths": "default",
        "start": "default",
        "train.epochs": "preset quick",
    }
    assert resolved.given == {"lr", "arch"}


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(xfw.UserError, match="did you mean 'paper'") as error:
        resolve(demo(), preset="papr")
    assert error.value.exit_code == 2


def test_the_preset_may_be_given_as_a_key() -> None:
    assert resolve(demo(), overrides=["preset=paper"]).preset == "paper"


def test_two_presets_are_refused() -> None:
    with pytest.raises(xfw.UserError, match="two presets"):
        resolve(demo(), preset="quick", overrides=["preset=paper"])


def test_the_command_line_preset_goes_before_that_of_the_named_run() -> None:
    assert resolve(demo(), preset="paper", named=named(preset="quick")).preset == "paper"


def test_conditions_are_the_product_of_the_swept_keys_in_the_order_given() -> None:
    resolved = resolve(demo(), overrides=["lr=1,2", "mode=none,full"])
    assert resolved.axes == ("lr", "mode")
    assert [dict(condition.values) for condition in resolved.conditions] == [
        {"lr": 1.0, "mode": "none"},
        {"lr": 1.0, "mode": "full"},
        {"lr": 2.0, "mode": "none"},
        {"lr": 2.0, "mode": "full"},
    ]
    assert [condition.index for condition in resolved.conditions] == [0, 1, 2, 3]


def test_common_values_leave_the_axes_out() -> None:
    resolved = resolve(demo(), overrides=["lr=1,2"])
    assert resolved.common == {"mode": "none", "arch": "1*8", "train": {"epochs": 1}}


def test_a_preset_may_sweep_and_an_override_may_end_the_sweep() -> None:
    assert resolve(demo(), preset="paper").axes == ("mode",)
    assert resolve(demo(), preset="paper", overrides=["mode=output"]).axes == ()


def test_a_nested_key_may_be_swept() -> None:
    resolved = resolve(demo(), overrides=["train.epochs=1..3"])
    assert [config.train.epochs for config in resolved.configs] == [1, 2, 3]
    assert "train" not in resolved.common


def test_points_equal_after_conversion_are_one() -> None:
    assert len(resolve(demo(), overrides=["arch=[2*2],2*2"]).conditions) == 1


def test_a_key_derived_from_a_swept_one_becomes_an_axis() -> None:
    resolved = resolve(demo(), overrides=["widths=[1,2],[3]"])
    assert resolved.axes == ("widths", "arch")
    assert [condition.values["arch"] for condition in resolved.conditions] == ["1-2", "3"]


def test_a_sweep_of_a_named_run_may_be_a_list_or_a_text() -> None:
    run = named(sweep={"mode": "all", "lr": [1, 0.5]}, overrides={"train": {"epochs": 4}})
    resolved = resolve(demo(), named=run)
    assert len(resolved.conditions) == 6
    assert resolved.common["train"] == {"epochs": 4}


def test_lists_of_a_list_key_sweep_when_nested() -> None:
    assert len(resolve(demo(), named=named(sweep={"widths": [[1], [2, 3]]})).conditions) == 2
    assert len(resolve(demo(), named=named(overrides={"widths": [2, 3]})).conditions) == 1


def test_files_of_points_in_a_named_run_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "points.txt").write_text("1*1\n2*2\n", encoding="utf-8")
    assert len(resolve(demo(), named=named(folder=tmp_path, sweep={"arch": "@points.txt"})).conditions) == 2


def test_trials_come_from_the_named_run_before_the_preset() -> None:
    assert resolve(demo(), named=named(trials=5)).trials == 5


def test_fewer_than_one_trial_is_refused() -> None:
    with pytest.raises(xfw.UserError, match="at least 1 trial"):
        resolve(demo(), named=named(trials=0))


def test_problems_of_all_layers_are_reported_together() -> None:
    text = problems("lr=0", "mode", named=named(overrides={"train": {"epochs": 0}, "widht": 1}))
    for part in ("$.lr: found 0", "-s: found 'mode'", "$.train.epochs: found 0", "unknown key 'widht'"):
        assert part in text
    assert text.startswith("experiment 'demo': wrong configuration")


def test_a_missing_required_key_is_named_with_the_option_that_sets_it() -> None:
    @attrs.frozen
    class Needs:
        steps: int = xfw.key(help="steps", ge=1)

    with pytest.raises(xfw.WrongInput, match=r"(?s)\$\.steps: missing, expected a whole number >= 1.*-s steps=VALUE"):
        resolve(make_experiment(Needs))


def test_what_the_experiment_objects_to_stops_the_run_once() -> None:
    def check(config: Config, given: frozenset[str]) -> list[xfw.Problem]:
        return [xfw.Problem("$.lr", "is too small for this network")] if "lr" in given else []

    with pytest.raises(xfw.WrongInput) as error:
        resolve(demo(check_config=check), overrides=["lr=1e-9", "mode=all"])
    assert str(error.value).count("too small") == 1


def test_a_warning_counts_only_if_every_condition_has_it() -> None:
    def check(config: Config) -> list[xfw.Problem]:
        return [xfw.Problem("$.lr", "has no effect", level="warning")] if config.mode != "full" else []

    experiment = demo(check_config=check)
    assert resolve(experiment, overrides=["mode=none,output"]).warnings == ("warning: $.lr: has no effect",)
    assert resolve(experiment, overrides=["mode=all"]).warnings == ()


def test_seeds_do_not_enter_the_hash_and_values_do() -> None:
    first = resolve(demo(), overrides=["lr=1"])
    assert first.config_hash == resolve(demo(), preset="quick", overrides=["lr=1.0"]).config_hash
    assert first.config_hash != resolve(demo(), overrides=["lr=2"]).config_hash


def test_the_hash_of_one_condition_does_not_depend_on_how_it_was_written() -> None:
    assert resolve(demo(), overrides=["lr=0.5"]).config_hash == resolve(demo()).config_hash


def test_stored_conditions_give_the_same_configurations() -> None:
    resolved = resolve(demo(), overrides=["mode=all", "train.epochs=1,2", "widths=[1,2]"])
    assert condition_configs(manifest_of(resolved), Config) == resolved.configs
    assert condition_configs(manifest_of(resolved), Config, [4, 1]) == (resolved.configs[4], resolved.configs[1])


def test_only_the_conditions_that_are_wanted_are_read() -> None:
    manifest = manifest_of(resolve(demo(), overrides=["mode=none,full"]))
    odd = attrs.evolve(manifest, conditions=(manifest.conditions[0], Condition(1, {"mode": "gone"})))
    assert len(condition_configs(odd, Config, [0])) == 1
    with pytest.raises(xfw.WrongInput, match=r"\$\.mode: found 'gone'"):
        condition_configs(odd, Config)


@given(
    st.lists(st.floats(1e-6, 10), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(["none", "full", "output"]), min_size=1, unique=True),
    st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
)
def test_every_sweep_is_stored_and_read_again(rates: list[float], modes: list[str], epochs: list[int]) -> None:
    overrides = [f"lr={','.join(map(repr, rates))}", f"mode={','.join(modes)}"]
    resolved = resolve(demo(), overrides=[*overrides, f"train.epochs={','.join(map(str, epochs))}"])
    assert len(resolved.configs) == len(rates) * len(modes) * len(epochs)
    assert condition_configs(manifest_of(resolved), Config) == resolved.configs


# --- another run as a layer -------------------------------------------------------------------------------


def source(common: Mapping[str, Any], *conditions: Mapping[str, Any]) -> SourceConfig:
    return SourceConfig("demo-1", common, conditions or ({},))


def test_another_run_goes_before_defaults_and_after_the_command_line() -> None:
    stored = source({"lr": 0.25, "arch": "7*7", "train": {"epochs": 9}})
    resolved = resolve(demo(), source=stored, overrides=["arch=3*3"])
    assert resolved.configs == (Config(lr=0.25, arch="3*3", train=Train(epochs=9)),)
    assert resolved.provenance["lr"] == resolved.provenance["train.epochs"] == "run demo-1"
    assert resolved.given == {"arch"}


def test_no_preset_shines_through_another_run() -> None:
    assert resolve(demo(), source=source({"arch": "7*7"})).configs[0].lr == 1e-3
    with pytest.raises(xfw.UserError, match="preset cannot be combined with --from"):
        resolve(demo(), source=source({}), preset="paper")


def test_the_conditions_of_another_run_stay_together() -> None:
    stored = source({}, {"lr": 1.0, "mode": "none"}, {"lr": 2.0, "mode": "full"})
    resolved = resolve(demo(), source=stored, overrides=["train.epochs=1,2"])
    assert resolved.axes == ("lr", "mode", "train.epochs")
    assert [(config.lr, config.mode, config.train.epochs) for config in resolved.configs] == [
        (1.0, "none", 1),
        (1.0, "none", 2),
        (2.0, "full", 1),
        (2.0, "full", 2),
    ]
    assert resolved.provenance["mode"] == "run demo-1"


def test_a_swept_key_of_another_run_may_be_overridden() -> None:
    stored = source({}, {"mode": "none", "lr": 1.0}, {"mode": "full", "lr": 1.0})
    resolved = resolve(demo(), source=stored, overrides=["mode=output"])
    assert [(config.lr, config.mode) for config in resolved.configs] == [(1.0, "output")]


def test_keys_about_the_start_are_not_inherited() -> None:
    assert resolve(demo(), source=source({"start": "there", "arch": "7*7"})).configs == (Config(arch="7*7"),)


def test_condition_values_leave_none_out() -> None:
    resolved = resolve(demo(), overrides=["start=here,there", "widths=none,[1]"])
    assert resolved.conditions[0] == Condition(0, {"start": "here", "arch": "1*8"})
