"""Run one block of a run, from its last commit to its end.

All input is in the run directory, all output goes there. Exit codes: 0 done, 3 refused, 10 failed (reason
and traceback stored beside the block's results), 75 interrupted and resumable; anything else is a crash.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from xfw.errors import UserError, WrongInput
from xfw.manifest import BlockPlan, Manifest
from xfw.process.progress import Log, Reporter
from xfw.process.stop import Stop, beating, on_signals
from xfw.store import atomic, claims
from xfw.store.rundir import RunDir, find_run

if TYPE_CHECKING:
    from xfw.experiment import Experiment
    from xfw.store.sources import TrialSource

__all__ = ["DONE", "FAILED", "INTERRUPTED", "REFUSED", "check_versions", "command", "main", "set_threads"]

DONE, REFUSED, FAILED, INTERRUPTED = 0, 3, 10, 75
CODES = {claims.DONE: DONE, claims.REFUSED: REFUSED, claims.FAILED: FAILED, claims.INTERRUPTED: INTERRUPTED}
COMMIT_SECONDS = "XFW_COMMIT_SECONDS"
"""Environment variable: the shortest time between two commits, for tests; 0 commits whenever possible."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def main(
    run_dir: Path | str,
    block: int,
    *,
    allow_version_change: bool = False,
    data_dir: str = "",
    lifeline: int | None = None,
    stop: Stop | None = None,
) -> int:
    """Run a block from its last commit to its end and return the exit code.

    ``data_dir`` is used instead of the planned one, ``lifeline`` is a pipe to whoever waits for the block. ``stop`` is
    given where the caller handles the signals; else SIGTERM, SIGINT and SIGHUP commit and stop.
    """
    run = RunDir(Path(run_dir).absolute(), data_dir=data_dir)
    with on_signals(Stop()) if stop is None else nullcontext(stop) as asked:
        return claimed(run, block, asked, allow_version_change=allow_version_change, lifeline=lifeline)


def claimed(run: RunDir, block: int, stop: Stop, *, allow_version_change: bool, lifeline: int | None) -> int:
    """Claim a block that is not done yet and run it, or say why not; return the exit code."""
    try:
        plan = block_plan(run.manifest, block)
        if claims.block_state(run.block_dir(block)).state == claims.DONE:
            return DONE
        set_threads(run.manifest.execution.threads)
        experiment = load(run.manifest, allow_version_change=allow_version_change)
        claim = claims.claim_block(run.block_dir(block), run.manifest.execution.device)
    except UserError as error:
        return refuse(str(error))
    if claim is None:
        found = claims.block_state(run.block_dir(block))
        if found.state == claims.DONE:  # another process has finished it since the look above
            return DONE
        return refuse(f"block {block} of run {run.id} is being run by {found.owner}")
    return CODES[attempt(run, plan, experiment, claim, stop, lifeline).state]


def block_plan(manifest: Manifest, block: int) -> BlockPlan:
    """Return the plan of a block; UserError where the run has none of that number."""
    for plan in manifest.blocks:
        if plan.index == block:
            return plan
    raise UserError(f"run {manifest.run} has no block {block}", hint=f"it has {len(manifest.blocks)}", exit_code=2)


