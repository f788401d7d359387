"""Every script in findings/ says what it is about, pins what it installs, is listed, and is one that bash can parse."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FINDINGS = Path(__file__).parents[1] / "findings"
SCRIPTS = sorted(FINDINGS.glob("*.sh"))
PIN = re.compile(r"[A-Za-z0-9._-]+(?:\[[a-z,]+\])?==[0-9][A-Za-z0-9.]*")
LABELS = ("Guess", "So", "Hurt", "Seen with")

scripts = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def rows() -> dict[str, list[str]]:
    """Return the cells of the README's table behind each script's name."""
    lines = (FINDINGS / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| [")]
    return {match[1]: rest for name, *rest in cells if (match := re.fullmatch(r"\[(.+)\]\(\1\.sh\)", name))}


def pins(script: Path) -> list[str]:
    match = re.search(r"^packages=\((.*)\)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    return match[1].split() if match else []


def test_the_table_lists_every_script_and_nothing_else() -> None:
    assert sorted(rows()) == [path.stem for path in SCRIPTS]


@scripts
def test_a_script_says_what_one_guesses_what_is_so_who_is_hurt_and_with_which_versions(script: Path) -> None:
    first, *lines = script.read_text(encoding="utf-8").splitlines()
    assert first == "#!/usr/bin/env bash"
    header = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    assert [line[2:].split(":")[0] for line in header if not line.startswith("#   ")] == list(LABELS)


@scripts
def test_a_script_installs_pinned_versions_only_and_the_table_names_them(script: Path) -> None:
    packages = pins(script)
    assert packages
    assert [package for package in packages if not PIN.fullmatch(package)] == []
    assert script.read_text(encoding="utf-8").count("pip install") == 1
    sentence, versions, hurt = rows()[script.stem]
    assert versions == ", ".join(package.replace("==", " ") for package in packages)
    assert "" not in (sentence, hurt)


@scripts
def test_a_script_stops_at_the_first_error_and_leaves_no_folder_behind(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail\n" in text
    assert "trap 'rm -rf \"$work\"' EXIT\n" in text
    subprocess.run(["bash", "-n", script], check=True)


@scripts
def test_a_script_can_fail_and_does_not_use_xfw(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    (program,) = re.findall(r"<<'PY'\n(.*)\nPY\n", text, re.DOTALL)
    compile(program, script.name, "exec")
    assert "    assert " in program or "\nassert " in program
    assert "xfw" not in text
