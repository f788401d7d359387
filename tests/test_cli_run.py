"""``xfw run``: options, what is refused before anything is computed, the plan, the run, starting from a run."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xfw.cli.main import invoke
from xfw.store.results import open_run
from xfw.store.rundir import RunDir, list_runs
from xfw.store.seal import seal
from xfw.testing.runs import finish_block

TINY = ["-s", "arch=1*4", "-s", "meta_loops=1", "--device", "cpu"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunDir, dict[str, Any]]]:
    """Record what is handed to the executor instead of running it."""
    calls: list[tuple[RunDir, dict[str, Any]]] = []

    def execute(run_dir: RunDir, **options: Any) -> int:
        calls.append((run_dir, options))
        return 0

    monkeypatch.setattr("xfw.process.supervise.execute", execute)
    return calls


Fail = Callable[..., str]


@pytest.fixture
def refused(here: Path, executed: list[Any], capsys: pytest.CaptureFixture[str]) -> Fail:
    """Run a command that must be refused with exit code 2 before anything is stored; return its message."""

    def run(*arguments: str) -> str:
        assert invoke(["run", *arguments]) == 2
        assert executed == []
        assert not (here / "results").exists()
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (
            ["psa", "--meta-loops", "3"],
            "no option '--meta-loops'\n  a key of the experiment is set with: -s meta",
        ),
        (["psa", "--lr=1e-3"], "-s lr=1e-3"),
        (["psa", "--resume-undamaged"], "-s resume_undamaged=VALUE"),
        (["psa", "--trils", "3"], "did you mean '--trials'?"),
        (["psa", "--num-runs", "10"], "no option '--num-runs'\n  it is --trials here"),
        (["psa", "--trials", "0"], "'--trials': 0 is not in the range x>=1"),
        (["psa", "--seed", "-1"], "'--seed': -1 is not in the range"),
        (["psa", "--dtype", "float16"], "'--dtype': 'float16' is not one of"),
        (["psa", "--device", "gpu"], "unknown device 'gpu'\n  expected auto, cpu, cuda, cuda:N or mps"),
        (["psb"], "unknown experiment or named run 'psb'\n  did you mean 'psa'"),
        (["psa", "-s", "lr=0", "-s", "batch_size=0"], "$.lr: found 0, expected a number > 0"),
        (["psa", "-s", "lr=0", "-s", "batch_size=0"], "$.batch_size: found 0, expected a whole number >= 1"),
        (["psa", "-s", "meta_loops=0"], "$.meta_loops: found 0"),
        (["psa", "-s", "dropout=1"], "$.dropout: found 1, expected a number >= 0 and < 1"),
        (["psa", "-s", "weight_decay=-1"], "$.weight_decay: found -1, expected a number >= 0"),
        (["psa", "-s", "mode=ful"], "$.mode: found 'ful', expected one of none, decay"),
        (["psa", "-s", "arch=[a*b]"], "[a*b]"),
        (["psa", "-s", "data=minst"], "$.data: found 'minst', expected one of mnist, digits"),
        (["psa", "-s", "lrr=1"], "unknown key 'lrr'\n    did you mean 'lr'?   all keys: xfw config psa"),
        (["psa", "--preset", "papr"], "unknown preset 'papr'\n  did you mean 'paper'?"),
        (["psa", "--only", "mode=none"], "--only mode=none keeps no condition"),
        (["psa", "--only", "trial=7"], "--only trial=7: the plan has 1 trial"),
        (["psa", "--data-dir", "/no/such/place"], "--data-dir: no directory '/no/such/place'"),
        (["psa", "--from", "@last"], "there are no runs in results"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_stored(refused: Fail, arguments: list[str], part: str) -> None:
    assert part in refused(*arguments)


def test_an_absent_device_is_refused_with_what_there_is(refused: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xfw.plan.device.present_devices", lambda: ["cpu"])
    assert "device 'cuda' is not there\n  this machine has: cpu" in refused("psa", "--device", "cuda")


def test_float64_is_refused_on_mps(refused: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xfw.plan.device.present_devices", lambda: ["mps", "cpu"])
    assert "the device mps has float32 only" in refused("psa", "--dtype", "float64")


def test_a_results_directory_below_a_file_is_refused(refused: Fail, here: Path) -> None:
    (here / "file").write_text("")
    assert "is not a directory" in refused("psa", "--results-dir", "file/results")


def test_a_results_directory_without_rights_is_refused(refused: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "--results-dir elsewhere: no permission to write in" in refused("psa", "--results-dir", "elsewhere")


def test_missing_data_are_refused_with_the_way_out(refused: Fail, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    (here / "data").mkdir()
    text = refused("psa", "--preset", "paper", "--data-dir", "data")
    assert "data set 'mnist' was not found" in text
    assert "data=digits" in text


# --- the plan ---------------------------------------------------------------------------------------------


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert invoke(["run", "psa", *TINY, *arguments, "--dry-run", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("here")
def test_a_dry_run_prints_the_plan_and_stores_nothing(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert invoke(["run", "psa", *TINY, "-s", "mode=none,full", "--trials", "2", "--jobs", "1", "--dry-run"]) == 0
    text = capsys.readouterr().out
    for part in ("psa: 4 trials in 1 block", "mode=none,full", "0-1", "stack", "parameters", "memory", "seed"):
        assert part in text
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("here")
def test_the_plan_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = dry_run(capsys, "-s", "mode=all", "--trials", "10", "--jobs", "3", "--seed", "5")
    assert found["seed"] == 5
    assert len(found["conditions"]) == 6
    assert [len(block["members"]) for block in found["blocks"]] == [20, 20, 20]


@pytest.mark.usefixtures("here")
def test_equal_commands_have_equal_plans_and_a_seed_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run(capsys, "--seed", "5") == dry_run(capsys, "--seed", "5")
    assert dry_run(capsys)["seed"] != dry_run(capsys)["seed"]


@pytest.mark.usefixtures("here")
def test_only_keeps_the_random_keys_of_the_whole_plan(capsys: pytest.CaptureFixture[str]) -> None:
    whole = dry_run(capsys, "--trials", "10", "--seed", "5", "--jobs", "1")["blocks"][0]["members"]
    alone = dry_run(capsys, "--trials", "10", "--seed", "5", "--only", "trial=7")["blocks"][0]["members"]
    assert alone == [whole[7]]


def test_a_warning_is_printed_and_does_not_stop(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "psa", *TINY, "-s", "weight_decay=0.1", "--dry-run"]) == 0
    assert "warning:" in capsys.readouterr().err


def test_a_named_run_is_planned_with_its_own_trials(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "experiments.toml").write_text(
        "[mine]\nplugin = 'psa'\ntrials = 3\noverrides = { arch = '1*4' }\nsweep = { mode = ['none', 'full'] }\n"
    )
    assert invoke(["run", "mine", "--dry-run", "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiment"] == "psa"
    assert sum(len(block["members"]) for block in found["blocks"]) == 6


# --- the run ----------------------------------------------------------------------------------------------


def test_a_run_is_stored_with_plan_seed_and_command_before_it_is_executed(
    here: Path, executed: list[tuple[RunDir, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--trials", "3", "--seed", "5", "--jobs", "2", "--fail-fast", "--dtype", "float64"]
    assert invoke(["run", "psa", *TINY, *options]) == 0
    [(run_dir, given)] = executed
    assert given == {"jobs": 2, "per_gpu": 1, "fail_fast": True, "quiet": False}
    stored = tomllib.loads((run_dir.path / "run.toml").read_text())
    assert (stored["seed"], stored["execution"]["dtype"], stored["execution"]["jobs"]) == (5, "float64", 2)
    assert stored["provenance"]["arch"] == "command line"
    assert len(run_dir.manifest.members()) == 3
    text = capsys.readouterr().out
    assert f"run {run_dir.id}: 3 trials in 2 blocks, seed 5" in text
    assert f"next: xfw analyze {run_dir.id}" in text


def test_the_next_command_works_as_it_is_printed(
    here: Path, executed: list[tuple[RunDir, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", "psa", *TINY, "--results-dir", "my runs"]) == 0
    printed = capsys.readouterr().out.partition("next: ")[2]
    assert shlex.split(printed)[:2] == ["xfw", "analyze"]
    assert invoke(["show", *shlex.split(printed)[2:]]) == 0


def test_a_folder_of_data_sets_is_stored_as_an_absolute_path(
    here: Path, executed: list[tuple[RunDir, dict[str, Any]]]
) -> None:
    (here / "sets").mkdir()
    assert invoke(["run", "psa", *TINY, "--data-dir", "sets"]) == 0
    assert executed[0][0].manifest.execution.data_dir == str(here / "sets")


def test_a_dry_run_downloads_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    assert invoke(["run", "psa", "-s", "data=mnist", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "a dry run downloads nothing" in error
    assert "--data-dir or XFW_DATA_DIR" in error
    assert not (here / "cache").exists()


def test_the_exit_code_is_that_of_the_executor(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("xfw.process.supervise.execute", lambda run_dir, **_: 1)
    assert invoke(["run", "psa", *TINY]) == 1
    assert "next: xfw resume psa-" in capsys.readouterr().out


def test_a_run_whose_blocks_are_done_is_not_resumed_though_a_trial_diverged(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(run_dir: RunDir, **_: Any) -> int:
        for block in run_dir.manifest.blocks:
            finish_block(run_dir, block.index)
        seal(run_dir)
        return 1

    monkeypatch.setattr("xfw.process.supervise.execute", execute)
    assert invoke(["run", "psa", *TINY]) == 1
    text = capsys.readouterr().out
    assert ": done " in text
    assert "next: xfw analyze psa-" in text


def test_json_prints_the_run_and_nothing_else(
    here: Path, executed: list[tuple[RunDir, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", "psa", *TINY, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == executed[0][0].id
    assert found["exit_code"] == 0
    assert executed[0][1]["quiet"] is True


def test_a_run_trains_and_another_goes_on_from_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way, in this process."""
    command = ["run", "psa", *TINY, "--jobs", "0", "--quiet"]
    assert invoke([*command, "--trials", "2", "--seed", "5", "-s", "mode=none"]) == 0
    [first] = list_runs(here / "results")
    assert first.run_file.is_file()
    assert invoke([*command[:2], "--from", "@last", "--jobs", "0", "--quiet", "-s", "resume_from=none"]) == 0
    second = next(run for run in list_runs(here / "results") if run.id != first.id)
    assert second.manifest.source is not None
    assert second.manifest.source.run == first.id
    assert (second.manifest.seed, len(second.manifest.members())) == (5, 2)
    assert second.manifest.provenance["arch"] == f"run {first.id}"
    with open_run(first) as before, open_run(second) as after:
        assert before.first_epoch.tolist() == [0, 0]
        assert after.first_epoch.tolist() == before.array("loops_done").tolist()

    capsys.readouterr()
    assert invoke([*command[:2], "--from", first.id, "--seed", "6"]) == 2
    assert f"--seed 6: run {first.id} has seed 5" in capsys.readouterr().err
    assert invoke([*command[:2], "--from", first.id, "--trials", "3"]) == 2
    assert "has no trial 2 to start from\n  it has the trials 0, 1" in capsys.readouterr().err
    assert invoke([*command[:2], "--from", first.id, "--preset", "paper"]) == 2
    assert "a preset cannot be combined with --from" in capsys.readouterr().err
    assert invoke([*command[:2], "--from", first.id, "-s", "arch=1*5"]) == 2
    assert "[1*5]" in capsys.readouterr().err

    first.run_file.unlink()
    assert invoke([*command[:2], "--from", first.id]) == 2
    assert f"run {first.id} is not finished\n  finish it: xfw resume {first.id}" in capsys.readouterr().err
