"""A strict type checker accepts what authors write with xfw, in packages of their own, and finds their mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from xfw.cli.main import invoke

pytest.importorskip("mypy")

REPOSITORY = Path(__file__).parents[1]
WRONG = """
import xfw

spec = xfw.Pass(batch_sizes=3)

def on_end(block: xfw.Block) -> None:
    block.recordd("epoch")
"""


def checked(folder: Path, *paths: Path) -> tuple[int, str]:
    """Type-check files as their author would: strictly, and without the configuration of this repository."""
    cache = ["--cache-dir", str(REPOSITORY / ".mypy_cache" / "authors")]
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", *cache, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted((REPOSITORY / "docs" / "examples").iterdir()), ids=lambda path: path.name)
def test_the_examples_are_accepted(example: Path, tmp_path: Path) -> None:
    code, text = checked(tmp_path, example / "src")
    assert code == 0, text


@pytest.mark.slow
def test_a_new_plugin_is_accepted_with_its_tests(tmp_path: Path) -> None:
    assert invoke(["new", "typed_paper", "--into", str(tmp_path)]) == 0
    code, text = checked(tmp_path, Path("typed_paper/src"), Path("typed_paper/tests"))
    assert code == 0, text


@pytest.mark.slow
def test_mistakes_are_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    code, text = checked(tmp_path, Path("wrong.py"))
    assert code == 1
    assert '"batch_sizes" for "Pass"' in text
    assert '"Block" has no attribute "recordd"' in text
