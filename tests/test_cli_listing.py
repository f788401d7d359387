"""``xfw list-plugins`` and ``xfw doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from xfw.cli.main import invoke
from xfw.testing.plugins import write_distribution


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = invoke(arguments)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def entry(text: str, name: str) -> dict[str, Any]:
    found = json.loads(text)
    assert found["schema"] == 1
    return next(plugin for plugin in found["plugins"] if plugin["name"] == name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_table_shows_name_version_kind_state_summary(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "list-plugins")
    assert code == 0
    for part in ("psa", "0.1.0", "experiment", "installed", "Persistent Stochastic Ablation"):
        assert part in text


def test_hooks_are_shown_with_the_import_time(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "list-plugins", "--hooks", "--json")
    found = entry(text, "psa")
    assert code == 0
    assert found["state"] == "ok"
    assert "train_step" in found["hooks"]
    assert list(found["import_seconds"]) == ["plugin", "hooks", "analysis_hooks"]


def test_one_broken_plugin_changes_the_exit_code_only_if_strict(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_distribution(site, "fake", "1 / 0", module="broken_listing")
    assert run(capsys, "list-plugins")[0] == 0
    code, text = run(capsys, "list-plugins", "--hooks", "--json")
    assert (code, entry(text, "fake")["state"]) == (0, "broken")
    code, text = run(capsys, "list-plugins", "--strict")
    assert code == 1
    assert "fake is broken: ZeroDivisionError: division by zero   all of it: xfw doctor fake" in text


def test_a_duplicate_is_seen_without_importing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("xfw-fake", "my-fake"):
        write_distribution(site, "fake", "1 / 0", package=package)
    found = entry(run(capsys, "list-plugins", "--json")[1], "fake")
    assert found["state"] == "duplicate"
    assert found["error"] == "'my-fake' and 'xfw-fake' both have a plugin 'fake'"
    assert run(capsys, "list-plugins", "--strict")[0] == 1


def test_doctor_shows_the_whole_reason(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_distribution(site, "fake", "def start():\n    1 / 0\nstart()", module="broken_doctor")
    code, text = run(capsys, "doctor", "fake")
    assert code == 1
    for part in ("state         broken", "in start", "ZeroDivisionError", "pip install --upgrade xfw-fake"):
        assert part in text


def test_doctor_names_the_command_that_fixes_an_incompatible_plugin(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_distribution(site, "fake", "api = 99", module="incompatible_doctor")
    code, text = run(capsys, "doctor", "fake")
    assert code == 1
    assert "needs hook interface 99" in text
    assert "pip install --upgrade xfw" in text


def test_doctor_names_both_packages_of_a_duplicate(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("xfw-fake", "my-fake"):
        write_distribution(site, "fake", "", package=package)
    code, text = run(capsys, "doctor", "fake")
    assert code == 1
    assert "pip uninstall my-fake or pip uninstall xfw-fake" in text


def test_doctor_is_content_with_a_plugin_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "doctor", "psa")
    assert code == 0
    assert "state         ok" in text


def test_doctor_answers_an_unknown_name_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "doctor", "psaa")
    assert code == 2
    assert "error: unknown plugin 'psaa'\n  did you mean 'psa'" in text


def test_xfw_plugins_keeps_a_plugin_from_being_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XFW_PLUGINS", "other")
    assert entry(run(capsys, "list-plugins", "--hooks", "--json")[1], "psa")["state"] == "installed"
    assert "left out by XFW_PLUGINS" in run(capsys, "doctor", "psa")[1]
