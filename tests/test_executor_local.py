"""The local executor: processes, their environment, how they end, and what becomes of them without a parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from xfw.process.executor import Job, JobState, State
from xfw.process.local import LocalExecutor, is_running
from xfw.process.progress import read_progress
from xfw.process.slots import Slot, job_of, slots
from xfw.store import claims
from xfw.store.commit import load_state
from xfw.testing.runs import small_run
from xfw.testing.small import install


@pytest.fixture(scope="module", autouse=True)
def experiment(tmp_path_factory):
    """Install the small experiment for this process and its children."""
    folder = str(install(tmp_path_factory.mktemp("site")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", folder)
        yield


@pytest.fixture(scope="module")
def executor():
    made = LocalExecutor()
    yield made
    made.close()


def block_job(run, index=0):
    return job_of(run, run.manifest.blocks[index], Slot(0), 1, allow_version_change=False)


def command_job(tmp_path, code, **environment):
    return Job(
        argv=(sys.executable, "-c", code),
        environment=dict(os.environ) | environment,
        directory=tmp_path,
        log=tmp_path / "log.txt",
    )


def wait(executor, handle, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = executor.poll([handle])[handle]
        if found.over:
            return found
        time.sleep(0.01)
    pytest.fail("the job did not end")


def wait_for_epoch(run, epoch):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = read_progress(run.block_dir(0))
        if found and found.epoch >= epoch:
            return
        time.sleep(0.01)
    pytest.fail("the block did not come so far")


@pytest.mark.parametrize(
    ("options", "code"), [({}, 0), ({"config": {"fail_in": 1}}, 10), ({"versions": {"small": "0.9"}}, 3)]
)
def test_exit_codes_of_blocks_come_back(tmp_path, executor, options, code):
    run = small_run(tmp_path, **options)
    assert wait(executor, executor.submit(block_job(run))) == JobState(State.EXITED, code)


def test_process_that_kills_itself_is_seen_as_killed(tmp_path, executor):
    run = small_run(tmp_path, config={"die_in": 2})
    assert wait(executor, executor.submit(block_job(run))) == JobState(State.EXITED, -signal.SIGKILL)
    assert claims.block_state(run.block_dir(0)).state == "lost"


def test_what_a_block_prints_goes_to_its_log(tmp_path, executor):
    run = small_run(tmp_path, versions={"small": "0.9"})
    wait(executor, executor.submit(block_job(run)))
    assert "planned with small 0.9" in (run.block_dir(0) / "log.txt").read_text()


def test_environment_directory_and_log_are_those_of_the_job(tmp_path, executor):
    code = "import os, sys; print(os.environ['COLOUR'], os.getcwd(), sys.stdin.read() == '')"
    assert wait(executor, executor.submit(command_job(tmp_path, code, COLOUR="blue"))).code == 0
    assert (tmp_path / "log.txt").read_text() == f"blue {tmp_path} True\n"


def test_children_have_a_process_group_of_their_own(tmp_path, executor):
    wait(executor, executor.submit(command_job(tmp_path, "import os; print(os.getpgid(0) == os.getpid())")))
    assert (tmp_path / "log.txt").read_text() == "True\n"


def test_cancel_asks_a_block_to_commit(tmp_path, executor):
    run = small_run(tmp_path, config={"pause": 0.2})
    handle = executor.submit(block_job(run))
    wait_for_epoch(run, 1)
    executor.cancel([handle])
    assert wait(executor, handle).code == 75
    assert load_state(run.block_dir(0)).rows["epoch"] >= 1


def test_cancel_with_kill_does_not_ask(tmp_path, executor):
    handle = executor.submit(command_job(tmp_path, "import time; time.sleep(60)"))
    assert executor.poll([handle])[handle] == JobState(State.RUNNING)
    executor.cancel([handle], kill=True)
    assert wait(executor, handle, 10).code == -signal.SIGKILL
    executor.cancel([handle], kill=True)


def test_handle_serves_a_new_executor(tmp_path, executor):
    handle = executor.submit(command_job(tmp_path, "import time; time.sleep(60)"))
    other = LocalExecutor()
    assert other.poll([handle])[handle] == JobState(State.RUNNING)
    other.cancel([handle], kill=True)
    wait(executor, handle, 10)
    assert other.poll([handle])[handle] == JobState(State.LOST)
    other.close()


def test_handle_of_another_process_with_the_same_id_is_not_running():
    assert not is_running(f"{os.getpid()}:1")
    assert is_running(f"{os.getpid()}:{claims.process_start(os.getpid())}")


PARENT = """
import pathlib, sys, time
from xfw.process.local import LocalExecutor
from xfw.process.slots import Slot, job_of
from xfw.store.rundir import RunDir
if __name__ == "__main__":
    run = RunDir(pathlib.Path(sys.argv[1]))
    LocalExecutor().submit(job_of(run, run.manifest.blocks[0], Slot(0), 1, allow_version_change=False))
    time.sleep(120)
