"""Runs made by hand, for tests of whatever reads or continues a run: no plugin, no training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xfw.experiment import Array, Records, Stream, Variable
from xfw.manifest import BlockPlan, Condition, Execution, Manifest, Member
from xfw.store import claims
from xfw.store.commit import Commit, Committer
from xfw.store.rundir import RunDir, create_run, new_run_id
from xfw.store.seal import seal

__all__ = ["RECORDS", "commit_rows", "finish_block", "finished_run", "make_manifest", "metrics_of", "small_run"]

RECORDS = Records(
    streams=(
        Stream(
            "epoch",
            "epoch",
            (
                Variable("correct", "int64", "correct predictions"),
                Variable("loss", "float32", "mean loss"),
                Variable("accepted", "bool", "kept"),
                Variable("per_class", "float64", "accuracy of each class", "%", ("class",)),
            ),
            first=1,
        ),
    ),
    arrays=(Array("best", "int64", "best number of correct predictions"),),
    default="epoch/correct",
)
"""What the runs of this module record."""

CLASSES = 3


def make_manifest(
    *,
    trials: int = 2,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    blocks: int = 1,
    idle: int = 0,
    experiment: str = "demo",
    strategy: str = "serial",
    **changes: Any,
) -> Manifest:
    """Return the plan of a run: every condition of one swept key with ``trials`` trials, dealt over ``blocks``."""
    axis, values = next(iter((sweep or {}).items()), ("", [None]))
    conditions = tuple(Condition(number, {axis: value} if axis else {}) for number, value in enumerate(values))
    members = [Member(c.index, t, f"{t:016x}") for t in range(trials) for c in conditions]
    plans = []
    for index in range(blocks):
        own = tuple(members[index::blocks])
        plans.append(BlockPlan(index, own, len(own) + idle, strategy, 10, 1000))
    execution = Execution("cpu", "float32", False, strategy, 1, 1, "")
    fields: dict[str, Any] = {
        "run": new_run_id(experiment),
        "experiment": experiment,
        "preset": "quick",
        "stages": ("train",),
        "created": "2026-01-02T03:04:05+00:00",
        "command": ("xfw", "run", experiment),
        "seed": 7,
        "config": {"lr": 0.1, "data": {"name": "digits"}},
        "config_hash": "0" * 64,
        "provenance": {"lr": "default", "data.name": "command line"},
        "axes": (axis,) if axis else (),
        "conditions": conditions,
        "blocks": tuple(plans),
        "execution": execution,
        "versions": {},
    }
    return Manifest(**(fields | changes))


def commit_rows(
    members: Sequence[Member], width: int, first: int, rows: int, *, final: bool = False, first_epoch: int = 0
) -> Commit:
    """Return a commit whose values are a formula of condition, trial and row, so that a reader can be checked."""
    lanes = [*members, *[Member(99, 99, "")] * (width - len(members))]
    row = np.arange(first, first + rows)[:, None]
    base = np.array([100 * member.condition + 10 * member.trial for member in lanes])[None]
    return Commit(
        records={
            "epoch": {
                "correct": (base + row).astype(np.int64),
                "loss": (1.0 / (1 + base + row)).astype(np.float32),
                "accepted": (base + row) % 2 == 0,
                "per_class": (base + row)[..., None] + np.arange(CLASSES) / 10,
            }
        },
        arrays={"best": np.array([100 * lane.condition + 10 * lane.trial for lane in lanes])} if final else {},
        state={
            "parameters": np.array([[lane.condition, lane.trial, first + rows] for lane in lanes], np.float32),
            "snapshots/best": np.array([[lane.condition, lane.trial, 0.5, -1.0] for lane in lanes], np.float32),
        },
        position={"epoch": first + rows, "first_epoch": first_epoch},
        layout={"parameters": [["weight", [1, 2], 0], ["bias", [1], 2]]},
        status=["done" if final else "running"] * len(members),
        final=final,
    )


def finish_block(run: RunDir, index: int, rows: int = 4, *, end: str = "done", first_epoch: int = 0) -> None:
    """Do what a block process does: claim, commit twice, and write how it ended."""
    plan, directory = run.manifest.blocks[index], run.block_dir(index)
    claim = claims.claim_block(directory, "cpu")
    if claim is None:
        raise RuntimeError(f"{directory} is taken")
    committer = Committer(directory, attempt=claim.attempt)
    lanes, half, final = (plan.members, plan.width), rows // 2, end == "done"
    committer.commit(commit_rows(*lanes, 0, half, first_epoch=first_epoch))
    committer.commit(commit_rows(*lanes, half, rows - half, final=final, first_epoch=first_epoch))
    claims.write_end(directory, claims.End(claim.attempt, end, "", claims.now()))


def finished_run(results_dir: Path, rows: int = 4, *, first_epoch: int = 0, **options: Any) -> RunDir:
    """Return a sealed run of ``make_manifest(**options)``, all of whose blocks are done."""
    run = create_run(results_dir, make_manifest(**options), RECORDS)
    for block in run.manifest.blocks:
        finish_block(run, block.index, rows, first_epoch=first_epoch)
    seal(run)
    return run


def small_run(results_dir: Path, *, config: Mapping[str, Any] | None = None, **options: Any) -> RunDir:
    """Return a run of the small experiment (``xfw.testing.small``), none of whose blocks has started."""
    from xfw.testing import small

    manifest = make_manifest(experiment="small", config=dict(config or {}), **options)
    return create_run(results_dir, manifest, small.declare_records(small.Config()))


def metrics_of(run: RunDir) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return the sealed metrics and arrays as bytes, without ``wall_time``, which a resume need not repeat."""
    found = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.endswith("/wall_time"):
            values = item[()]
            content = json.dumps(item.asstr()[()].tolist()).encode() if values.dtype.kind == "O" else values.tobytes()
            found[name] = (str(values.dtype), values.shape, content)

    with h5py.File(run.run_file, "r") as file:
        for group in ("metrics", "arrays", "ragged"):
            if group in file:
                file[group].visititems(lambda name, item, group=group: visit(f"{group}/{name}", item))
    return found
