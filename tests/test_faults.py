"""Faults at random moments: whatever happens to a block, its resumed results are those of an undisturbed run.

Each line of the table of promises has a test here or in ``test_block`` and ``test_executor_supervise``
(signals). ``XFW_FAULT_KILLS`` sets how many processes are killed (default 20), ``XFW_FAULT_SEED`` the moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest
from xfw.process import block
from xfw.process.local import LocalExecutor
from xfw.process.slots import Slot, job_of
from xfw.store import atomic, claims, segments
from xfw.store.commit import load_state
from xfw.store.results import Results
from xfw.store.seal import seal
from xfw.testing.runs import metrics_of, small_run
from xfw.testing.small import install

KILLS = int(os.environ.get("XFW_FAULT_KILLS", "20"))
SEED = int(os.environ.get("XFW_FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
LONGEST = 0.9
"""Seconds within which an attempt is killed; an undisturbed one takes about as long on an idle machine."""

PATIENCE = 1.3
"""By how much that time grows after an attempt that committed nothing, so that a busy machine gets on too."""

OPTIONS = {"trials": 2, "sweep": {"lr": [0.01, 0.003]}}


@pytest.fixture(scope="module", autouse=True)
def experiment(tmp_path_factory):
    """Install the small experiment for this process and its children, and let it commit at every step."""
    folder = str(install(tmp_path_factory.mktemp("site")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", folder)
        patch.setenv("XFW_COMMIT_SECONDS", "0")
        yield


@pytest.fixture(scope="module")
def executor():
    made = LocalExecutor()
    yield made
    made.close()


@pytest.fixture
def chance():
    """Return random moments; a failing test prints the seed that repeats them."""
    print(f"XFW_FAULT_SEED={SEED}")
    return random.Random(SEED)


def expected(tmp_path, strategy, **config):
    """Return the metrics of a run that nobody disturbs and that commits at its end only."""
    run = small_run(tmp_path / "reference", strategy=strategy, config=config, **OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XFW_COMMIT_SECONDS")
        assert block.main(run.path, 0) == 0
    seal(run)
    return metrics_of(run)


def over(executor, handle, seconds):
    """Wait until a job is over, or for so long; say whether it is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if executor.poll([handle])[handle].over:
            return True
        time.sleep(0.002)
    return False


def check_files(run):
    """Check that every file with a final name is whole, and that what there is can be sealed and read."""
    directory = run.block_dir(0)
    restored = load_state(directory)
    if restored is not None:
        records = segments.read_all(directory, restored.segments)
        assert segments.row_counts(records) == dict(restored.rows)
    seal(run)
    with Results(run.run_file) as results:  # not `open_run`: a block that is being written may have gone on
        assert len(results.status) == 4


def disturb(executor, run, moment, number):
    """Start an attempt at a block, send it a signal at a given moment, and say whether that met it alive."""
    handle = executor.submit(job_of(run, run.manifest.blocks[0], Slot(0), 1, allow_version_change=False))
    met = not over(executor, handle, moment)
    executor.cancel([handle], kill=number == signal.SIGKILL)
    assert over(executor, handle, 60)
    return met


@pytest.mark.parametrize("strategy", ["serial", "stack"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_blocks_stopped_at_random_moments_end_with_equal_metrics(tmp_path, executor, chance, strategy, number):
    reference = expected(tmp_path, strategy)
    met = finished = 0
    share = KILLS // 2 if number == signal.SIGKILL else KILLS // 4
    while met < share:
        run = small_run(tmp_path / str(finished), strategy=strategy, **OPTIONS)
        longest, before = LONGEST, None
        while claims.block_state(run.block_dir(0)).state != claims.DONE:
            met += disturb(executor, run, chance.uniform(0.05, longest), number)
            assert claims.block_state(run.block_dir(0)).state != claims.FAILED, "see log.txt"
            check_files(run)
            restored = load_state(run.block_dir(0))
            position = restored.position if restored else None
            longest = LONGEST if position != before else longest * PATIENCE
            before = position
        assert metrics_of(run) == reference
        finished += 1


def test_reading_and_sealing_never_disturb_the_writer(tmp_path, executor):
    reference = expected(tmp_path, "serial")
    run = small_run(tmp_path, **OPTIONS)
    handle = executor.submit(job_of(run, run.manifest.blocks[0], Slot(0), 1, allow_version_change=False))
    reads = 0
    while not over(executor, handle, 0.01):
        check_files(run)
        reads += 1
    assert reads > 1
    assert claims.block_state(run.block_dir(0)).attempts == 1
    seal(run)
    assert metrics_of(run) == reference


def test_disk_that_fills_up_at_random_moments_costs_no_committed_work(tmp_path, monkeypatch, chance):
    reference = expected(tmp_path, "serial")
    run = small_run(tmp_path, **OPTIONS)
    write, failures, committed = atomic.write_synced, 0, 0
    while claims.block_state(run.block_dir(0)).state != claims.DONE:
        left = [chance.randrange(1, 40)]

        def filling(path, parts, last=None, left=left):
            left[0] -= 1
            if left[0] == 0 and path.name.startswith(("state", "0")):
                path.write_bytes(b"".join(parts)[: chance.randrange(2000)])
                raise OSError(28, os.strerror(28))
            write(path, parts, last)

        monkeypatch.setattr(atomic, "write_synced", filling)
        code = block.main(run.path, 0)
        monkeypatch.setattr(atomic, "write_synced", write)
        assert code in (0, 10)
        failures += code == 10
        check_files(run)
        now = load_state(run.block_dir(0))
        steps = now.position["epoch"] * 1000 + now.position["step"] if now else 0
        assert steps >= committed
        committed = steps
    assert failures > 0
    assert metrics_of(run) == reference


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 100 kB, where this process may."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(path)]
    try:
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("this process may not mount a file system")
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_real_full_disk_fails_with_that_reason_and_can_be_resumed(tmp_path, executor, small_disk):
    reference = expected(tmp_path, "serial", epochs=12)
    run = small_run(small_disk, config={"epochs": 12}, **OPTIONS)
    job = job_of(run, run.manifest.blocks[0], Slot(0), 1, allow_version_change=False)
    handle = executor.submit(job)
    assert over(executor, handle, 60)
    assert executor.poll([handle])[handle].code == 10
    found = claims.block_state(run.block_dir(0))
    assert "the disk is full" in (found.end.reason if found.end else (run.block_dir(0) / "log.txt").read_text())
    assert load_state(run.block_dir(0)).rows["epoch"] >= 1
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert over(executor, executor.submit(job), 60)
    seal(run)
    assert metrics_of(run) == reference