"""


def test_child_whose_parent_is_gone_commits_and_stops(tmp_path):
    run = small_run(tmp_path, config={"pause": 0.6})
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(run.path)])
    wait_for_epoch(run, 1)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while claims.block_state(run.block_dir(0)).state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    found = claims.block_state(run.block_dir(0))
    assert (found.state, found.end.reason) == ("interrupted", "the process that started this block is gone")
    assert load_state(run.block_dir(0)).rows["epoch"] >= 1


def test_where_forking_is_not_safe_blocks_are_programs_of_their_own(tmp_path):
    programs = LocalExecutor(preload=False)
    run = small_run(tmp_path)
    assert wait(programs, programs.submit(block_job(run))).code == 0
    programs.close()


@pytest.mark.parametrize("preload", [True, False])
def test_neither_the_working_directory_nor_a_long_folder_for_temporary_files_hinders_a_block(
    tmp_path, monkeypatch, preload
):
    here = tmp_path / "here"
    here.mkdir()
    for name in ("queue", "random", "socket", "torch", "xfw"):
        (here / f"{name}.py").write_text("this is no Python")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", f":{os.environ['PYTHONPATH']}:")
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 40)))
    own = LocalExecutor(preload=preload)
    assert wait(own, own.submit(block_job(small_run(tmp_path)))).code == 0
    own.close()


def server_of(executor):
    return executor._servers[-1]._process


def test_jobs_of_a_server_that_is_killed_go_on_and_the_next_one_gets_a_new_server(tmp_path):
    own = LocalExecutor()
    run = small_run(tmp_path, trials=2, blocks=2, config={"pause": 0.2})
    first = own.submit(block_job(run, 0))
    server_of(own).kill()
    server_of(own).wait()
    second = own.submit(block_job(run, 1))
    assert wait(own, second) == JobState(State.EXITED, 0)
    assert wait(own, first) == JobState(State.LOST)
    assert [claims.block_state(run.block_dir(index)).state for index in (0, 1)] == ["done", "done"]
    own.close()


def test_server_that_is_killed_before_it_answers_gives_a_lost_job(tmp_path, monkeypatch):
    own = LocalExecutor()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    handle = own.submit(block_job(small_run(tmp_path)))
    assert own.poll([handle])[handle] == JobState(State.LOST)
    own.cancel([handle], kill=True)
    own.close()


def test_cpu_slots_are_as_many_as_jobs():
    assert [slot.gpu for slot in slots("cpu", 3)] == [None, None, None]


@pytest.mark.parametrize(
    ("jobs", "per_gpu", "gpus"), [(2, 1, ["4", "7"]), (1, 1, ["4"]), (9, 1, ["4", "7"]), (9, 2, ["4", "7", "4", "7"])]
)
def test_each_slot_sees_one_gpu(monkeypatch, jobs, per_gpu, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    made = slots("cuda", jobs, per_gpu)
    assert [slot.gpu for slot in made] == gpus
    assert [slot.environment()["CUDA_VISIBLE_DEVICES"] for slot in made] == gpus


def test_device_with_a_number_hides_nothing(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [slot.gpu for slot in slots("cuda:1", 1)] == [None]


def test_job_holds_everything_a_scheduler_needs(tmp_path):
    run = small_run(tmp_path)
    job = job_of(run, run.manifest.blocks[0], Slot(0), 3, allow_version_change=True)
    assert job.argv[1:] == ("-P", "-m", "xfw.block", str(run.path), "0", "--allow-version-change")
    assert (job.attempt, job.labels["block"], job.resources.cpus) == (3, "0", 1)
    assert job.log == run.block_dir(0) / "log.txt"


def test_ctrl_c_and_a_closed_terminal_do_not_reach_the_server(tmp_path, executor):
    handle = executor.submit(command_job(tmp_path, "import os; print(os.getsid(0))"))
    assert wait(executor, handle).code == 0
    assert int((tmp_path / "log.txt").read_text()) == server_of(executor).pid != os.getsid(0)
