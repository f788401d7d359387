"""Frozen surfaces: hook signatures, CLI options and JSON outputs are compared with ``tests/golden/``.

A difference is a decision: write the files anew with ``XFW_GOLDEN=write`` and add a fragment to ``changes/``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from xfw.cli.main import COMMANDS, cli, invoke
from xfw.plugins.contract import specifications
from xfw.testing.plugins import write_distribution

GOLDEN = Path(__file__).parent / "golden"
FAKE = """
import attrs
import xfw

api = 2

@attrs.frozen
class Config:
    lr: float = xfw.key(0.1, help="learning rate", unit="1/step", gt=0, alias=("rate",), per_trial=True)
    mode: str = xfw.key("none", help="mode", choices=("none", "full"))
    steps: int | None = xfw.key(None, help="steps", ge=1)

@xfw.hookimpl
def define_config():
    return Config

@xfw.hookimpl
def define_presets():
    return {"quick": xfw.Preset({"mode": "full"}, help="fast", trials=2)}

@xfw.hookimpl
def declare_records(config):
    return xfw.Records()

@xfw.hookimpl
def load_data(config, sources):
    import torch
    return {"train": xfw.Dataset((torch.zeros(10, 2),))}

@xfw.hookimpl
def build_model(config):
    import torch
    return torch.nn.Linear(2, 2)

@xfw.hookimpl
def plan_passes(config):
    return [xfw.Pass(batch_size=5)]

@xfw.hookimpl
def train_step(model, batch):
    return model(batch[0]).sum()
"""


def compare(name: str, value: Any) -> None:
    """Compare a value with its golden file, or write the file where that is asked for."""
    path = GOLDEN / f"{name}.json"
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("XFW_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(text)


def kinds(value: Any) -> Any:
    """Return the shape of a JSON value: types for leaves, the first item for lists."""
    if isinstance(value, dict):
        return {name: kinds(part) for name, part in value.items()}
    return [kinds(part) for part in value[:1]] if isinstance(value, list) else type(value).__name__


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_distribution(tmp_path, "fake_golden", FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert invoke([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_hook_signatures() -> None:
    compare("hooks", {name: attrs.asdict(spec) for name, spec in specifications().items()})


def parameters(command: click.Command) -> list[dict[str, Any]]:
    """Return what users type of a command's parameters."""
    return [
        {
            "names": [*parameter.opts, *parameter.secondary_opts],
            "kind": parameter.param_type_name,
            "type": parameter.type.name,
            "choices": list(getattr(parameter.type, "choices", ())),
            "required": parameter.required,
            "multiple": parameter.multiple,
            "nargs": parameter.nargs,
        }
        for parameter in command.params
    ]


def commands(name: str, command: click.Command) -> dict[str, Any]:
    """Return the parameters of a command and of those below it, by full name."""
    found = {name: parameters(command)}
    if isinstance(command, click.Group):
        for child, below in command.commands.items():
            found |= commands(f"{name} {child}", below)
    return found


def test_cli_options() -> None:
    context = click.Context(cli)
    found = {"xfw": parameters(cli)}
    for section in COMMANDS.values():
        for name in section:
            command = cli.get_command(context, name)
            assert command is not None
            found |= commands(name, command)
    compare("cli", json.loads(json.dumps(found, default=str)))


@pytest.mark.usefixtures("fake")
def test_list_plugins_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "list-plugins", "--hooks")
    found["plugins"] = [
        {**plugin, "import_seconds": 0} for plugin in found["plugins"] if plugin["name"] == "fake_golden"
    ]
    compare("list-plugins", found)


@pytest.mark.usefixtures("fake")
def test_config_json(capsys: pytest.CaptureFixture[str]) -> None:
    compare("config", printed(capsys, "config", "fake_golden", "-s", "rate=1,2"))


@pytest.mark.usefixtures("fake")
def test_dry_run_json(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "fake_golden", "--dry-run", "-s", "rate=1,2", "--seed", "5", "--device", "cpu"]
    compare("dry-run", kinds(printed(capsys, *command)))


@pytest.mark.usefixtures("fake")
def test_run_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xfw.process.supervise.execute", lambda run_dir, **_: 0)
    compare("run", kinds(printed(capsys, "run", "fake_golden", "--seed", "5", "--device", "cpu")))
