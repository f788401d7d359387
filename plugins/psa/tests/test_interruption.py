"""Ctrl-C between loops, and what ``xfw resume`` makes of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir, find_run

LOOPS = 150
COMMAND = [sys.executable, "-m", "xfw.cli.main"]
VARIABLES = ("val_correct", "lkg_correct", "accepted", "ablated_layer", "ablated_unit", "train_loss")


def arguments(results_dir: Path) -> list[str]:
    keys = ["-s", "arch=1*4", "-s", f"meta_loops={LOOPS}", "-s", "mode=hidden", "--seed", "5"]
    return [*COMMAND, "run", "psa", *keys, "--device", "cpu", "--jobs", "1", "--results-dir", str(results_dir)]


def wait_for_loops(results_dir: Path, process: subprocess.Popen[bytes], loops: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        logs = list(results_dir.glob("psa/*/blocks/0000/log.txt"))
        if logs and logs[0].read_text().count("| Loop ") >= loops:
            return
        time.sleep(0.02)
    pytest.fail("the run did not get far enough")


def opened(run: RunDir) -> Results:
    return open_run(run)


def test_interrupted_run_is_completed_to_the_numbers_of_an_uninterrupted_one(tmp_path: Path) -> None:
    process = subprocess.Popen(arguments(tmp_path / "cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_loops(tmp_path / "cut", process, 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    run = find_run(tmp_path / "cut", "@last")
    with opened(run) as partial:
        assert 2 <= int(partial.count("epoch")[0]) < LOOPS
        assert partial.status == ["interrupted"]
    resume = [*COMMAND, "resume", run.id, "--results-dir", str(tmp_path / "cut")]
    assert subprocess.run(resume, check=False, capture_output=True).returncode == 0
    assert subprocess.run(arguments(tmp_path / "whole"), check=False, capture_output=True).returncode == 0
    with opened(run) as resumed, opened(find_run(tmp_path / "whole", "@last")) as whole:
        for variable in VARIABLES:
            assert np.array_equal(resumed.values("epoch", variable), whole.values("epoch", variable)), variable
        for name in whole.arrays():
            assert np.array_equal(resumed.array(name), whole.array(name)), name
    before = run.run_file.read_bytes()
    assert subprocess.run(resume, check=False, capture_output=True).returncode == 0
    with opened(run) as again:
        assert again.count("epoch").tolist() == [LOOPS]
    assert len(run.run_file.read_bytes()) == len(before)
