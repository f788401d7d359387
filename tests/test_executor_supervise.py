"""Supervision of a run: retries, failures, interruption, two supervisors, sealing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import attrs
import pytest
from rich.console import Console
from xfw.errors import UserError
from xfw.executors.display import Display, duration
from xfw.executors.supervise import execute
from xfw.progress import Progress, read_progress
from xfw.store import claims
from xfw.store.results import open_run
from xfw.store.rundir import create_run
from xfw.testing import small
from xfw.testing.runs import make_manifest, metrics_of, small_run

SWEEP = {"lr": [0.01, 0.003]}
BLOCKS = {"trials": 3, "sweep": SWEEP, "blocks": 3}


@pytest.fixture(scope="module", autouse=True)
def experiment(tmp_path_factory):
    """Install the small experiment for this process and its children."""
    folder = str(small.install(tmp_path_factory.mktemp("site")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", folder)
        yield


def supervised(run, **options):
    """Execute a run and return the exit code with what was printed."""
    text = io.StringIO()
    code = execute(run, console=Console(file=text, width=200), **options)
    return code, text.getvalue()


def states(run):
    return [each.state for each in run.block_states()]


def run_of(results_dir, manifest):
    return create_run(results_dir, manifest, small.declare_records(small.Config()))


def split_run(results_dir, first, others):
    """Return a run of two conditions in a block each, whose configurations differ in a key that is not per trial."""
    key = next(iter(first))
    manifest = make_manifest(experiment="small", config={}, trials=1, sweep={key: [first[key], others]}, blocks=2)
    return run_of(results_dir, manifest)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    run = small_run(tmp_path_factory.mktemp("reference"), **BLOCKS)
    assert supervised(run, jobs=0)[0] == 0
    return metrics_of(run)


@pytest.mark.parametrize("jobs", [1, 3])
def test_number_of_jobs_does_not_change_the_metrics(tmp_path, reference, jobs):
    run = small_run(tmp_path, **BLOCKS)
    code, text = supervised(run, jobs=jobs)
    assert code == 0
    assert "block 2 started: 2 trials" in text
    assert "block 2 done in" in text
    assert metrics_of(run) == reference


def test_order_and_size_of_the_blocks_do_not_change_the_metrics(tmp_path, reference):
    plain = make_manifest(experiment="small", config={}, **BLOCKS)
    (whole,) = make_manifest(**(BLOCKS | {"blocks": 1})).blocks
    for number, blocks in enumerate([tuple(reversed(plain.blocks)), (whole,)]):
        run = run_of(tmp_path / str(number), attrs.evolve(plain, blocks=blocks))
        assert supervised(run, jobs=0)[0] == 0
        assert metrics_of(run) == reference


def test_failure_is_reported_at_once_and_at_the_end_and_the_others_go_on(tmp_path):
    run = split_run(tmp_path, {"fail_in": 2}, 99)
    code, text = supervised(run, jobs=1)
    assert code == 1
    assert states(run) == ["failed", "done"]
    failure = "block 0: ValueError: this epoch was asked to fail"
    assert text.index(f"error: {failure}") < text.index("block 1 started") < text.rindex(failure)
    assert "1 failed:" in text
    with open_run(run) as results:
        assert results.status == ["failed", "done"]


def test_a_trial_that_diverged_is_named_and_ends_with_1_though_its_block_is_done(tmp_path):
    manifest = make_manifest(experiment="small", config={}, trials=1, sweep={"lr": [0.01, 1e38]})
    run = run_of(tmp_path, manifest)
    code, text = supervised(run, jobs=0)
    assert code == 1
    assert states(run) == ["done"]
    assert "diverged (parameters not finite): lr=1e+38: trials 0" in text
    with open_run(run) as results:
        assert results.status == ["done", "diverged"]


def test_fail_fast_starts_nothing_more(tmp_path):
    run = split_run(tmp_path, {"fail_in": 2}, 99)
    code, _ = supervised(run, jobs=1, fail_fast=True)
    assert code == 1
    assert states(run) == ["failed", "pending"]


def test_fail_fast_works_in_this_process_too(tmp_path):
    run = split_run(tmp_path, {"fail_in": 2}, 99)
    assert supervised(run, jobs=0, fail_fast=True)[0] == 1
    assert states(run) == ["failed", "pending"]


def test_crashed_block_is_tried_again_from_its_last_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("XFW_COMMIT_SECONDS", "0")
    run = small_run(tmp_path, config={"die_in": 3, "deaths": str(tmp_path / "deaths")})
    code, text = supervised(run, jobs=1)
    assert code == 0
    assert "its process died (signal 9); going on from its last commit" in text
    assert run.block_states()[0].attempts == 2
    assert "attempt 2" in text


def test_block_that_crashes_three_times_is_given_up(tmp_path):
    run = split_run(tmp_path, {"die_in": 2}, 99)
    code, text = supervised(run, jobs=2)
    assert code == 1
    assert "its process died (signal 9) 3 times; log:" in text
    assert [each.attempts for each in run.block_states()] == [3, 1]
    with open_run(run) as results:
        assert results.status == ["lost", "done"]


def test_failed_block_is_tried_again_by_the_next_supervisor_only(tmp_path):
    run = small_run(tmp_path, config={"fail_in": 2})
    assert supervised(run, jobs=1)[0] == 1
    assert run.block_states()[0].attempts == 1
    assert supervised(run, jobs=1)[0] == 1
    assert run.block_states()[0].attempts == 2


def test_block_that_somebody_else_interrupts_goes_on(tmp_path, reference):
    run = small_run(tmp_path, config={"pause": 0.3}, trials=1)
    interrupter = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTER, str(run.block_dir(0))], stdout=subprocess.DEVNULL
    )
    code, text = supervised(run, jobs=1)
    interrupter.wait()
    assert code == 0
    assert "block 0 was interrupted; going on from its last commit" in text
    assert run.block_states()[0].attempts == 2


INTERRUPTER = """
import os, pathlib, signal, sys, time, tomllib
path = pathlib.Path(sys.argv[1])
while not (path / "progress.json").exists():
    time.sleep(0.01)
