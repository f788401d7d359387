"""Places where a block can run: how many at once, and which GPU each one sees."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from xfw.manifest import BlockPlan
from xfw.process.executor import BLOCK, Job, Resources
from xfw.process.progress import LOG
from xfw.store.rundir import RunDir

__all__ = ["Slot", "block_environment", "job_of", "slots"]

VISIBLE = "CUDA_VISIBLE_DEVICES"


@attrs.frozen
class Slot:
    """A place for one block at a time; ``gpu`` is the only one it sees (None: whatever is visible)."""

    number: int
    gpu: str | None = None

    def environment(self) -> Mapping[str, str]:
        """Return this process's environment as the block is to see it."""
        values = block_environment()
        return values if self.gpu is None else values | {VISIBLE: self.gpu}


def block_environment() -> dict[str, str]:
    """Return this process's environment as blocks get it: where they find modules is the same, but for one folder.

    The working directory counts only where PYTHONPATH names it: an empty entry stands for wherever somebody happens to
    be, and so does what Python itself puts first.
    """
    named = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    interpreter = (sys.prefix, sys.base_prefix)
    added = [
        folder for folder in sys.path if folder not in ("", str(Path.cwd())) and not folder.startswith(interpreter)
    ]
    folders = [folder for folder in sys.path if folder in named or folder in added]
    values = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return values | {"PYTHONPATH": os.pathsep.join(dict.fromkeys([*folders, *named]))} if folders or named else values


def slots(device: str, jobs: int, per_gpu: int = 1) -> list[Slot]:
    """Return the places for ``jobs`` blocks at once: at most ``per_gpu`` on each visible GPU.

    A device with a number (``cuda:1``) counts among the GPUs that are visible here, so nothing is hidden.
    """
    if device != "cuda":
        return [Slot(number) for number in range(jobs)]
    gpus = visible_gpus()
    count = min(jobs, per_gpu * len(gpus)) if gpus else jobs
    return [Slot(number, gpus[number % len(gpus)] if gpus else None) for number in range(count)]


def visible_gpus() -> Sequence[str]:
    """Return the GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def job_of(
    run: RunDir, plan: BlockPlan, slot: Slot, attempt: int, *, allow_version_change: bool = False, data_dir: str = ""
) -> Job:
    """Return the command that runs a block in a slot."""
    argv = [sys.executable, *BLOCK, str(run.path.absolute()), str(plan.index)]
    if allow_version_change:
        argv.append("--allow-version-change")
    if data_dir:
        argv += ["--data-dir", data_dir]
    execution = run.manifest.execution
    return Job(
        argv=tuple(argv),
        environment=slot.environment(),
        directory=Path.cwd(),
        log=run.block_dir(plan.index).absolute() / LOG,
        resources=Resources(cpus=execution.threads, gpus=int(execution.device.startswith("cuda"))),
        labels={"run": run.id, "block": str(plan.index)},
        attempt=attempt,
    )
