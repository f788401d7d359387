"""The reproduction script: every cell of the study as a command that xfw accepts."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console
from xfw.analysis.output import Output
from xfw.cli.main import invoke
from xfw_psa.analysis import reproduction
from xfw_psa.analysis.reproduction import Command, Options, commands, script
from xfw_psa.config import MODES

DATA_DIR = Path(os.environ.get("XFW_DATA_DIR", ""))
needs_mnist = pytest.mark.skipif(not (DATA_DIR / "MNIST" / "raw").is_dir(), reason="MNIST is not in XFW_DATA_DIR")


def runnable(options: Options) -> list[Command]:
    return [command for command in commands(options) if command.words]


def test_every_cell_of_the_study_has_a_command() -> None:
    found = runnable(Options())
    assert len(found) == 588
    assert len({command.text for command in found}) == 588
    assert found[0].text == ("xfw run psa --preset paper -s 'arch=[1*2048]' -s mode=none -s meta_loops=100 --trials 10")
    assert "-s weight_decay=1e-4" in found[1].text
    assert "-s dropout=0.1" in found[2].text


def test_batched_commands_hold_all_modes() -> None:
    found = runnable(Options(batched=True, family="resmlp"))
    assert len(found) == 98
    assert all("--preset resmlp" in command.text and "mode=all" in command.words for command in found)


@needs_mnist
@pytest.mark.parametrize("number", [0, 1, 2, 587])
def test_commands_are_accepted(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = runnable(Options())[number].words[1:]
    place = ["--dry-run", "--data-dir", str(DATA_DIR), "--results-dir", str(tmp_path)]
    assert invoke([*words, *place]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.slow
@needs_mnist
def test_every_command_is_accepted(tmp_path: Path) -> None:
    place = ["--dry-run", "--quiet", "--json", "--data-dir", str(DATA_DIR), "--results-dir", str(tmp_path)]
    failed = [command.text for command in runnable(Options()) if invoke([*command.words[1:], *place]) != 0]
    assert failed == []


def test_malformed_and_repeated_lines_become_comments(tmp_path: Path) -> None:
    (tmp_path / "nets").write_text("# two\n4*4\nfour by four; rm -rf /\n2*2\n4*4\n")
    found = commands(Options(config_file=str(tmp_path / "nets")))
    assert [command.comment for command in found if not command.words] == [
        "line 3 is no DEPTH*WIDTH: four by four; rm -rf /",
        "line 5 repeats line 2: 4*4",
    ]
    assert len([command for command in found if command.words]) == 2 * len(MODES)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
@pytest.mark.parametrize("batched", [False, True])
def test_the_script_is_executable_and_correct_shell(tmp_path: Path, batched: bool) -> None:
    output = Output(tmp_path)
    reproduction.analyse(None, Options(batched=batched), output)
    (path,) = output.paths
    assert path.stat().st_mode & 0o777 == 0o755
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    lines = path.read_text().splitlines()
    assert "set -e" in lines
    assert sum(line.startswith("xfw run psa ") and line.endswith(' "$@"') for line in lines) == (98 if batched else 588)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_the_script_runs_each_command_and_stops_at_a_failure(tmp_path: Path) -> None:
    (tmp_path / "nets").write_text("4*4\nwrong\n2*2\n")
    stand_in = tmp_path / "bin" / "xfw"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\necho "$@" >> calls\n[ $(wc -l < calls) -lt 3 ]\n')
    stand_in.chmod(0o755)
    (tmp_path / "all.sh").write_text(script(commands(Options(config_file=str(tmp_path / "nets")))))
    path = f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "all.sh", "--device", "cpu"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == 1
    assert len(calls) == 3
    assert shlex.split(calls[0])[-4:] == ["--trials", "10", "--device", "cpu"]
    assert done.stdout.splitlines()[0] == "[1/12] 4*4, none"


def test_commands_are_printed_with_comments(tmp_path: Path) -> None:
    (tmp_path / "nets").write_text("4*4\n")
    said = io.StringIO()
    output = Output(tmp_path / "out", console=Console(file=said, width=1000))
    reproduction.analyse(None, Options(config_file=str(tmp_path / "nets")), output)
    lines = said.getvalue().splitlines()
    assert lines[0] == "# 4*4, none"
    assert lines[1].startswith("xfw run psa --preset paper -s 'arch=[4*4]'")
    assert len(lines) == 12
