"""Claims: one owner per attempt, and what the files say when that owner is gone."""

from __future__ import annotations

import multiprocessing
import os
import socket
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


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_differs_from_the_file_systems_counts_for_nothing(block_dir, monkeypatch, seconds):
    foreign(block_dir, host="elsewhere")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    assert claims.block_state(block_dir).state == "running"


def test_a_heartbeat_from_the_far_future_is_no_life(block_dir):
    foreign(block_dir, host="elsewhere")
    ahead = time.time() + 3600
    os.utime(claims.claim_path(block_dir, 1), (ahead, ahead))
    assert claims.block_state(block_dir).state == "lost"


@pytest.mark.parametrize("changes", [{"pid_namespace": "pid:[1]"}, {"pid_namespace": ""}, {"start": ""}])
def test_owner_in_another_table_of_processes_is_alive_while_its_heart_beats(block_dir, changes):
    foreign(block_dir, pid=2**22 - 1, **{"start": "1"} | changes)
    assert claims.block_state(block_dir).state == "running"
    assert not list(block_dir.glob("*.tmp"))
    os.utime(claims.claim_path(block_dir, 1), (0, 0))
    assert claims.block_state(block_dir).state == "lost"


NAMESPACE = """
import os, pathlib, sys
from xfw.store import claims
block_dir = pathlib.Path(sys.argv[1])
print(claims.block_state(block_dir).state, flush=True)
claims.claim_path(block_dir, 1).unlink()
claim = claims.claim_block(block_dir, "cpu")
print(claims.block_state(block_dir).state, bool(claim.start), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("options", [["--mount-proc"], []])
def test_two_pid_namespaces_do_not_take_each_other_for_lost(block_dir, options):
    """Two containers that share host name, kernel and folder; without a /proc of its own one sees wrong processes."""
    command = ["unshare", "--pid", "--fork", "--kill-child", *options, sys.executable, "-c", NAMESPACE, str(block_dir)]
    if subprocess.run([*command[:4], *options, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a pid namespace (unshare --pid)")
    claims.claim_block(block_dir, "cpu")
    inside = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert inside.stdout.readline().split() == ["running"], "its owner is this process, which it cannot see"
    assert inside.stdout.readline().split() == ["running", str(bool(options))]
    assert claims.block_state(block_dir).state == "running", "its owner is in there"
    inside.communicate("")
    assert claims.block_state(block_dir).state == "running", "nobody here can know better for three intervals"
    os.utime(claims.claim_path(block_dir, 1), (0, 0))
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


def edit(path, old, new):
    """Change a file in the way of somebody who knows that it is taken as it is without its checksum."""
    _, _, body = path.read_bytes().partition(b"\n")
    path.write_bytes(body.replace(old, new))


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "no TOML": lambda path: path.write_text("pid = ["),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "one key": lambda path: path.write_text("attempt = 1"),
    "wrong type": lambda path: edit(path, b"attempt = 1", b'attempt = "1"'),
    "other attempt": lambda path: edit(path, b"attempt = 1", b"attempt = 2"),
    "other attempt, checksum kept": lambda path: path.write_bytes(path.read_bytes().replace(b"= 1", b"= 2")),
    "not a number": lambda path: edit(path, b"attempt = 1", b"attempt = true"),
    "directory": lambda path: (path.unlink(), path.mkdir()),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "huge": lambda path: path.write_bytes(b"a" * (1 << 20)),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["claim-1.toml", "end-1.toml"])
def test_damaged_file_is_named(block_dir, name, damage):
    claims.claim_block(block_dir, "cpu")
    end(block_dir, 1, "interrupted")
    DAMAGE[damage](block_dir / name)
    with pytest.raises(UserError, match=rf"{name} is damaged: ") as caught:
        claims.block_state(block_dir)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "it is empty"), ('attempt = "x"\nhost = "a"', "it lacks pid, start, boot_id, device, time; .*attempt")],
)
def test_damage_is_told_in_one_short_sentence(block_dir, content, message):
    claims.claim_block(block_dir, "cpu")
    claims.claim_path(block_dir, 1).write_text(content)
    with pytest.raises(UserError, match=rf"claim-1\.toml is damaged: {message}"):
        claims.block_state(block_dir)


def test_unknown_state_of_an_end_is_damage(block_dir):
    claims.claim_block(block_dir, "cpu")
    end(block_dir, 1, "interrupted")
    edit(block_dir / "end-1.toml", b"interrupted", b"excellent")
    with pytest.raises(UserError, match=r"end-1\.toml is damaged: .*excellent"):
        claims.block_state(block_dir)


def test_keys_of_a_later_version_are_passed_over(block_dir):
    claims.claim_block(block_dir, "cpu")
    edit(claims.claim_path(block_dir, 1), b"device", b'colour = "blue"\ndevice')
    assert claims.block_state(block_dir).state == "running"


@pytest.mark.parametrize("name", ["claim-0.toml", "claim-01.toml", "claim-x.toml", "claim-².toml", "claim-1.toml.bak"])
def test_files_with_other_names_claim_nothing(block_dir, name):
    (block_dir / name).write_text("")
    assert claims.block_state(block_dir).state == "pending"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_named(block_dir):
    claims.claim_block(block_dir, "cpu")
    claims.claim_path(block_dir, 1).chmod(0)
    with pytest.raises(UserError, match=r"claim-1\.toml"):
        claims.block_state(block_dir)


def test_whoever_supervises_a_run_is_at_work_on_it(tmp_path):
    assert claims.at_work(tmp_path) == ""
    first = claims.claim_run(tmp_path)
    assert claims.claim_run(tmp_path) == first, "one process claims once"
    assert claims.at_work(tmp_path) == f"process {os.getpid()} on {socket.gethostname()}"
    first.write_bytes(claims.to_toml(attrs.evolve(claims.read(first, claims.Claim), start="1")))
    assert claims.at_work(tmp_path) == "", "that process is gone"
    second = claims.claim_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [second.name], "and what it left is removed"


def test_a_damaged_claim_counts_as_work_while_its_heart_beats(tmp_path, block_dir):
    (tmp_path / "blocks").mkdir()
    block_dir.rename(tmp_path / "blocks" / "0000")
    claim = tmp_path / "blocks" / "0000" / "claim-1.toml"
    claim.write_text("")
    assert "damaged" in claims.at_work(tmp_path)
    os.utime(claim, (0, 0))
    assert claims.at_work(tmp_path) == ""


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
