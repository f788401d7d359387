"""Supervision of a run: retries, failures, interruption, two supervisors, sealing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest
from rich.console import Console
from xfw.errors import UserError
from xfw.process.display import Display
from xfw.process.progress import Progress
from xfw.process.supervise import execute
from xfw.store import claims
from xfw.store.results import open_run
from xfw.store.rundir import create_run
from xfw.terminal import duration
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
    run = held_run(tmp_path, trials=1)
    line = [sys.executable, "-c", INTERRUPTER, str(run.block_dir(0)), run.manifest.config["hold"]]
    interrupter = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    code, text = supervised(run, jobs=1)
    interrupter.wait()
    assert code == 0
    assert "block 0 was interrupted; going on from its last commit" in text
    assert run.block_states()[0].attempts == 2


INTERRUPTER = """
import os, pathlib, signal, sys, time, tomllib
path, hold = map(pathlib.Path, sys.argv[1:])
def wait_for(text):
    while not (path / "log.txt").exists() or text not in (path / "log.txt").read_text():
        time.sleep(0.01)
wait_for("correct=")
os.kill(tomllib.loads((path / "claim-1.toml").read_text())["pid"], signal.SIGTERM)
wait_for("asked to stop")
hold.unlink()
"""


def held_run(results_dir, **options):
    """Return a run whose blocks wait, after their first epoch, until the file ``hold`` is removed."""
    hold = results_dir / "hold"
    hold.touch()
    return small_run(results_dir, config={"hold": str(hold)}, **options)


def wait_for_logs(run, text, blocks=(0,)):
    """Wait until each of the blocks has logged a text."""
    paths = [run.block_dir(index) / "log.txt" for index in blocks]
    deadline = time.monotonic() + 120
    while not all(path.exists() and text in path.read_text() for path in paths):
        assert time.monotonic() < deadline, f"no {text!r} in {paths}"
        time.sleep(0.01)


def test_damaged_state_gives_exit_code_2_and_names_the_file(tmp_path):
    run = small_run(tmp_path)
    (run.block_dir(0) / "state-1.h5").write_bytes(b"not what it was")
    code, text = supervised(run, jobs=1)
    assert code == 2
    assert "state-1.h5 is damaged" in text
    assert (run.block_dir(0) / "state-1.h5").read_bytes() == b"not what it was"


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


class Ending(io.StringIO):
    """What is printed; ends the attempt that this process has claimed as soon as it is said to be waited for."""

    def __init__(self, run, state):
        super().__init__()
        self.run, self.state = run, state

    def write(self, text):
        if "waiting for it" in text:
            claims.write_end(self.run.block_dir(0), claims.End(1, self.state, "because", claims.now()))
        return super().write(text)


@pytest.mark.parametrize("jobs", [0, 1])
@pytest.mark.parametrize(
    ("state", "code", "attempts", "said"),
    [
        ("interrupted", 0, 2, "block 0 started: 1 trial, attempt 2"),
        ("done", 0, 1, "block 0 done elsewhere"),
        ("failed", 1, 1, "error: block 0: because"),
    ],
)
def test_a_block_that_another_process_runs_is_waited_for(tmp_path, jobs, state, code, attempts, said):
    run = small_run(tmp_path, trials=2, blocks=2)
    claims.claim_block(run.block_dir(0), "cpu")
    text = Ending(run, state)
    assert execute(run, jobs=jobs, console=Console(file=text, width=200)) == code
    assert f"block 0 is being run by process {os.getpid()}" in text.getvalue()
    assert said in text.getvalue()
    assert [block.attempts for block in run.block_states()] == [attempts, 1]
    assert states(run)[1] == "done"


def test_a_stop_does_not_wait_for_others(tmp_path):
    run = small_run(tmp_path)
    claims.claim_block(run.block_dir(0), "cpu")
    process = command(run, "--jobs", "1")
    deadline = time.monotonic() + 60
    while not claims.supervisors(run.path) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert states(run) == ["running"]
    assert not list(run.path.glob("supervisor-*"))


def test_a_run_is_claimed_while_somebody_is_at_work_on_it(tmp_path):
    run = small_run(tmp_path)
    seen = []

    class Looking(io.StringIO):
        def write(self, text):
            seen.append([claim.pid for claim in claims.supervisors(run.path)])
            return super().write(text)

    assert execute(run, jobs=0, console=Console(file=Looking(), width=200)) == 0
    assert seen
    assert all(pids == [os.getpid()] for pids in seen)
    assert not list(run.path.glob("supervisor-*"))


def test_two_supervisors_share_the_blocks_of_a_run(tmp_path, reference):
    run = small_run(tmp_path, config={"pause": 0.1}, **BLOCKS)
    processes = [command(run, "--jobs", "1") for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert [each.attempts for each in run.block_states()] == [1, 1, 1]
    assert states(run) == ["done"] * 3
    supervised(run, jobs=0)
    assert metrics_of(run) == reference


def command(run, *arguments):
    """Start ``xfw resume`` on a run, in a process group of its own, as a terminal would."""
    line = [sys.executable, "-m", "xfw.cli.main", "resume", run.id, "--results-dir", str(run.results_dir), *arguments]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@pytest.mark.parametrize(
    ("number", "code", "jobs"),
    [(signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 3), (signal.SIGHUP, 129, 3), (signal.SIGINT, 130, 0)],
)
def test_signal_commits_seals_and_can_be_resumed(tmp_path, reference, number, code, jobs):
    run = held_run(tmp_path, **BLOCKS)
    process = command(run, "--jobs", str(jobs))
    wait_for_logs(run, "correct=", range(max(jobs, 1)))
    os.killpg(process.pid, number)
    wait_for_logs(run, "asked to stop", range(max(jobs, 1)))
    (tmp_path / "hold").unlink()
    assert process.wait(60) == code
    expected = ["interrupted"] * 3 if jobs else ["interrupted", "pending", "pending"]
    assert states(run) == expected
    with open_run(run) as results:
        assert results.count("epoch").max() >= 1
        assert set(results.status) == set(expected)
    assert supervised(run, jobs=0)[0] == 0
    assert metrics_of(run) == reference


def test_second_signal_kills(tmp_path):
    run = held_run(tmp_path, trials=1)
    process = command(run, "--jobs", "1")
    wait_for_logs(run, "correct=")
    os.kill(process.pid, signal.SIGINT)
    wait_for_logs(run, "asked to stop")
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert states(run) == ["lost"]


def test_killed_supervisor_loses_nothing(tmp_path, reference):
    run = held_run(tmp_path, **BLOCKS)
    process = command(run, "--jobs", "3")
    wait_for_logs(run, "correct=", range(3))
    process.kill()
    process.wait()
    wait_for_logs(run, "asked to stop: the process that started this block is gone", range(3))
    (tmp_path / "hold").unlink()
    assert supervised(run, jobs=0)[0] == 0
    assert [claims.read(run.block_dir(index) / "end-1.toml", claims.End).state for index in range(3)] == [
        "interrupted"
    ] * 3
    assert metrics_of(run) == reference


def test_a_closed_terminal_commits_and_seals(tmp_path, reference):
    run = held_run(tmp_path, **BLOCKS)
    terminal, inside = os.openpty()
    line = [
        sys.executable,
        "-m",
        "xfw.cli.main",
        "resume",
        run.id,
        "--results-dir",
        str(run.results_dir),
        "--jobs",
        "3",
    ]
    attach = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", attach, *line], stdin=inside, stdout=inside, stderr=inside, start_new_session=True
    )
    os.close(inside)
    wait_for_logs(run, "correct=", range(3))
    os.close(terminal)
    wait_for_logs(run, "asked to stop", range(3))
    (tmp_path / "hold").unlink()
    assert process.wait(60) == 129
    assert states(run) == ["interrupted"] * 3
    with open_run(run) as results:
        assert set(results.status) == {"interrupted"}
    assert supervised(run, jobs=0)[0] == 0
    assert metrics_of(run) == reference


def test_nohup_goes_on_when_the_terminal_is_closed(tmp_path, reference):
    run = held_run(tmp_path, **BLOCKS)
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    line = [
        sys.executable,
        "-m",
        "xfw.cli.main",
        "resume",
        run.id,
        "--results-dir",
        str(run.results_dir),
        "--jobs",
        "3",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring, *line],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_logs(run, "correct=", range(3))
    os.killpg(process.pid, signal.SIGHUP)
    (tmp_path / "hold").unlink()
    assert process.wait(120) == 0
    assert states(run) == ["done"] * 3
    assert metrics_of(run) == reference


def test_the_server_of_processes_may_be_killed_at_any_time(tmp_path, reference):
    run = held_run(tmp_path, **BLOCKS)
    process = subprocess.Popen(
        [sys.executable, "-m", "xfw.cli.main", "resume", run.id, "--results-dir", str(run.results_dir), "--jobs", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    server = wait_for_child(process.pid, "xfw.process.server")
    os.kill(server, signal.SIGKILL)  # it still loads torch
    wait_for_logs(run, "correct=", [1])
    os.kill(wait_for_child(process.pid, "xfw.process.server"), signal.SIGKILL)  # a block of it runs
    (tmp_path / "hold").unlink()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert "block 0: its process died (nobody saw how); going on from its last commit" in said
    assert states(run) == ["done"] * 3
    assert metrics_of(run) == reference


def wait_for_child(parent, program):
    """Return the process id of a child that runs a module."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                of = int(path.read_text("ascii", "replace").rpartition(")")[2].split()[1])
                if of == parent and program in (path.parent / "cmdline").read_text():
                    return int(path.parent.name)
            except (OSError, IndexError):
                continue
        time.sleep(0.01)
    pytest.fail(f"no {program}")


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
    monkeypatch.setattr("xfw.process.display.PLAIN_INTERVAL", 0.0)
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
    ("seconds", "text"), [(0.4, "< 1 s"), (59.4, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_read_like_speech(seconds, text):
    assert duration(seconds) == text
