"""The command ``xfw verify``."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xfw.cli.main import invoke
from xfw.store.rundir import create_run
from xfw.testing.runs import RECORDS, finished_run, make_manifest

PLUGIN = """
import attrs
import xfw

api = 2

@attrs.frozen
class Config:
    lr: float = xfw.key(0.1, gt=0, help="learning rate")
    name: str = xfw.key("digits", help="data")
    mode: str = xfw.key("none", choices=("none", "output"), help="mode")

@xfw.hookimpl
def define_config():
    return Config

@xfw.hookimpl
def define_presets():
    return {"paper": xfw.Preset({}, help="paper")}

@xfw.hookimpl
def define_metrics():
    return [xfw.Metric("best", "best", "1", lambda results: results.array("best").astype(float))]

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
    return 0
"""

TARGETS = """
schema = 1
[defaults]
metric = "best"
kind = "exact"
[[target]]
name = "none"
value = 5
tolerance = { absolute = 5 }
[[target]]
name = "output"
value = 105
tolerance = { absolute = 4 }
where = { mode = "output" }
[[target]]
name = "none, other rate"
value = 0
where = { lr = 1.0 }
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that installs the plugin ``demo`` with these targets; there is a run of two conditions."""
    folder = tmp_path / "site"
    folder.mkdir()  # before an import looks for it, and remembers that it is not there

    def installed(targets: str) -> None:
        package = folder / "xfw_demo"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(PLUGIN)
        if targets:
            (package / "targets.toml").write_text(targets)
        info = folder / "xfw_demo-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xfw-demo\nVersion: 1.0\nSummary: x\n")
        (info / "entry_points.txt").write_text("[xfw.experiments]\ndemo = xfw_demo\n")
        monkeypatch.delitem(sys.modules, "xfw_demo", raising=False)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(tmp_path)
    finished_run(Path("results"), sweep={"mode": ["none", "output"]}, config={"lr": 0.1, "name": "digits"})
    return installed


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert invoke(["verify", *arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code == 2 else captured.out


def test_missed_targets_give_1_and_are_listed_first(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(TARGETS)
    text = printed(capsys, "demo", code=1)
    assert text.index("missed: 1 of 3") < text.index("reproduced: 1 of 3")
    assert "no data for 1: none, other rate" in text
    assert "3 targets: 1 reproduced, 1 missed, 1 no data" in text


def test_targets_without_data_alone_give_0(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(TARGETS)
    assert "1 no data" in printed(capsys, "demo", "--only", "other RATE")
    assert "no data: 1 of 1" in printed(capsys, "demo", "--only", "other", "--all")


def test_one_run_is_judged_too(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(TARGETS)
    assert "1 reproduced" in printed(capsys, "@last", "--only", "none")


def test_a_suite_decides_for_its_targets(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(
        f'{TARGETS}[[suite]]\nname = "half"\nprefix = ""\ntags = ["t"]\nshare = 0.5\n'.replace(
            'name = "none"', 'name = "none"\ntags = ["t"]'
        ).replace('name = "output"', 'name = "output"\ntags = ["t"]')
    )
    text = printed(capsys, "demo")
    assert "suite half: reproduced: 1 of 2 reproduced (50.0%, needed 50.0%)" in text
    assert "missed: 1 of 3" in text


def test_json_holds_the_numbers(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(TARGETS)
    content = json.loads(printed(capsys, "demo", "--json", code=1))
    assert content["counts"] == {"reproduced": 1, "missed": 1, "no_data": 1}
    first = content["targets"][0]
    assert (first["name"], first["verdict"], first["n"], first["mean"]) == ("output", "missed", [2], 105.0)
    assert content["exit_code"] == 1


def test_a_terminal_shows_a_table_for_each_verdict(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(TARGETS)
    text = printed(capsys, "demo", "--all", code=1)
    assert [line for line in text.splitlines() if " of 3" in line] == [
        "missed: 1 of 3",
        "reproduced: 1 of 3",
        "no data: 1 of 3",
    ]


def kinds(value: Any) -> Any:
    """Return the shape of a JSON value: types for leaves, the first item for lists."""
    if isinstance(value, dict):
        return {name: kinds(part) for name, part in value.items()}
    return [kinds(part) for part in value[:1]] if isinstance(value, list) else type(value).__name__


def test_the_form_of_the_json_is_frozen(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(f'{TARGETS}tags = ["t"]\n[[suite]]\nname = "s"\ntags = ["t"]\nshare = 0.5\n')
    found = kinds(json.loads(printed(capsys, "demo", "--json", code=1)))
    path = Path(__file__).parent / "golden" / "verify.json"
    if os.environ.get("XFW_GOLDEN") == "write":
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == found


def test_markdown_is_one_table_with_the_counts(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(TARGETS)
    text = printed(capsys, "demo", "--markdown", "-", code=1)
    lines = text.splitlines()
    assert lines[0].startswith("| verdict | target |")
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["missed", "reproduced"]
    assert "3 targets: 1 reproduced, 1 missed, 1 no data" in text
    printed(capsys, "demo", "--markdown", "table.md", code=1)
    assert Path("table.md").read_text() == text


@pytest.mark.parametrize(
    ("targets", "arguments", "message"),
    [
        (TARGETS, ["demo", "--only", "nowhere"], "no target has this in its name"),
        (TARGETS, ["dmeo"], "did you mean 'demo'"),
        ("", ["demo"], "has no published numbers"),
        (TARGETS.replace('metric = "best"', 'metric = "bset"'), ["demo"], "$.target[0].metric: unknown metric 'bset'"),
        (TARGETS, ["demo", "--markdown", "no/such/folder.md"], "--markdown no/such/folder.md: cannot write"),
    ],
)
def test_wrong_input_gives_2(
    install: Any, capsys: pytest.CaptureFixture[str], targets: str, arguments: list[str], message: str
) -> None:
    install(targets)
    assert message in printed(capsys, *arguments, code=2)


def test_a_run_that_was_never_sealed_is_refused(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(TARGETS)
    run = create_run(Path("results"), make_manifest(), RECORDS)
    assert f"xfw resume {run.id}" in printed(capsys, run.id, code=2)
    assert "1 reproduced" in printed(capsys, "demo", "--only", "none")


def test_no_run_at_all_is_no_data(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(TARGETS)
    text = printed(capsys, "demo", "--results-dir", "empty")
    assert "no data for 3" in text
    assert "no trial of 0 sealed runs has a published configuration" in text
