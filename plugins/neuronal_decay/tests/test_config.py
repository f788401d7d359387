"""The table of experiments, keys that replace it, and what is refused (acceptance tests P9, P10; section 10)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
from xfw.cli.main import invoke
from xfw.config.resolve import resolve
from xfw.config.structure import structure, unstructure
from xfw.experiment import Experiment
from xfw.plan.build import groups_of
from xfw.store.results import Results
from xfw.testing.blocks import Trained
from xfw_neuronal_decay.config import PRESETS, Config, problems
from xfw_neuronal_decay.table import EXPERIMENTS

STARRED = {3, 4, 8, 10, 12, 14, 16}


@pytest.mark.parametrize("number", list(EXPERIMENTS))
def test_every_experiment_has_a_preset_that_survives_a_round_trip(number: int) -> None:
    config = structure(Config, dict(PRESETS[f"exp{number:02}"].values))
    assert structure(Config, unstructure(config)) == config
    assert config.number == number
    assert problems(config, frozenset()) == []


def test_the_table_is_that_of_the_paper() -> None:
    configs = {number: Config(number=number) for number in EXPERIMENTS}
    assert {number for number, config in configs.items() if not config.decay} == {1, 2, 7, 9, 11, 13, 15}
    assert {number for number, config in configs.items() if not config.replay} == {2, 3}
    assert {number: config.strength for number, config in configs.items() if config.decay} == {
        **dict.fromkeys(STARRED, 1e-5),
        5: 1e-7,
        6: 5e-5,
    }
    rates = {7: 1e-4, 8: 1e-4, 9: 1e-2, 10: 1e-2}
    widths = {11: 1024, 12: 1024, 13: 4096, 14: 4096}
    for number, config in configs.items():
        assert config.learning_rate == rates.get(number, 1e-3)
        assert config.n_neurons == widths.get(number, 2048)
        assert config.rotations == ((0.0,) if number > 14 else (0.0, 80.0, 160.0))
        assert (config.batch_size, config.iterations_per_task, config.test_size) == (512, 500, 2000)


def test_default_lambda_reaches_the_starred_experiments_only() -> None:
    changed = {number for number in EXPERIMENTS if Config(number=number, default_lambda=0.5).strength == 0.5}
    assert changed == STARRED


def test_given_values_replace_the_tables() -> None:
    config = Config(number=2, learning_rate=0.5, decay=True, decay_lambda=0.25, n_neurons=7, replay=True)
    assert (config.learning_rate, config.strength, config.width, config.replay) == (0.5, 0.25, 7, True)
    assert Config(number=4, decay=False).strength == 0.0
    assert Config(number=12, n_neurons=64).width == 64


@pytest.mark.parametrize("number", [11, 12, 13, 14])
def test_widths_are_built_as_published_or_as_declared(number: int) -> None:
    published, declared = Config(number=number), Config(number=number, width_mode="declared")
    assert published.width == 2048
    assert published.ignores_width
    assert declared.width == declared.n_neurons != 2048
    assert not declared.ignores_width


def test_a_width_that_is_not_built_is_announced_once_and_stored(train: Callable[..., Trained]) -> None:
    short = ("iterations_per_task=1", "batch_size=4", "test_size=4", "data=digits", "n_neurons=none")
    trained = train("number=11,12", "rotations=[0]", *short, preset="paper", trials=1)
    warnings = [line for line in trained.log if "-s width_mode=declared builds the declared width" in line]
    assert len(warnings) == 1
    assert "experiments 11 to 14 are built with 2048 units" in warnings[0]
    assert np.concatenate(trained.commit.arrays["n_neurons_declared"], axis=None).tolist() == [1024, 1024]
    assert np.concatenate(trained.commit.arrays["n_neurons_used"], axis=None).tolist() == [2048, 2048]


def test_all_replay_experiments_share_blocks_as_published(experiment: Experiment) -> None:
    for mode, expected in (
        ("as_published", [[1, *range(4, 15)], [2, 3]]),
        ("declared", [[1, *range(4, 11)], [2, 3], [11, 12], [13, 14]]),
    ):
        resolved = resolve(experiment, preset="paper", overrides=["number=1..14", f"width_mode={mode}"])
        groups = groups_of(Config, resolved.flat)
        assert sorted([resolved.configs[index].number for index in group] for group in groups) == expected


def test_what_the_table_gives_is_stored_for_every_trial(run: Callable[..., Results]) -> None:
    results = run("number=1,2,4")
    assert results.parameters["replay"] == [True, False, True]
    assert results.parameters["decay_lambda"] == [0.0, 0.0, 1e-4]
    assert results.parameters["number"] == [1, 2, 4]
    assert results.config["learning_rate"] == 1e-3


def test_keys_that_may_differ_within_a_block() -> None:
    shared = {each.name for each in attrs.fields(Config) if each.metadata["xfw"].per_trial}
    assert shared == {"number", "default_lambda", "learning_rate", "decay", "decay_lambda", "n_neurons"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("default_lambda=-1", "$.default_lambda: found -1, expected a number >= 0"),
        ("decay_lambda=nan", "$.decay_lambda: found 'nan', expected a number >= 0"),
        ("decay_lambda=inf", "$.decay_lambda: found 'inf', expected a number >= 0"),
        ("decay_lambda=abc", "$.decay_lambda: found 'abc', expected a number >= 0"),
        ("number=0", "$.number: found 0: unknown experiment 0; known: 1–16"),
        ("number=17", "$.number: found 17: unknown experiment 17; known: 1–16"),
        ("number=", "$.number: found '', expected a whole number"),
        ("batch_size=0", "$.batch_size: found 0, expected a whole number >= 1"),
        ("iterations_per_task=0", "$.iterations_per_task: found 0, expected a whole number >= 1"),
        ("n_neurons=0", "$.n_neurons: found 0, expected a whole number >= 1"),
        ("learning_rate=0", "$.learning_rate: found 0, expected a number > 0"),
        ("learning_rate=inf", "$.learning_rate: found 'inf', expected a number > 0"),
        ("rotations=[]", "$.rotations: found []: give at least one finite angle"),
        ("rotations=[nan]", "$.rotations: found '[nan]', expected a list of numbers"),
        ("n_neurons_used=5", "$.n_neurons_used: is derived and cannot be set"),
        ("width_mode=real", "$.width_mode: found 'real', expected one of as_published, declared"),
    ],
)
def test_wrong_values_are_named_with_key_and_range(
    assignment: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", "neuronal_decay", "-s", assignment, "--results-dir", str(tmp_path / "results")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_decay_without_strength_or_a_strength_without_decay_is_warned_of() -> None:
    baseline, decaying = Config(decay_lambda=0.1), Config(decay=True)
    assert "has no decay" in str(problems(baseline, frozenset({"decay_lambda"}))[0])
    assert "λ of experiment 1 is 0" in str(problems(decaying, frozenset({"decay"}))[0])
    assert "does not use it" in str(problems(Config(), frozenset({"default_lambda"}))[0])


def test_going_on_from_a_run_is_refused(
    run: Callable[..., Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run("number=1")
    assert invoke(["run", "neuronal_decay", "--from", done.run, "--results-dir", str(tmp_path)]) == 2
    assert "cannot go on from a run" in capsys.readouterr().err


def test_missing_mnist_names_folders_files_and_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    place = ["--data-dir", str(tmp_path / "data"), "--results-dir", str(tmp_path / "results")]
    assert invoke(["run", "neuronal_decay", "--preset", "paper", *place]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path / "data") in message
    assert "--data-dir" in message
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        assert name in message


def test_a_loss_that_is_lost_marks_its_trial_and_leaves_the_others(train: Callable[..., Trained]) -> None:
    trained = train("learning_rate=1e38,0.001", trials=1)
    assert trained.status == ["diverged", "done"]
    lines = [line for line in trained.log if "loss is not finite" in line]
    assert len(lines) == 1
    assert lines[0].startswith("warning: condition 0, trial 0: loss is not finite (first seen in epoch 1, step ")
    assert np.isfinite(trained.record("iteration", "loss")[:, 1]).all()