os.kill(tomllib.loads((path / "claim-1.toml").read_text())["pid"], signal.SIGTERM)
"""


def test_damaged_state_gives_exit_code_2_and_names_the_file(tmp_path):
    run = small_run(tmp_path)
    (run.block_dir(0) / "state.h5").write_bytes(b"not what it was")
    code, text = supervised(run, jobs=1)
    assert code == 2
    assert "state.h5 is damaged" in text
    assert (run.block_dir(0) / "state.h5").read_bytes() == b"not what it was"


def test_finished_run_is_sealed_again_and_nothing_else(tmp_path):
    run = small_run(tmp_path)
    supervised(run, jobs=0)
    before = metrics_of(run)
    run.run_file.unlink()
    assert supervised(run, jobs=1)[0] == 0
    assert run.block_states()[0].attempts == 1
    assert metrics_of(run) == before


def test_other_version_is_refused_before_anything_starts(tmp_path):
    run = small_run(tmp_path, versions={"small": "0.9"})
    with pytest.raises(UserError, match=r"planned with small 0\.9") as caught:
        supervised(run, jobs=1)
    assert caught.value.exit_code == 2
    assert states(run) == ["pending"]
    assert supervised(run, jobs=1, allow_version_change=True)[0] == 0


def test_second_supervisor_leaves_running_blocks_alone(tmp_path):
    run = small_run(tmp_path, trials=2, blocks=2)
    claims.claim_block(run.block_dir(0), "cpu")
    code, text = supervised(run, jobs=1)
    assert code == 1
    assert states(run) == ["running", "done"]
    assert f"block 0: is being run by process {os.getpid()}" in text
    with open_run(run) as results:
        assert results.status == ["running", "done"]


def test_two_supervisors_share_the_blocks_of_a_run(tmp_path, reference):
    run = small_run(tmp_path, config={"pause": 0.1}, **BLOCKS)
    processes = [command(run, "--jobs", "1") for _ in range(2)]
    codes = {process.wait(120) for process in processes}
    assert codes <= {0, 1}, "1 for the one that found a block taken"
    assert [each.attempts for each in run.block_states()] == [1, 1, 1]
    assert states(run) == ["done"] * 3
    supervised(run, jobs=0)
    assert metrics_of(run) == reference


def command(run, *arguments):
    """Start ``xfw resume`` on a run, in a process group of its own, as a terminal would."""
    line = [sys.executable, "-m", "xfw.cli.main", "resume", run.id, "--results-dir", str(run.results_dir), *arguments]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def wait_for_epoch(run, epoch, blocks=(0,)):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [read_progress(run.block_dir(index)) for index in blocks]
        if all(each and each.epoch >= epoch for each in found):
            return
        time.sleep(0.01)
    pytest.fail("the blocks did not come so far")


@pytest.mark.parametrize(
    ("number", "code", "jobs"), [(signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 3), (signal.SIGINT, 130, 0)]
)
def test_signal_commits_seals_and_can_be_resumed(tmp_path, reference, number, code, jobs):
    run = small_run(tmp_path, config={"pause": 0.4}, **BLOCKS)
    process = command(run, "--jobs", str(jobs))
    wait_for_epoch(run, 1, range(max(jobs, 1)))
    os.killpg(process.pid, number)
    assert process.wait(60) == code
    expected = ["interrupted"] * 3 if jobs else ["interrupted", "pending", "pending"]
    assert states(run) == expected
    with open_run(run) as results:
        assert results.count("epoch").max() >= 1
        assert set(results.status) == set(expected)
    assert supervised(run, jobs=0)[0] == 0
    assert metrics_of(run) == reference


def test_second_signal_kills(tmp_path, monkeypatch):
    monkeypatch.setenv("XFW_COMMIT_SECONDS", "0")
    run = small_run(tmp_path, config={"pause": 30.0}, trials=1)
    process = command(run, "--jobs", "1")
    deadline = time.monotonic() + 60
    while not (run.block_dir(0) / "state.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # the commit before the first epoch is made, now the plugin waits
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(15) == 130
    assert states(run) == ["lost"]


def test_killed_supervisor_loses_nothing(tmp_path, reference):
    run = small_run(tmp_path, config={"pause": 0.4}, **BLOCKS)
    process = command(run, "--jobs", "3")
    wait_for_epoch(run, 1, range(3))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while "running" in states(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert states(run) == ["interrupted"] * 3
    assert supervised(run, jobs=0)[0] == 0
    assert metrics_of(run) == reference


def progress(**changes):
    return Progress(**({"begun_steps": 0, "begun": 0.0, "steps": 50, "time": 10.0, "total_steps": 100, "epoch": 2,
                        "epochs": 4, "headline": {"loss": [0.5, 0.25]}} | changes))  # fmt: skip


def test_live_table_has_a_row_for_each_trial_with_rate_and_time_left():
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True)
    display = Display(make_manifest(sweep={"net.mode": ["none"]}), console=console)
    with display:
        display.show({0: "running"}, {0: progress()})
        display._live.refresh()
    shown = text.getvalue()
    assert "0 of 2 trials done" in shown
    for part in ("mode=none trial 1", "running", "2/4", "0.25", "10", "10 s"):
        assert part in shown


def test_many_trials_are_shown_by_block():
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True)
    display = Display(make_manifest(trials=30, blocks=2), console=console)
    with display:
        display.show({0: "done", 1: "running"}, {0: progress(epoch=3), 1: progress()})
        display._live.refresh()
    assert "1 (15 trials)" in text.getvalue()
    assert "4/4" in text.getvalue(), "a block that is done has done all its epochs"
    assert "15 of 30 trials done" in text.getvalue()


def test_plain_lines_where_there_is_no_terminal(monkeypatch):
    text = io.StringIO()
    display = Display(make_manifest(), console=Console(file=text, width=120))
    display.show({0: "running"}, {0: progress()})
    assert text.getvalue() == ""
    monkeypatch.setattr("xfw.executors.display.PLAIN_INTERVAL", 0.0)
    display.show({0: "running"}, {0: progress()})
    assert text.getvalue() == "block 0: 2 of 4 epochs done, 5.0 steps/s, 10 s left\n"
    display.show({0: "running"}, {0: progress(stage="evaluate")})
    assert text.getvalue().endswith("block 0: 2 of 4 cells of evaluate done, 5.0 cells/s, 10 s left\n")


def test_quiet_leaves_failures_only(tmp_path):
    run = split_run(tmp_path, {"fail_in": 2}, 99)
    _, text = supervised(run, jobs=0, quiet=True)
    lines = [line.partition(":")[0] for line in text.splitlines()]
    assert lines == ["error", "  traceback", "1 failed", "  block 0", "  traceback"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_read_like_speech(seconds, text):
    assert duration(seconds) == text
