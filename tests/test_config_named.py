"""``experiments.toml``: where it is found, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import xfw
from xfw.cli.subject import find_subject, shipped_runs
from xfw.config.named import NamedRun, find_file, load_named_runs
from xfw.config.resolve import resolve
from xfw.plugins.discovery import PluginInfo, discover
from xfw.plugins.registry import load_experiment

REPOSITORY = Path(__file__).parents[1]


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiments.toml").write_text(text, encoding="utf-8")
    return folder


def message(folder: Path) -> str:
    with pytest.raises(xfw.UserError) as error:
        load_named_runs(folder, ["psa", "neuronal_decay"])
    assert error.value.exit_code == 2
    return str(error.value)


def test_the_nearest_file_upwards_counts(tmp_path: Path) -> None:
    write(tmp_path, "[far]\nplugin = 'psa'\n")
    near = write(tmp_path / "a", "[near]\nplugin = 'psa'\n")
    (near / "b" / "c").mkdir(parents=True)
    assert find_file(near / "b" / "c") == near / "experiments.toml"
    assert list(load_named_runs(near / "b" / "c", [])) == ["near"]


def test_without_a_file_there_are_no_named_runs(tmp_path: Path) -> None:
    assert load_named_runs(tmp_path, ["psa"]) == {}


def test_every_entry_of_a_table_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        "[mine]\nplugin = 'psa'\npreset = 'paper'\ntrials = 3\nhelp = 'why'\n"
        "overrides = { lr = 0.1, train.epochs = 2 }\nsweep = { mode = 'all' }\n",
    )
    assert load_named_runs(tmp_path, ["psa"])["mine"] == NamedRun(
        name="mine",
        plugin="psa",
        folder=tmp_path,
        preset="paper",
        overrides={"lr": 0.1, "train": {"epochs": 2}},
        sweep={"mode": "all"},
        trials=3,
        help="why",
    )


def test_a_named_run_may_not_have_a_plugins_name(tmp_path: Path) -> None:
    text = message(write(tmp_path, "[neuronal-decay]\nplugin = 'neuronal_decay'\n"))
    assert "$.neuronal-decay: is a plugin's name" in text
    assert "give the named run another name" in text


def test_all_wrong_entries_of_a_table_are_named(tmp_path: Path) -> None:
    text = message(write(tmp_path, "[mine]\ntrials = 'ten'\nsweeps = {}\n"))
    assert "$.mine.plugin: missing" in text
    assert "$.mine.trials: found 'ten', expected a whole number" in text
    assert "unknown key 'sweeps'\n    did you mean 'sweep'?" in text


def test_an_entry_that_is_no_table_is_refused(tmp_path: Path) -> None:
    assert "$.mine: found 3, expected a table" in message(write(tmp_path, "mine = 3\n"))


def test_a_file_that_is_no_toml_is_refused_with_its_path(tmp_path: Path) -> None:
    assert f"cannot read {tmp_path / 'experiments.toml'}" in message(write(tmp_path, "[mine\n"))


def test_every_named_run_of_the_repository_and_of_the_plugins_resolves() -> None:
    runs = load_named_runs(REPOSITORY, [])
    assert runs
    for run in (*runs.values(), *shipped_runs(discover()).values()):
        assert run.help, run.name
        resolved = resolve(load_experiment(run.plugin), named=run)
        assert resolved.trials >= 1


def test_named_runs_of_a_plugin_work_everywhere_and_give_way_to_those_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "demo_plugin"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    write(package, "[demo-study]\nplugin = 'demo'\ntrials = 3\n[other]\nplugin = 'psa'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plugin = PluginInfo("demo", "experiment", "demo_plugin", "1", "", ("demo",))
    assert list(shipped_runs([plugin])) == ["demo-study"]
    assert shipped_runs([plugin])["demo-study"].folder == package
    assert shipped_runs([attrs.evolve(plugin, kind="extension")]) == {}
    monkeypatch.setenv("XFW_PLUGINS", "")
    assert shipped_runs([plugin]) == {}


def test_a_wrong_file_of_one_plugin_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = []
    for name, text in (("broken_runs", "[run\n"), ("sound_runs", "[sound]\nplugin = 'sound_runs'\n")):
        package = write(tmp_path / f"xfw_{name}", text)
        (package / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
        plugins.append(PluginInfo(name, "experiment", f"xfw_{name}", "1", "", (name,)))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(shipped_runs(plugins)) == ["sound"]
    assert "warning: the named runs of plugin 'broken_runs' are left out" in capsys.readouterr().err


def test_a_run_of_the_working_directory_goes_before_one_of_a_plugin(tmp_path: Path) -> None:
    shipped = find_subject("psa-check", tmp_path).named
    assert shipped is not None
    assert (shipped.plugin, shipped.trials) == ("psa", 10)
    mine = find_subject("psa-check", write(tmp_path, "[psa-check]\nplugin = 'psa'\ntrials = 2\n")).named
    assert mine is not None
    assert mine.trials == 2
