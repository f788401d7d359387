"""Claims: one owner per attempt, and what the files say when that owner is gone."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import attrs
import pytest
from xfw.errors import UserError
from xfw.store import claims


@pytest.fixture
def block_dir(tmp_path):
    path = tmp_path / "0000"
    path.mkdir()
    return path


def foreign(block_dir, **changes):
    """Claim a block, then change what the claim says of its owner."""
    claim = attrs.evolve(claims.claim_block(block_dir, "cpu"), **changes)
    claims.claim_path(block_dir, claim.attempt).write_bytes(claims.to_toml(claim))
    return claim


def end(block_dir, attempt, state, reason=""):
    claims.write_end(block_dir, claims.End(attempt, state, reason, claims.now()))


def test_block_without_claim_is_pending(block_dir):
    assert claims.block_state(block_dir) == claims.BlockState("pending", 0)


def test_claim_names_its_owner(block_dir):
    claim = claims.claim_block(block_dir, "cuda:0")
    assert (claim.attempt, claim.pid, claim.device) == (1, os.getpid(), "cuda:0")
    assert claims.block_state(block_dir).state == "running"


def test_running_block_cannot_be_claimed(block_dir):
    claims.claim_block(block_dir, "cpu")
    assert claims.claim_block(block_dir, "cpu") is None


def test_finished_block_cannot_be_claimed_again(block_dir):
    claims.claim_block(block_dir, "cpu")
    end(block_dir, 1, "done")
    assert claims.claim_block(block_dir, "cpu") is None


@pytest.mark.parametrize("state", ["done", "failed", "refused", "interrupted"])
def test_end_of_the_newest_attempt_is_the_state(block_dir, state):
    claims.claim_block(block_dir, "cpu")
    end(block_dir, 1, state, "because")
    found = claims.block_state(block_dir)
    assert (found.state, found.end.reason, found.resumable) == (state, "because", state != "done")


def test_next_attempt_has_the_next_number(block_dir):
    claims.claim_block(block_dir, "cpu")
    end(block_dir, 1, "interrupted")
    assert claims.claim_block(block_dir, "cpu").attempt == 2
    assert claims.block_state(block_dir).state == "running"


def test_attempts_are_counted_as_numbers(block_dir):
    for attempt in range(1, 12):
        assert claims.claim_block(block_dir, "cpu").attempt == attempt
        end(block_dir, attempt, "interrupted")


def test_process_that_is_gone_is_lost_at_once(block_dir):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    foreign(block_dir, pid=int(process.stdout))
    assert claims.block_state(block_dir).state == "lost"


def test_later_process_with_the_same_id_does_not_keep_a_block_alive(block_dir):
    foreign(block_dir, start="1")
    assert claims.block_state(block_dir).state == "lost"


def test_other_host_is_alive_while_its_heart_beats(block_dir):
    foreign(block_dir, host="elsewhere")
    assert claims.block_state(block_dir).state == "running"
    old = time.time() - 3 * claims.HEARTBEAT - 1
    os.utime(claims.claim_path(block_dir, 1), (old, old))
    assert claims.block_state(block_dir).state == "lost"


def test_restarted_machine_counts_as_another_host(block_dir):
    foreign(block_dir, boot_id="before", start="whatever")
    assert claims.block_state(block_dir).state == "running"
    os.utime(claims.claim_path(block_dir, 1), (0, 0))
    assert claims.block_state(block_dir).state == "lost"


def test_process_that_nobody_has_collected_is_gone():
    process = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 10
    while claims.process_start(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert claims.process_start(process.pid) == ""
    process.wait()


def test_damaged_claim_is_named(block_dir):
    claims.claim_path(block_dir, 1).write_text("pid = [")
    with pytest.raises(UserError, match=r"claim-1\.toml is damaged") as caught:
        claims.block_state(block_dir)
    assert caught.value.exit_code == 2


def compete(block_dir, start, results):
    start.wait()
    results.put(claims.claim_block(block_dir, "cpu") is not None)
    time.sleep(1)  # stay alive, so that the others find a living owner


def test_of_many_processes_one_gets_the_claim(block_dir):
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    processes = [context.Process(target=compete, args=(block_dir, start, results)) for _ in range(6)]
    for process in processes:
        process.start()
    start.set()
    won = [results.get(timeout=20) for _ in processes]
    for process in processes:
        process.join()
    assert won.count(True) == 1
    assert claims.attempt_count(block_dir) == 1
