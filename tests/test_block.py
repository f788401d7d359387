"""The block process: it claims, runs from the last commit, and says how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import attrs
import pytest
import torch
from xfw.manifest import Source
from xfw.process import block
from xfw.process.progress import Log, Reporter, read_progress
from xfw.process.stop import Stop, beating, on_signals
from xfw.store import atomic, claims
from xfw.store.atomic import sha256_of
from xfw.store.commit import load_state
from xfw.store.rundir import RunDir
from xfw.store.seal import seal
from xfw.testing.runs import metrics_of, small_run
from xfw.testing.small import install


@pytest.fixture(scope="module", autouse=True)
def experiment(tmp_path_factory):
    """Install the small experiment for this process and its children."""
    folder = str(install(tmp_path_factory.mktemp("site")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture
def eager(monkeypatch):
    """Commit whenever the engine asks."""
    monkeypatch.setenv("XFW_COMMIT_SECONDS", "0")


def state_of(run, index=0):
    return claims.block_state(run.block_dir(index))


def start(run, *arguments):
    command = [sys.executable, "-m", "xfw.block", str(run.path), "0", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def log_of(run):
    path = run.block_dir(0) / "log.txt"
    return path.read_text() if path.exists() else ""


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return the metrics of an uninterrupted run, as ``results_of`` gives them."""
    return results_of(small_run(tmp_path_factory.mktemp("reference")))


def results_of(run):
    assert block.main(run.path, 0) == 0
    seal(run)
    return metrics_of(run)


def test_block_runs_to_its_end(tmp_path):
    run = small_run(tmp_path)
    assert block.main(run.path, 0) == 0
    found = state_of(run)
    assert (found.state, found.attempts, found.end.reason) == ("done", 1, "")
    restored = load_state(run.block_dir(0))
    assert restored.final
    assert restored.status == ("done", "done")
    assert restored.rows == {"epoch": 4}


def test_block_logs_its_records_and_tells_its_progress(tmp_path):
    run = small_run(tmp_path)
    block.main(run.path, 0)
    assert (run.block_dir(0) / "log.txt").read_text().count("correct=") == 8
    found = read_progress(run.block_dir(0))
    assert found.steps == found.total_steps == 4 * 13


def test_finished_block_is_left_alone(tmp_path):
    run = small_run(tmp_path)
    block.main(run.path, 0)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert block.main(run.path, 0) == 0
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_kill_between_last_commit_and_end_is_made_up_for(tmp_path):
    run = small_run(tmp_path)
    block.main(run.path, 0)
    (run.block_dir(0) / "end-1.toml").unlink()
    (run.block_dir(0) / "claim-1.toml").write_bytes(
        claims.to_toml(claims.Claim(1, "elsewhere", 1, "1", "x", "cpu", claims.now()))
    )
    os.utime(run.block_dir(0) / "claim-1.toml", (0, 0))
    rows = load_state(run.block_dir(0)).rows
    assert block.main(run.path, 0) == 0
    assert state_of(run).state == "done"
    assert load_state(run.block_dir(0)).rows == rows


def test_block_that_another_process_runs_is_refused(tmp_path, capsys):
    run = small_run(tmp_path)
    claims.claim_block(run.block_dir(0), "cpu")
    assert block.main(run.path, 0) == 3
    assert f"is being run by process {os.getpid()}" in capsys.readouterr().err
    assert claims.attempt_count(run.block_dir(0)) == 1


def test_unknown_block_and_run_are_refused(tmp_path, capsys):
    run = small_run(tmp_path)
    assert block.main(run.path, 7) == 3
    assert "has no block 7" in capsys.readouterr().err
    assert block.main(tmp_path / "absent", 0) == 3
    assert "run.toml" in capsys.readouterr().err


@pytest.mark.parametrize("versions", [{"small": "0.9"}, {"xfw": "0.0.1"}])
def test_other_version_is_refused_unless_accepted(tmp_path, capsys, versions):
    run = small_run(tmp_path, versions=versions)
    assert block.main(run.path, 0) == 3
    error = capsys.readouterr().err
    assert f"planned with {next(iter(versions))} {next(iter(versions.values()))}" in error
    assert "--allow-version-change" in error
    assert block.main(run.path, 0, allow_version_change=True) == 0


def test_exception_of_the_plugin_fails_the_block_with_its_traceback(tmp_path, capsys):
    run = small_run(tmp_path, config={"fail_in": 3})
    assert block.main(run.path, 0) == 10
    found = state_of(run)
    assert (found.state, found.end.reason) == ("failed", "ValueError: this epoch was asked to fail")
    text = (run.block_dir(0) / "traceback-1.txt").read_text()
    assert "on_epoch_start" in text
    assert "ValueError: this epoch was asked to fail" in text


