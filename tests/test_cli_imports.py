"""What the light commands import, and how long ``xfw --help`` takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from xfw.cli.main import COMMANDS
from xfw.testing.plugins import write_distribution

HEAVY = {"torch", "torchvision", "matplotlib", "h5py", "sklearn", "scipy", "numpy"}
LIST_MODULES = """
import json, sys
from xfw.cli.main import invoke
code = invoke(sys.argv[1:])
sys.stderr.write("\\n" + json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def loaded_by(*arguments: str, **environment: str) -> tuple[int, set[str]]:
    """Return the exit code of a command and the packages it imported, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["list-plugins"],
        ["list-plugins", "--json"],
        ["config", "psa"],
        ["config", "psa", "--preset", "paper", "-s", "mode=all", "--json"],
        ["run", "--help"],
    ],
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code, modules = loaded_by(*arguments)
    assert code == 0
    assert modules.isdisjoint(HEAVY)


def test_listing_and_help_import_no_plugin(tmp_path: Path) -> None:
    write_distribution(tmp_path, "fake", "raise RuntimeError", module="never_imported")
    for arguments in (["--help"], ["list-plugins"], ["config", "psa"]):
        _, modules = loaded_by(*arguments, PYTHONPATH=str(tmp_path))
        assert "never_imported" not in modules


def test_help_imports_no_command() -> None:
    source = "import sys; from xfw.cli.main import invoke; invoke(['--help']); print(list(sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    commands = {where.partition(":")[0] for section in COMMANDS.values() for where, _ in section.values()}
    loaded = set(done.stdout.splitlines()[-1].replace("'", "").strip("[]").split(", "))
    assert commands.isdisjoint(loaded)


def test_help_is_quick() -> None:
    """Conventions, section 1: under 0.4 s; the fastest of five, so that a busy machine does not count."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "xfw.cli.main", "--help"], capture_output=True, check=True)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.4


def test_importing_xfw_imports_nothing_heavy() -> None:
    source = "import sys, xfw; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()}.isdisjoint(HEAVY)
