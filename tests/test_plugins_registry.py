"""Plugins: discovery from metadata, loading one experiment with the extensions, states and their messages."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import xfw
from xfw.hookspecs import API
from xfw.plugins.discovery import EXTENSIONS, PluginInfo, discover
from xfw.plugins.registry import load_experiment, probe
from xfw.testing.plugins import write_distribution

numbers = itertools.count()

HOOKS = """
    import attrs
    import xfw

    api = 2

    @attrs.frozen
    class Config:
        lr: float = xfw.key(0.1, help="rate", gt=0)

    @xfw.hookimpl
    def define_config():
        return Config

    @xfw.hookimpl
    def declare_records(config):
        return xfw.Records()

    @xfw.hookimpl
    def load_data(config, sources):
        return {}

    @xfw.hookimpl
    def build_model(config):
        raise NotImplementedError

    @xfw.hookimpl
    def plan_passes(config):
        return []

    @xfw.hookimpl
    def train_step(model, batch):
        raise NotImplementedError
"""


class Site:
    """A folder on the search path into which tests install plugins."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, plugin: str, *parts: str, **options: Any) -> str:
        """Install a plugin whose module has a name of its own, and return that name."""
        module = f"module_{next(numbers)}"
        source = "\n".join(textwrap.dedent(part) for part in parts)
        write_distribution(self.folder, plugin, source, module=module, **options)
        return module

    def found(self, name: str) -> PluginInfo:
        return next(plugin for plugin in discover() if plugin.name == name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Site(tmp_path)


def message(name: str) -> str:
    with pytest.raises(xfw.UserError) as error:
        load_experiment(name)
    assert error.value.exit_code == 2
    return str(error.value)


def test_discovery_reads_metadata_and_imports_nothing(site: Site) -> None:
    module = site.install("fake", "raise RuntimeError('imported')", version="2.3")
    assert site.found("fake") == PluginInfo(
        name="fake",
        kind="experiment",
        module=module,
        version="2.3",
        summary="a plugin for tests",
        distributions=("xfw-fake",),
    )
    assert module not in sys.modules


def test_extensions_have_a_group_of_their_own(site: Site) -> None:
    site.install("tracker", "", group=EXTENSIONS)
    assert site.found("tracker").kind == "extension"


def test_a_loaded_experiment_answers_its_hooks(site: Site) -> None:
    site.install("fake", HOOKS)
    experiment = load_experiment("fake")
    assert experiment.hooks.plan_passes(config=None) == []
    assert experiment.config_class.__name__ == "Config"
    assert (experiment.name, experiment.version) == ("fake", "1.0")


def test_dashes_stand_for_underscores(site: Site) -> None:
    site.install("fake_one", HOOKS)
    assert load_experiment("fake-one").name == "fake_one"


def test_only_the_chosen_experiment_is_imported_and_called(site: Site) -> None:
    site.install("fake", HOOKS)
    other = site.install("other", "raise RuntimeError('imported')")
    experiment = load_experiment("fake")
    assert other not in sys.modules
    assert len(experiment.hooks.define_config.get_hookimpls()) == 1


def test_an_unknown_experiment_is_answered_with_the_nearest(site: Site) -> None:
    site.install("fake", HOOKS)
    assert message("fak").startswith("unknown experiment 'fak'\n  did you mean 'fake'")


def test_an_extension_is_no_experiment(site: Site) -> None:
    site.install("tracker", "api = 2", group=EXTENSIONS)
    assert message("tracker").startswith("unknown experiment 'tracker'")


def test_what_an_uninstallation_left_behind_stops_nobody(site: Site) -> None:
    site.install("fake", HOOKS)
    good = site.folder / "xfw_fake-1.0.dist-info"
    shutil.copytree(good, site.folder / "~fw_fake-1.0.dist-info")
    assert load_experiment("fake").name == "fake"
    good_info, left = (plugin for plugin in discover() if plugin.name == "fake")
    assert (good_info.state, left.state) == ("installed", "broken")
    assert str(site.folder / "~fw_fake-1.0.dist-info") in left.error


def damage(info: Path, kind: str) -> None:
    if kind == "missing":
        (info / "METADATA").unlink()
    elif kind == "empty":
        (info / "METADATA").write_text("")
    elif kind == "nameless":
        (info / "METADATA").write_text("Metadata-Version: 2.1\nVersion: 1.0\n")
    elif kind == "versionless":
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xfw-other\n")
    elif kind == "binary":
        (info / "METADATA").write_bytes(b"\xff\xfe\x00")
    else:
        (info / "entry_points.txt").write_text("[xfw.experiments]\nother\n")


@pytest.mark.parametrize("kind", ["missing", "empty", "nameless", "versionless", "binary", "list"])
def test_damaged_metadata_are_named_by_their_folder_and_stop_nobody(site: Site, kind: str) -> None:
    site.install("fake", HOOKS)
    site.install("other", HOOKS)
    damage(site.folder / "xfw_other-1.0.dist-info", kind)
    assert load_experiment("fake").name == "fake"
    found = site.found("other")
    assert found.state == "broken"
    assert str(site.folder / "xfw_other-1.0.dist-info") in found.error
    assert "damaged" in message("other")


def test_two_packages_with_one_plugin_are_both_refused(site: Site) -> None:
    site.install("fake", HOOKS, package="xfw-fake")
    site.install("fake", HOOKS, package="other-fake")
    info = site.found("fake")
    assert info.state == "duplicate"
    assert info.distributions == ("other-fake", "xfw-fake")
    text = message("fake")
    assert "'other-fake' and 'xfw-fake' both have a plugin 'fake'; neither is used" in text
    assert "pip uninstall xfw-fake" in text


def test_a_name_outside_the_rules_is_broken(site: Site) -> None:
    site.install("Fake-One", HOOKS, package="xfw-fake")
    assert site.found("Fake-One").state == "broken"


def test_a_plugin_that_raises_on_import_is_broken_with_its_traceback(site: Site) -> None:
    site.install("fake", "import no_such_package")
    loaded = probe(site.found("fake"))
    assert loaded.info.state == "broken"
    assert loaded.info.error == "ModuleNotFoundError: No module named 'no_such_package'"
    assert "import no_such_package" in loaded.traceback
    text = message("fake")
    assert "experiment 'fake' (xfw-fake 1.0) is broken: ModuleNotFoundError" in text
    assert "xfw doctor fake" in text


def test_a_plugin_that_exits_on_import_is_broken(site: Site) -> None:
    site.install("fake", "raise SystemExit(3)")
    assert probe(site.found("fake")).info.state == "broken"


@pytest.mark.parametrize(
    ("api", "part"),
    [
        (f"api = {API + 1}", f"it needs hook interface {API + 1}, this xfw speaks {API}: pip install --upgrade xfw"),
        ("api = 1", f"it was written for hook interface 1, this xfw needs {API}: pip install --upgrade xfw-fake"),
        ("api = '2'", "it does not state its hook interface; expected 'api = 2'"),
        ("del api", "it does not state its hook interface; expected 'api = 2'"),
    ],
)
def test_an_interface_out_of_range_is_incompatible(site: Site, api: str, part: str) -> None:
    site.install("fake", HOOKS, api)
    loaded = probe(site.found("fake"))
    assert loaded.info.state == "incompatible"
    assert part in message("fake")


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (
            "@xfw.hookimpl\ndef on_epoch_ende(block): ...",
            "hook on_epoch_ende: unknown hook\n    did you mean 'on_epoch_end'?",
        ),
        (
            "@xfw.hookimpl\ndef on_end(blok): ...",
            "hook on_end: unknown argument 'blok'\n    did you mean 'block'?",
        ),
        ("del train_step", "hook train_step: missing, every experiment needs it"),
        ("@xfw.hookimpl(wrapper=True)\ndef on_end(block):\n    yield", "hook on_end: wraps other hooks"),
    ],
)
def test_wrong_hooks_break_a_plugin_with_the_nearest_name(site: Site, source: str, part: str) -> None:
    site.install("fake", HOOKS, source)
    assert part in message("fake")


