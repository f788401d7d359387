"""``xfw config``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from xfw.cli.main import invoke
from xfw.config.keys import schema_of
from xfw.plugins.registry import load_experiment


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert invoke(["config", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def keys(found: dict[str, Any]) -> dict[str, Any]:
    return {key["key"]: key for key in found["keys"]}


def test_every_key_is_shown_with_value_origin_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    found = data(capsys, "psa", "-s", "lr=1e-3")
    assert list(keys(found)) == list(schema_of(load_experiment("psa").config_class).keys)
    lr = keys(found)["lr"]
    assert (lr["values"], lr["origin"], lr["default"], lr["bounds"]) == ([0.001], "command line", 0.0001, "> 0")
    assert all(key["help"] for key in found["keys"])


def test_the_preset_is_the_origin_of_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    found = data(capsys, "psa", "--preset", "paper")
    assert found["preset"] == "paper"
    assert keys(found)["family"]["origin"] == "preset paper"


def test_a_sweep_shows_all_values(capsys: pytest.CaptureFixture[str]) -> None:
    found = data(capsys, "psa", "-s", "mode=none,output")
    assert keys(found)["mode"]["values"] == ["none", "output"]
    assert found["conditions"] == 2


def test_the_table_holds_key_origin_bounds_and_unit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert invoke(["config", "psa", "-s", "batch_size=64"]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if "batch_size" in line)
    for part in ("64", "command line", "256", "a whole number >= 1 and <= 1000000 (images)"):
        assert part in line
    assert "preset paper: " in text


def test_a_named_run_shows_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiments.toml").write_text("[mine]\nplugin = 'psa'\ntrials = 7\noverrides = { lr = 0.5 }\n")
    monkeypatch.chdir(tmp_path)
    found = data(capsys, "mine")
    assert keys(found)["lr"]["origin"] == "experiments.toml"
    assert found["trials"] == 7


def test_wrong_values_are_refused_as_in_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["config", "psa", "-s", "lr=0", "-s", "modee=none"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: experiment 'psa': wrong configuration\n")
    assert "$.lr: found 0, expected a number > 0" in text
    assert "did you mean 'mode'?" in text