def set_threads(threads: int) -> None:
    """Fix the number of threads: it can change the last bits of results. Works best before torch is imported."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    import torch

    torch.set_num_threads(threads)


def load(manifest: Manifest, *, allow_version_change: bool) -> Experiment:
    """Import the experiment of a run; refuse one that differs from what the run was planned with."""
    from xfw.plugins.registry import load_experiment

    if not allow_version_change:
        check_versions(manifest)
    return load_experiment(manifest.experiment)


def check_versions(manifest: Manifest) -> None:
    """Raise UserError where the installed xfw or plugin is not the one in ``run.toml``."""
    from xfw.plugins.discovery import discover

    installed = {info.name: info.version for info in discover() if info.name == manifest.experiment}
    installed["xfw"] = version("xfw")
    for name, found in installed.items():
        expected = manifest.versions.get(name, found)
        if found != expected:
            raise UserError(
                f"run {manifest.run} was planned with {name} {expected}, installed is {found}",
                hint="install that version, or accept the change with --allow-version-change",
                exit_code=2,
            )


def refuse(reason: str) -> int:
    """Say why the block is not started."""
    print(f"error: {reason}", file=sys.stderr)  # noqa: T201
    return REFUSED


def attempt(
    run: RunDir, plan: BlockPlan, experiment: Experiment, claim: claims.Claim, stop: Stop, lifeline: int | None
) -> claims.End:
    """Run a claimed block, and store how that ended."""
    directory = run.block_dir(plan.index)
    fence = partial(claims.check_newest, directory, claim.attempt)
    stop.say = Log(directory)
    with beating(claims.claim_path(directory, claim.attempt), stop, check=fence, lifeline=lifeline):
        state, reason, code = outcome(run, plan, experiment, claim, stop)
    end = claims.End(claim.attempt, state, reason, claims.now(), code)
    try:
        claims.write_end(directory, end)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
    return end


def outcome(
    run: RunDir, plan: BlockPlan, experiment: Experiment, claim: claims.Claim, stop: Stop
) -> tuple[str, str, int]:
    """Run a claimed block and return the state it is left in, the reason, and the exit code for users."""
    from xfw.engine.session import Interrupted

    directory = run.block_dir(plan.index)
    log = Log(directory)
    try:
        work(run, plan, experiment, claim.attempt, Reporter(directory, stop), log)
    except (Interrupted, KeyboardInterrupt, claims.Superseded) as error:
        reason = str(error) if isinstance(error, claims.Superseded) else stop.reason
        log(f"attempt {claim.attempt} stopped: {reason or 'interrupted'}")
        return claims.INTERRUPTED, reason, 1
    except RefusedError as error:
        log(f"attempt {claim.attempt} refused: {error}")
        return claims.REFUSED, str(error), error.exit_code
    except WrongInput as error:
        # The plugin's own refusal of what a user gave: where it stands in the plugin helps nobody.
        log(f"attempt {claim.attempt} failed: {error}")
        return claims.FAILED, str(error), error.exit_code
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the plugin's code runs in here
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if type(error).__name__ == "OutOfMemoryError":
            reason += (
                f"\n  its {plan.width} trials do not fit: start the run again with --block-size {plan.width // 2 or 1}"
            )
        keep_traceback(directory, claim.attempt, traceback.format_exc())
        log(f"attempt {claim.attempt} failed: {reason}")
        return claims.FAILED, reason, getattr(error, "exit_code", 1)
    return claims.DONE, "", 0


class RefusedError(UserError):
    """What a block starts from cannot be used; nothing has been changed."""


def work(
    run: RunDir, plan: BlockPlan, experiment: Experiment, attempt_number: int, control: Reporter, log: Log
) -> None:
    """Continue a block from its last commit to its end."""
    from xfw.engine.session import run_block
    from xfw.store.commit import SHORTEST, Committer, load_state

    directory = run.block_dir(plan.index)
    try:
        restored = load_state(directory)
        source = None if restored else sources(run, plan, experiment)
    except UserError as error:
        raise RefusedError(error.what, hint=error.hint, exit_code=error.exit_code) from error
    if restored and restored.final:
        return
    committer = Committer(
        directory,
        restored,
        attempt=attempt_number,
        fence=partial(claims.check_newest, directory, attempt_number),
        shortest=float(os.environ.get(COMMIT_SECONDS, SHORTEST)),
    )
    run_block(
        run.manifest,
        plan,
        experiment,
        committer=committer,
        restored=restored,
        source=source,
        control=control,
        log=log,
        live=run.report_dir / "live",
        folder=run.path,
        stored=lambda reference: stored_trials(run, plan, experiment, find_run(run.results_dir, reference)),
    )


def sources(run: RunDir, plan: BlockPlan, experiment: Experiment) -> list[TrialSource] | None:
    """Return what ``--from RUN`` stored for each trial of a block; None for a run that starts afresh."""
    if run.manifest.source is None:
        return None
    origin = find_run(run.results_dir, run.manifest.source.run)
    if atomic.sha256_of(origin.run_file) != run.manifest.source.sha256:
        hint = f"start a new run with --from {origin.id}"
        raise UserError(f"{origin.run_file} has changed since this run was planned", hint=hint, exit_code=2)
    return stored_trials(run, plan, experiment, origin)


def stored_trials(run: RunDir, plan: BlockPlan, experiment: Experiment, origin: RunDir) -> list[TrialSource]:
    """Return what another run stored for each trial of a block."""
    from xfw.config.resolve import condition_configs
    from xfw.plan.source import source_conditions
    from xfw.store.lineage import trial_sources

    wanted = sorted({member.condition for member in plan.members})
    configs = condition_configs(run.manifest, experiment.config_class, wanted)
    chosen = dict(zip(wanted, source_conditions(experiment, configs, origin.manifest), strict=True))
    return trial_sources(origin, plan.members, chosen)


def traceback_name(attempt_number: int) -> str:
    """Return the name of the file with the traceback of a failed attempt."""
    return f"traceback-{attempt_number}.txt"


def keep_traceback(directory: Path, attempt_number: int, text: str) -> None:
    """Store the traceback of a failed attempt, where the disk lets us, and show it on the error stream."""
    print(text, file=sys.stderr)  # noqa: T201
    try:
        atomic.write(directory / traceback_name(attempt_number), [text.encode()])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201


def command(arguments: Sequence[str]) -> int:
    """Read the command line and run the block."""
    parser = argparse.ArgumentParser(prog="python -m xfw.block", description="Run one block of a run.")
    parser.add_argument("run_dir", type=Path, help="directory of the run")
    parser.add_argument("block", type=int, help="number of the block")
    parser.add_argument(
        "--allow-version-change", action="store_true", help="accept another version of xfw or the plugin"
    )
    parser.add_argument("--data-dir", default="", help="folder of data sets, instead of the planned one")
    parser.add_argument(
        "--lifeline", type=int, metavar="FD", help="commit and stop when the other end of this pipe is closed"
    )
    return main(**vars(parser.parse_args(arguments)))