def test_strict_plugins_raise_instead(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("fake", "raise RuntimeError('by itself')")
    monkeypatch.setenv("XFW_STRICT_PLUGINS", "1")
    with pytest.raises(RuntimeError, match="by itself"):
        load_experiment("fake")


def test_a_broken_extension_is_reported_and_left_out(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("fake", HOOKS)
    site.install("tracker", "1 / 0", group=EXTENSIONS)
    load_experiment("fake")
    assert "warning: extension 'tracker' (xfw-tracker 1.0) is broken: ZeroDivisionError" in capsys.readouterr().err


def test_an_extension_may_not_answer_for_the_experiment(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("fake", HOOKS)
    site.install("tracker", "import xfw\napi = 2\n@xfw.hookimpl\ndef plan_passes(config): ...", group=EXTENSIONS)
    load_experiment("fake")
    assert "hook plan_passes: has exactly one answer" in capsys.readouterr().err


def test_extensions_observe_and_their_failures_are_shown_once(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("fake", HOOKS)
    site.install("tracker", "import xfw\napi = 2\n@xfw.hookimpl\ndef on_end(block):\n    1 / 0", group=EXTENSIONS)
    experiment = load_experiment("fake")
    for _ in range(3):
        experiment.hooks.on_end(block=None)
    text = capsys.readouterr().err
    assert text.count("warning: extension 'tracker' failed in on_end; the run goes on") == 1
    assert text.count("ZeroDivisionError") == 1


def test_a_failure_of_the_experiment_itself_passes_through(site: Site) -> None:
    site.install("fake", HOOKS, "@xfw.hookimpl\ndef on_end(block):\n    1 / 0")
    with pytest.raises(ZeroDivisionError):
        load_experiment("fake").hooks.on_end(block=None)


def test_xfw_plugins_restricts_what_is_loaded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("fake", HOOKS)
    module = site.install("tracker", "api = 2", group=EXTENSIONS)
    monkeypatch.setenv("XFW_PLUGINS", "fake")
    load_experiment("fake")
    assert module not in sys.modules
    monkeypatch.setenv("XFW_PLUGINS", "")
    assert "left out by XFW_PLUGINS" in message("fake")


def test_xfw_trace_prints_every_hook_call_with_its_time(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("fake", HOOKS)
    monkeypatch.setenv("XFW_TRACE", "1")
    load_experiment("fake").hooks.plan_passes(config=None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("xfw: plan_passes ")
    assert lines[-1].endswith(" ms")


def test_each_load_has_hooks_of_its_own(site: Site) -> None:
    site.install("fake", HOOKS)
    first, second = load_experiment("fake"), load_experiment("fake")
    assert first.hooks is not second.hooks
    assert len(second.hooks.plan_passes.get_hookimpls()) == 1


def test_a_plugin_of_interface_1_is_told_every_new_name(site: Site) -> None:
    old = ("configuration(): ...", "presets(): ...", "metrics(): ...", "train_step(model, batch, epoch): ...")
    hooks = "\n".join(f"@xfw.hookimpl\ndef {head}" for head in old)
    site.install("fake", f"import xfw\napi = 1\n{hooks}")
    text = message("fake")
    for name, now in (("configuration", "define_config"), ("presets", "define_presets"), ("metrics", "define_metrics")):
        assert f"hook {name}: is {now} now" in text
    assert "epochs" not in text
    assert "the argument epoch of train_step is pass_" in text


def test_a_name_of_interface_1_that_cannot_be_imported_says_so(site: Site) -> None:
    site.install("fake", "api = 1\nfrom xfw import Epoch")
    assert probe(site.found("fake")).info.state == "incompatible"
    assert "xfw.Epoch is xfw.Pass" in message("fake")


def test_a_mistyped_name_of_xfw_is_answered_with_the_nearest() -> None:
    code = "import xfw; xfw.Presett"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "has no attribute 'Presett'. Did you mean: 'Preset'?" in done.stderr


# --- heavy modules --------------------------------------------------------------------------------------------

LIGHT = """
    import attrs
    import xfw

    api = 2
    hooks = "{heavy}"

    @attrs.frozen
    class Config:
        lr: float = xfw.key(0.1, help="rate", gt=0)

    @xfw.hookimpl
    def define_config():
        return Config

    @xfw.hookimpl
    def declare_records(config):
        return xfw.Records()
"""
HEAVY = """
    import xfw

    @xfw.hookimpl
    def load_data(config, sources):
        return {}

    @xfw.hookimpl
    def build_model(config):
        raise NotImplementedError

    @xfw.hookimpl
    def plan_passes(config):
        return ["a pass"]

    @xfw.hookimpl
    def train_step(model, batch):
        raise NotImplementedError
"""


def split(site: Site, *parts: str, light: str = "") -> str:
    """Install a plugin of two modules; return the name of the heavy one."""
    heavy = f"heavy_{next(numbers)}"
    (site.folder / f"{heavy}.py").write_text("\n".join(textwrap.dedent(part) for part in (HEAVY, *parts)))
    site.install("fake", LIGHT.format(heavy=heavy), light)
    return heavy


def test_a_heavy_module_is_imported_with_the_first_of_its_hooks(site: Site) -> None:
    heavy = split(site)
    experiment = load_experiment("fake")
    assert experiment.hooks.declare_records(config=None) == xfw.Records()
    assert experiment.presets() == {}
    assert heavy not in sys.modules
    assert experiment.hooks.plan_passes(config=None) == ["a pass"]
    assert heavy in sys.modules


def test_an_analysis_imports_the_module_of_its_hooks_alone(site: Site) -> None:
    analysis = f"analysis_{next(numbers)}"
    (site.folder / f"{analysis}.py").write_text("import xfw\n@xfw.hookimpl\ndef analyze():\n    return ['table']\n")
    heavy = split(site, light=f"analysis_hooks = '{analysis}'")
    assert load_experiment("fake").hooks.analyze() == ["table"]
    assert heavy not in sys.modules


def test_without_a_module_of_their_own_analyses_stand_among_the_other_hooks(site: Site) -> None:
    split(site, "@xfw.hookimpl\ndef analyze():\n    return ['table']")
    assert load_experiment("fake").hooks.analyze() == ["table"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("raise RuntimeError('by itself')", "RuntimeError: by itself"),
        ("del train_step", "hook train_step: missing, every experiment needs it"),
        ("@xfw.hookimpl\ndef on_ende(block): ...", "hook on_ende: unknown hook"),
        (
            "@xfw.hookimpl\ndef define_presets(): ...",
            "hook define_presets: is in the module of 'hooks', expected in that of 'plugin'",
        ),
        ("@xfw.hookimpl\ndef declare_records(): ...", "hook declare_records: is in module_"),
        ("@xfw.hookimpl\ndef draw_order(): ...", "unknown hook\n    it is sample_order now"),
    ],
)
def test_what_is_wrong_in_a_heavy_module_is_told_when_it_is_needed(site: Site, part: str, expected: str) -> None:
    split(site, part)
    experiment = load_experiment("fake")
    with pytest.raises(xfw.UserError) as error:
        experiment.hooks.build_model(config=None)
    assert expected in str(error.value)
    assert expected in probe(site.found("fake"), whole=True).info.error


def test_a_module_named_hooks_does_not_hide_its_own_name(site: Site) -> None:
    package = site.folder / "whole_package"
    package.mkdir()
    (package / "__init__.py").write_text(textwrap.dedent(LIGHT.format(heavy="whole_package.hooks")))
    (package / "hooks.py").write_text(textwrap.dedent(HEAVY))
    write_distribution(site.folder, "whole", "", module="unused", package="whole", target="whole_package")
    for _ in range(2):
        assert load_experiment("whole").hooks.plan_passes(config=None) == ["a pass"]


def test_an_extension_whose_heavy_module_fails_is_left_out(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("fake", HOOKS)
    site.install("tracker", "api = 2\nhooks = 'no_such_module'", group=EXTENSIONS)
    experiment = load_experiment("fake")
    for _ in range(2):
        assert experiment.hooks.plan_passes(config=None) == []
    assert capsys.readouterr().err.count("extension 'tracker' (xfw-tracker 1.0) is broken: ModuleNotFoundError") == 1
