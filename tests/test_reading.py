"""The lines of ``docs/reading.md``, each run with its own tool; a tool that is not there is named in the skip."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from xfw.cli.main import invoke

PAGE = (Path(__file__).parents[1] / "docs" / "reading.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|r|octave|javascript|sh)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
"""Language and text of every block."""

PROGRAMS = {
    "python": [sys.executable, "-c"],
    "r": ["Rscript", "-e"],
    "octave": ["octave", "--no-gui", "--quiet", "--eval"],
    "javascript": ["node", "--input-type=module", "-e"],
}
MISSING = re.compile(
    r"No module named '?(\w+)|there is no package called .(\w+)|package (netcdf)|Cannot find package '(\w+)'"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sealed run of psa and its exported tables, under the names of the page."""
    place = tmp_path_factory.mktemp("reading")
    results = ["--results-dir", str(place / "results")]
    keys = ["-s", "arch=1*4", "-s", "mode=none,hidden", "-s", "meta_loops=2", "--trials", "2", "--seed", "1"]
    assert invoke(["run", "psa", *keys, "--device", "cpu", "--jobs", "0", "--quiet", *results]) == 0
    (run,) = (place / "results" / "psa").glob("*/run.h5")
    shutil.copy(run, place / "run.h5")
    for form in ("csv", "parquet"):
        if invoke(["export", "psa", "--format", form, "-o", str(place / "tables"), *results]) == 0:
            (table,) = (place / "tables").glob(f"*.epoch.{form}")
            shutil.copy(table, place / f"epoch.{form}")
    return place


@pytest.mark.parametrize(
    ("language", "text"), [block for block in BLOCKS if block[0] != "sh"], ids=lambda text: text.split("\n")[0][:40]
)
def test_a_line_prints_the_mean(folder: Path, language: str, text: str) -> None:
    program = PROGRAMS[language]
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed: its line of docs/reading.md was not run")
    if "parquet" in text and not (folder / "epoch.parquet").exists():
        pytest.skip("pyarrow is not installed: nothing was exported as Parquet")
    done = subprocess.run([*program, text], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and (missing := MISSING.search(done.stderr)):
        name = next(filter(None, missing.groups()))
        pytest.skip(f"{program[0]} lacks the package {name}: its line of docs/reading.md was not run")
    assert done.returncode == 0, done.stderr
    with h5py.File(folder / "run.h5") as file:
        mean = file["metrics/epoch/val_correct"][:].mean()
    assert float(done.stdout.split()[-1]) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize(
    "command", [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
)
def test_a_command_works(folder: Path, command: str) -> None:
    program, *arguments = command.split()
    if program == "xfw":
        return  # exported above
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: its line of docs/reading.md was not run")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if program == "nccopy":
        xarray = pytest.importorskip("xarray")
        with xarray.open_datatree(folder / "part.nc") as part, h5py.File(folder / "run.h5") as file:
            assert float(part["metrics/epoch/val_correct"].mean()) == file["metrics/epoch/val_correct"][:].mean()
    else:
        assert "val_correct" in done.stdout
