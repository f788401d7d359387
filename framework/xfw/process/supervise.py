"""Run all blocks of a run: claims, retries, progress, failures, interruption, sealing."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext

import attrs
from rich.console import Console

from xfw.errors import UserError
from xfw.process import block as block_process
from xfw.process.display import Display
from xfw.process.executor import Executor, JobState
from xfw.process.local import LocalExecutor
from xfw.process.progress import LOG, Progress, read_progress
from xfw.process.slots import Slot, job_of, slots
from xfw.process.stop import Stop, beating, on_signals
from xfw.store import claims
from xfw.store.rundir import RunDir
from xfw.terminal import counted, duration

__all__ = ["execute"]

CRASH_RETRIES = 2
POLL = 0.05
SHOW = 0.25


@attrs.frozen
class Failure:
    """A block that will not be done: what a user is told, and the exit code that it deserves."""

    block: int
    reason: str
    exit_code: int = 1


@attrs.frozen
class Running:
    """A submitted block."""

    handle: str
    slot: Slot
    attempt: int
    began: float


def execute(
    run: RunDir,
    *,
    jobs: int | None = None,
    per_gpu: int = 1,
    fail_fast: bool = False,
    quiet: bool = False,
    allow_version_change: bool = False,
    executor: Executor | None = None,
    console: Console | None = None,
) -> int:
    """Do whatever of a run is not done yet, seal it, and return the exit code of the command.

    ``jobs`` blocks run at once (default: as planned); 0 runs them one after another in this process. Blocks that
    another process runs are waited for. Exit codes: 0 done, 1 some work failed, 2 refused, 128 and its number after
    a signal. A second signal kills.
    """
    if not allow_version_change:
        block_process.check_versions(run.manifest)
    jobs = run.manifest.execution.jobs if jobs is None else jobs
    stop = Stop(interrupting=jobs == 0)
    with on_signals(stop), supervising(run, stop), Display(run.manifest, quiet=quiet, console=console) as display:
        work = Supervision(run, display, stop, fail_fast=fail_fast, allow_version_change=allow_version_change)
        if jobs == 0:
            work.in_this_process()
        else:
            own = executor or LocalExecutor(threads=run.manifest.execution.threads)
            places = slots(run.manifest.execution.device, jobs, per_gpu)
            with nullcontext() if executor else closing(own):
                work.with_executor(own, places)
        return work.finish()


@contextmanager
def supervising(run: RunDir, stop: Stop) -> Iterator[None]:
    """Let others see that this process is at work on the run, also where no block has started yet."""
    claim = claims.claim_run(run.path)
    try:
        with beating(claim, stop):
            yield
    finally:
        claim.unlink(missing_ok=True)


class Supervision:
    """The state of one supervising process: what waits, what runs, what failed."""

    def __init__(
        self, run: RunDir, display: Display, stop: Stop, *, fail_fast: bool, allow_version_change: bool
    ) -> None:
        self._run = run
        self._display = display
        self._stop = stop
        self._fail_fast = fail_fast
        self._allow_version_change = allow_version_change
        self._plans = {plan.index: plan for plan in run.manifest.blocks}
        found = dict(zip(self._plans, run.block_states(), strict=True))
        self._states = {index: each.state for index, each in found.items()}
        self._waiting = deque(index for index, each in found.items() if each.resumable)
        self._elsewhere: list[int] = []
        self._running: dict[int, Running] = {}
        self._progress: dict[int, Progress | None] = {}
        self._crashes: Counter[int] = Counter()
        self._failures: list[Failure] = []
        self._asked_to_stop = False
        for index, each in found.items():
            if each.state == claims.RUNNING:
                self._wait_for(index, each.owner)

    def in_this_process(self) -> None:
        """Run the waiting blocks one after another, here."""
        while (self._waiting or self._elsewhere) and not self._stopping:
            self._look_elsewhere()
            index = self._next()
            if index is None:
                time.sleep(SHOW)
                continue
            attempt, began = self._start(index), time.monotonic()
            code = block_process.main(
                self._run.path,
                index,
                allow_version_change=self._allow_version_change,
                data_dir=self._run.data_dir,
                stop=self._stop,
            )
            self._settle(index, attempt, code, time.monotonic() - began)

    def with_executor(self, executor: Executor, places: list[Slot]) -> None:
        """Run the waiting blocks in the given places."""
        free = list(places)
        shown = 0.0
        while self._running or ((self._waiting or self._elsewhere) and not self._stopping):
            if self._stopping:
                self._ask_children(executor)
            while free and (index := self._next()) is not None:
                self._submit(executor, index, free.pop(0))
            polled = executor.poll([each.handle for each in self._running.values()])
            for index, each in list(self._running.items()):
                if self._is_over(index, polled[each.handle]):
                    del self._running[index]
                    free.append(each.slot)
                    self._settle(index, each.attempt, polled[each.handle].code, time.monotonic() - each.began)
            if time.monotonic() - shown >= SHOW:
                shown = time.monotonic()
                self._look_elsewhere()
                self._show()
            time.sleep(POLL)

    def finish(self) -> int:
        """Seal what there is, list the failures, and return the exit code."""
        from xfw.store.seal import seal

        diverged: list[str] = []
        try:
            seal(self._run)
            diverged = diverged_trials(self._run)
        except UserError as error:
            self._failures.append(Failure(-1, f"sealing: {error}", error.exit_code))
            self._display.say(f"error: {error}", always=True)
        if self._failures:
            self._display.say(f"{len(self._failures)} failed:", always=True)
        for failure in self._failures:
            self._display.say(f"  {self._name(failure.block)}{failure.reason}", always=True)
        if diverged:
            self._display.say(f"diverged (parameters not finite): {'; '.join(diverged)}", always=True)
        if self._stop.signal is not None:
            self._display.say(f"stopped; go on with: {self._run.command('resume')}", always=True)
            return self._stop.exit_code
        return min((failure.exit_code for failure in self._failures), default=1 if diverged else 0)

    @property
    def _stopping(self) -> bool:
        return self._stop.requested

    def _ask_children(self, executor: Executor) -> None:
        """Ask the running blocks to commit and stop; after a second signal, kill them."""
        handles = [each.handle for each in self._running.values()]
        if self._stop.count > 1:
            executor.cancel(handles, kill=True)
        elif not self._asked_to_stop:
            self._asked_to_stop = True
            self._display.say("stopping: the blocks commit what they have; Ctrl-C again kills them", always=True)
            executor.cancel(handles)

    def _submit(self, executor: Executor, index: int, slot: Slot) -> None:
        """Start the next attempt at a block in a slot."""
        attempt = self._start(index)
        plan, allow = self._plans[index], self._allow_version_change
        job = job_of(self._run, plan, slot, attempt, allow_version_change=allow, data_dir=self._run.data_dir)
        self._running[index] = Running(executor.submit(job), slot, attempt, time.monotonic())

    def _start(self, index: int) -> int:
        """Say that a block starts, and return the number of the attempt."""
        attempt = claims.attempt_count(self._run.block_dir(index)) + 1
        again = f", attempt {attempt}" if attempt > 1 else ""
        self._states[index] = claims.RUNNING
        self._display.say(f"block {index} started: {counted(len(self._plans[index].members), 'trial')}{again}")
        return attempt

    def _is_over(self, index: int, job: JobState) -> bool:
        """Say whether a block is over: its job is, and so is the process that holds its claim."""
        if not job.over or job.code == block_process.REFUSED:
            return job.over
        return claims.block_state(self._run.block_dir(index)).state != claims.RUNNING

    def _wait_for(self, index: int, owner: str) -> None:
        """Leave a block to the process that has it, and look again now and then."""
        self._elsewhere.append(index)
        self._states[index] = claims.RUNNING
        self._display.say(f"block {index} is being run by {owner}; waiting for it", always=True)

    def _next(self) -> int | None:
        """Return the next block to start; those that another process has begun meanwhile are waited for."""
        while self._waiting and not self._stopping:
            index = self._waiting.popleft()
            block = claims.block_state(self._run.block_dir(index))
            if block.resumable:
                return index
            self._wait_for(index, block.owner)
        return None

    def _look_elsewhere(self) -> None:
        """Take note of the blocks that other processes have finished, and take over those that they have left."""
        for index in list(self._elsewhere):
            block = claims.block_state(self._run.block_dir(index))
            if block.state == claims.RUNNING:
                continue
            self._elsewhere.remove(index)
            if block.end and block.state in (claims.DONE, claims.FAILED):
                self._ended(index, block.end, "elsewhere")
            else:
                self._waiting.append(index)

    def _settle(self, index: int, attempt: int, code: int | None, seconds: float) -> None:
        """Read from its files how an attempt ended, and decide what happens to the block."""
        block = claims.block_state(self._run.block_dir(index))
        if block.end and block.attempts >= attempt:
            self._ended(index, block.end, f"in {duration(seconds)}")
        elif code == block_process.REFUSED and (block.state == claims.RUNNING or block.attempts >= attempt):
            self._wait_for(index, block.owner)  # another process was faster
        elif code == block_process.REFUSED:
            self._states[index] = claims.REFUSED
            self._fail(Failure(index, last_line(self._run, index) or "refused"))
        else:
            self._crashed(index, code)

    def _ended(self, index: int, end: claims.End, how: str) -> None:
        """Report how a block has ended, and queue it again where somebody else has stopped it."""
        self._states[index] = end.state
        if end.state == claims.DONE:
            self._display.say(f"block {index} done {how}")
        elif end.state == claims.INTERRUPTED:
            self._interrupted(index)
        else:
            self._fail(Failure(index, end.reason + traceback_hint(self._run, index, end.attempt), end.exit_code))

    def _interrupted(self, index: int) -> None:
        """Queue a block that somebody else has stopped; our own request ends it here."""
        if not self._stopping:
            self._display.say(f"block {index} was interrupted; going on from its last commit")
            self._waiting.append(index)

    def _crashed(self, index: int, code: int | None) -> None:
        """Retry a block whose process has died, twice at most."""
        self._states[index] = claims.LOST
        if self._stopping:
            return
        self._crashes[index] += 1
        what = f"its process died ({exit_text(code)})"
        if self._crashes[index] <= CRASH_RETRIES:
            self._display.say(f"block {index}: {what}; going on from its last commit", always=True)
            self._waiting.append(index)
        else:
            self._states[index] = claims.CRASHED
            self._fail(Failure(index, f"{what} {self._crashes[index]} times; log: {log_path(self._run, index)}"))

    def _fail(self, failure: Failure) -> None:
        """Report a failure at once, and remember it for the end."""
        self._failures.append(failure)
        self._display.say(f"error: {self._name(failure.block)}{failure.reason}", always=True)
        if self._fail_fast and not self._stopping:
            self._stop.request("a block failed")

    def _name(self, index: int) -> str:
        return f"block {index}: " if index in self._plans else ""

    def _show(self) -> None:
        """Bring the display up to date with what the running blocks tell."""
        shown = [*self._running, *self._elsewhere]
        self._progress |= {index: read_progress(self._run.block_dir(index)) for index in shown}
        self._display.show(self._states, self._progress)


def diverged_trials(run: RunDir) -> list[str]:
    """Return which trials of a sealed run have diverged, by condition."""
    from xfw.store.results import open_run

    with open_run(run) as results:
        found: dict[int, list[int]] = {}
        for condition, trial, status in zip(results.condition, results.trial, results.status, strict=True):
            if status == "diverged":
                found.setdefault(int(condition), []).append(int(trial))
        labels = results.condition_labels()
    return [f"{labels[condition]}: trials {', '.join(map(str, trials))}" for condition, trials in found.items()]


def exit_text(code: int | None) -> str:
    """Return an exit code in words."""
    if code is None:
        return "nobody saw how"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def traceback_hint(run: RunDir, index: int, attempt: int) -> str:
    """Return a line that says where the traceback of a failed attempt is; empty where there is none."""
    path = run.block_dir(index) / block_process.traceback_name(attempt)
    return f"\n  traceback: {path}" if path.exists() else ""


def log_path(run: RunDir, index: int) -> str:
    """Return where the log of a block is."""
    return str(run.block_dir(index) / LOG)


def last_line(run: RunDir, index: int) -> str:
    """Return the last line that a block's process has printed."""
    try:
        lines = (run.block_dir(index) / LOG).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.strip()), "")
