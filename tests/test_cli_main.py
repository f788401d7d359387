"""The command line as a whole: sections, exit codes, errors with and without traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import xfw
from xfw.cli.main import COMMANDS, cli, invoke
from xfw.testing.runs import finished_run


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make ``xfw runs`` raise."""

    @click.command()
    def command() -> None:
        raise error

    monkeypatch.setattr("xfw.cli.runs.runs", command)


def test_every_command_can_be_imported_and_has_help() -> None:
    context = click.Context(cli)
    for section in COMMANDS.values():
        for name in section:
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert command.help


def test_help_lists_every_command_under_its_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == 0
    text = capsys.readouterr().out
    for title, section in COMMANDS.items():
        assert f"{title}:" in text
        for name, (_, summary) in section.items():
            assert f"  {name} " in text
            assert summary in " ".join(text.split())


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out.startswith("xfw 0.")


def test_an_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["rum", "psa"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'rum'\n  did you mean 'run'?\n"


def test_wrong_usage_names_the_page_that_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run"]) == 2
    assert capsys.readouterr().err == "error: Missing argument 'NAME'.\n  see: xfw run --help\n"


@pytest.mark.parametrize("code", [1, 2])
def test_an_expected_error_has_its_exit_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    failing(monkeypatch, xfw.UserError("no such thing", hint="look again", exit_code=code))
    assert invoke(["runs"]) == code
    assert capsys.readouterr().err == "error: no such thing\n  look again\n"


def test_debug_prints_the_traceback_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, xfw.UserError("no such thing"))
    invoke(["--debug", "runs"])
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("error: no such thing\n")


def test_an_unexpected_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        invoke(["runs"])


def test_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert invoke(["runs"]) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted"


WAITING = """
import sys, time, click
from pathlib import Path
from xfw.analysis.output import Output
from xfw.cli import main, runs

def wait():
    print("ready", flush=True)
    time.sleep(30)

def in_a_plugins_code():
    with Output(Path("unused")).attempt("a metric"):
        wait()
    return 1

def in_a_library_that_says_something_else():
    try:
        wait()
    except KeyboardInterrupt:
        raise ImportError("initialization failed")

class Dying:
    def __del__(self):
        wait()

def in_a_destructor():
    Dying()
    time.sleep(30)

runs.runs = click.Command("runs", callback=CALLBACK)
sys.argv = ["xfw", "runs"]
main.main()
"""


@pytest.mark.parametrize(
    "callback", ["wait", "in_a_plugins_code", "in_a_library_that_says_something_else", "in_a_destructor"]
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_exit_with_their_codes(number: signal.Signals, code: int, callback: str) -> None:
    source = WAITING.replace("CALLBACK", callback)
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(20) == code
    process.stdout.close()


def test_a_reader_that_goes_away_is_no_crash() -> None:
    command = f"{sys.executable} -m xfw.cli.main config psa --json | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "--results-dir", "x" * 5000],
        ["run", "psa", "--dry-run", "--results-dir", "x" * 5000],
        ["run", "psa", "--dry-run", "--data-dir", "x" * 5000],
        ["run", "psa", "--dry-run", "--data-dir", "~nobody-at-all/x"],
        ["run", "psa", "--dry-run", "-s", f"init_from={'x' * 5000}"],
        ["run", "psa", "--dry-run", "-s", "init_from=~nobody-at-all/x"],
        ["run", "netfragments", "--dry-run", "-s", f"weights={'x' * 5000}"],
    ],
)
def test_a_path_that_cannot_be_is_an_error_of_the_user(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_control_characters_of_an_argument_are_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "psa", "-s", "l\x1b[2Jr=1"]) == 2
    assert invoke(["run", "\x1b[2J"]) == 2
    assert invoke(["run", "psa", "--\x1b[2J"]) == 2
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert shown.count("\\u001b[2J") >= 3


def test_control_characters_of_a_stored_run_are_shown_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path, config={"name": "a\x1b[2Jb"}, provenance={"name": "default"}, preset="\x1b[31mred")
    assert invoke(["runs", "--results-dir", str(tmp_path)]) == 0
    assert invoke(["show", run.id, "--results-dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "a\\u001b[2Jb" in shown
    assert "\\u001b[31mred" in shown