def test_damaged_state_is_refused_and_left_alone(tmp_path, capsys):
    run = small_run(tmp_path, config={"fail_in": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFW_COMMIT_SECONDS", "0")
        block.main(run.path, 0)
    path = run.block_dir(0) / "state-1.h5"
    path.write_bytes(path.read_bytes()[:-100])
    before = path.read_bytes()
    assert block.main(run.path, 0) == 3
    found = state_of(run)
    assert (found.state, found.attempts, found.end.exit_code) == ("refused", 2, 2)
    assert "state-1.h5 is damaged" in found.end.reason
    assert path.read_bytes() == before
    assert list((run.block_dir(0) / "segments").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_commits_stops_and_loses_nothing(tmp_path, number, reference):
    hold = tmp_path / "hold"
    hold.touch()
    run = small_run(tmp_path, config={"hold": str(hold)})
    process = start(run)
    wait_until(lambda: "correct=" in log_of(run))
    process.send_signal(number)
    wait_until(lambda: "asked to stop" in log_of(run))
    hold.unlink()
    assert process.wait(60) == 75
    found = state_of(run)
    assert (found.state, found.end.reason) == ("interrupted", signal.Signals(number).name)
    assert load_state(run.block_dir(0)).rows["epoch"] >= 1, "no commit was due, the signal made one"
    assert results_of(run) == reference


def test_block_command_reads_its_arguments(tmp_path):
    run = small_run(tmp_path, versions={"small": "0.9"})
    process = start(run, "--allow-version-change")
    assert process.wait(60) == 0


def test_request_to_stop_is_obeyed_in_this_process(tmp_path, reference):
    run = small_run(tmp_path)
    stop = Stop()
    stop.request("enough")
    assert block.main(run.path, 0, stop=stop) == 75
    assert state_of(run).end.reason == "enough"
    assert results_of(run) == reference


class After(Stop):
    """Asks to stop once it was asked so many times whether it does."""

    def __init__(self, questions):
        super().__init__()
        self.questions = questions

    @property
    def requested(self):
        self.questions -= 1
        return self.questions < 0


@pytest.mark.parametrize("questions", [0, 1, 5, 13, 14, 20])
def test_block_that_is_stopped_again_as_soon_as_it_is_resumed_loses_nothing(tmp_path, reference, questions):
    run = small_run(tmp_path)
    assert block.main(run.path, 0, stop=After(questions)) == 75
    position = load_state(run.block_dir(0)).position
    for _ in range(2):
        assert block.main(run.path, 0, stop=After(0)) == 75
        assert load_state(run.block_dir(0)).position == position
    assert results_of(run) == reference


def test_full_disk_fails_the_block_with_that_reason_and_it_can_be_resumed(tmp_path, monkeypatch, eager, reference):
    run = small_run(tmp_path)
    left = [30]
    write = atomic.write_synced

    def filling(path, parts, last=None):
        left[0] -= path.suffixes[:1] == [".h5"]
        if left[0] < 0 and path.suffixes[:1] == [".h5"]:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(path, parts, last)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_synced", filling)
        assert block.main(run.path, 0) == 10
    assert "the disk is full" in state_of(run).end.reason
    assert not list(run.path.rglob("*.tmp"))
    assert load_state(run.block_dir(0)).rows
    assert results_of(run) == reference


def test_threads_are_those_of_the_plan(tmp_path):
    before = torch.get_num_threads()
    try:
        block.set_threads(2)
        assert torch.get_num_threads() == 2
        assert os.environ["OMP_NUM_THREADS"] == "2"
    finally:
        block.set_threads(before)


def test_run_that_the_source_of_was_changed_is_refused(tmp_path):
    origin = small_run(tmp_path)
    results_of(origin)
    run = small_run(tmp_path, source=Source(origin.id, "0" * 64))
    assert block.main(run.path, 0) == 3
    assert "has changed since this run was planned" in state_of(run).end.reason


def test_plugin_gets_the_stored_trial_of_equal_index(tmp_path, monkeypatch):
    origin = small_run(tmp_path, trials=3)
    results_of(origin)
    run = small_run(tmp_path, source=Source(origin.id, sha256_of(origin.run_file)))
    seen = []
    import xfw_small

    monkeypatch.setattr(xfw_small, "on_start", recording(xfw_small.on_start, seen))
    assert block.main(run.path, 0) == 0
    assert [(each.run, each.trial) for each in seen] == [(origin.id, 0), (origin.id, 1)]


def recording(hook, seen):
    """Return an implementation that keeps what it was given and calls the old one."""
    import xfw

    @xfw.hookimpl
    def on_start(block, source):
        seen.extend(source)
        hook(block, source)

    return on_start


def test_heart_beats_and_the_loss_of_a_claim_stops(tmp_path):
    path = tmp_path / "claim-1.toml"
    path.write_text("")
    os.utime(path, (0, 0))
    stop = Stop()
    with beating(path, stop, interval=0.02):
        wait_until(lambda: path.stat().st_mtime > 0)
        assert not stop.requested
        path.unlink()
        wait_until(lambda: stop.requested)
    assert "claim-1.toml has been removed" in stop.reason


def test_an_attempt_that_was_taken_for_lost_stops_when_it_sees_the_next_one(tmp_path):
    claims.claim_block(tmp_path, "cpu")
    stop = Stop()
    check = partial(claims.check_newest, tmp_path, 1)
    with beating(claims.claim_path(tmp_path, 1), stop, check=check, interval=0.02):
        claims.write_end(tmp_path, claims.End(1, "interrupted", "", claims.now()))
        assert not stop.requested
        claims.claim_block(tmp_path, "cpu")
        wait_until(lambda: stop.requested)
    assert stop.reason == "attempt 2 has taken over; attempt 1 writes nothing more"


def test_the_loss_of_the_starter_stops(tmp_path):
    reading, writing = os.pipe()
    (tmp_path / "claim-1.toml").touch()
    stop = Stop()
    with beating(tmp_path / "claim-1.toml", stop, lifeline=reading, interval=0.02):
        os.write(writing, b"x")
        time.sleep(0.1)
        assert not stop.requested
        os.close(writing)
        wait_until(lambda: stop.requested)
    os.close(reading)
    assert stop.reason == "the process that started this block is gone"


def test_a_block_that_another_attempt_has_taken_over_changes_nothing(tmp_path, eager, reference):
    run = small_run(tmp_path)
    before = {}

    class TakenOver(After):
        @property
        def requested(self):
            if self.questions == 0:
                claims.claim_path(run.block_dir(0), 2).write_bytes(
                    claims.to_toml(attrs.evolve(claims.claim_of_this_process(2), start="1"))
                )
                before.update({path: path.read_bytes() for path in run.path.rglob("*.h5")})
            self.questions -= 1
            return False

    assert block.main(run.path, 0, stop=TakenOver(20)) == 75
    assert before
    assert {path: path.read_bytes() for path in run.path.rglob("*.h5")} == before
    assert "attempt 2 has taken over" in (run.block_dir(0) / "log.txt").read_text()
    assert state_of(run).state == "lost"
    assert results_of(run) == reference


def test_data_sets_may_have_moved(tmp_path):
    run = small_run(tmp_path)
    assert RunDir(run.path, data_dir="/elsewhere").manifest.execution.data_dir == "/elsewhere"
    assert run.manifest.execution.data_dir == ""


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_first_signal_asks_and_the_second_interrupts():
    with on_signals(Stop()) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert (stop.requested, stop.reason, stop.exit_code) == (True, "SIGTERM", 143)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_progress_is_written_now_and_then_and_at_the_end(tmp_path):
    now = [100.0]
    control = Reporter(tmp_path, Stop(), clock=lambda: now[0])
    control.progress(10, 110, 1, 4, {"loss": [0.5, float("nan")]})
    now[0] += 0.4
    control.progress(20, 110, 2, 4, {})
    assert read_progress(tmp_path).steps == 10, "less than half a second later"
    now[0] += 1.6
    control.progress(60, 110, 3, 4, {"loss": [0.25, 1]})
    found = read_progress(tmp_path)
    assert (found.steps, found.epoch, found.rate, found.left) == (60, 3, 25.0, 2.0)
    assert found.headline == {"loss": [0.25, 1.0]}
    control.progress(110, 110, 4, 4, {})
    assert read_progress(tmp_path).steps == 110


def test_cells_of_a_stage_have_a_rate_of_their_own(tmp_path):
    now = [0.0]
    control = Reporter(tmp_path, Stop(), clock=lambda: now[0])
    for _ in range(2):
        now[0] += 1
        control.progress(1000, 1000, 4, 4, {})
    for cell in range(3):
        now[0] += 4
        control.progress(cell + 1, 10, cell + 1, 10, {}, "evaluate")
    found = read_progress(tmp_path)
    assert (found.stage, found.epoch, found.rate, found.left) == ("evaluate", 3, 0.25, 28.0)


def test_damaged_progress_counts_as_none(tmp_path):
    assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").write_text(json.dumps({"steps": 1}))
    assert read_progress(tmp_path) is None


def test_log_and_progress_survive_a_full_disk(tmp_path, monkeypatch):
    Log(tmp_path / "absent")("line")
    monkeypatch.setattr(atomic, "publish", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    Reporter(tmp_path, Stop()).progress(1, 2, 1, 1, {})
    assert not list(tmp_path.iterdir())
