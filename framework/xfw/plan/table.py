"""Show a plan: a table for people, and the same as plain data."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import attrs

from xfw.manifest import BlockPlan, combined, spans
from xfw.plan.build import Plan
from xfw.terminal import Grid, counted, duration, render

__all__ = [
    "as_data",
    "as_text",
    "least_seconds",
    "origin_of_times",
    "size",
    "time_in_words",
    "total_seconds",
]

TITLES = ("block", "conditions", "trials", "strategy", "width", "parameters", "steps", "memory", "time")
NUMBERS = ("block", "width", "parameters", "steps", "memory", "time")


def as_data(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON holds it."""
    manifest = plan.manifest
    return {
        "schema": 1,
        "experiment": manifest.experiment,
        "preset": manifest.preset,
        "stages": list(manifest.stages),
        "seed": manifest.seed,
        "config": manifest.config,
        "config_hash": manifest.config_hash,
        "axes": list(manifest.axes),
        "conditions": [dict(condition.values) for condition in manifest.conditions],
        "execution": attrs.asdict(manifest.execution),
        "blocks": [block_data(plan, block) for block in manifest.blocks],
        "seconds": total_seconds(plan),
        "at_least": least_seconds(plan),
    }


def block_data(plan: Plan, block: BlockPlan) -> dict[str, Any]:
    """Return one block of a plan as JSON holds it."""
    return {
        "block": block.index,
        "members": [attrs.asdict(member) for member in block.members],
        "width": block.width,
        "strategy": block.strategy,
        "parameters": plan.estimates[block.index].parameters,
        "steps": block.steps,
        "memory": block.memory,
        "seconds": plan.estimates[block.index].seconds,
        "at_least": plan.estimates[block.index].least,
    }


def total_seconds(plan: Plan) -> float | None:
    """Return the expected time of the whole run in seconds; None where that of a block is not known."""
    seconds = [estimate.seconds for estimate in plan.estimates]
    known = [value for value in seconds if value is not None]
    return _dealt(known, plan) if len(known) == len(seconds) else None


def least_seconds(plan: Plan) -> float:
    """Return how many seconds the whole run takes at least."""
    return _dealt([estimate.least for estimate in plan.estimates], plan)


def _dealt(seconds: Sequence[float], plan: Plan) -> float:
    """Return when the last block ends, the blocks dealt over the jobs in their order."""
    free = [0.0] * max(1, plan.manifest.execution.jobs)
    for block in seconds:
        heapq.heapreplace(free, free[0] + block)
    return max(free)


def time_in_words(seconds: float | None, least: float) -> str:
    """Return an expected time: one that rests on earlier blocks, else a minute or more that it takes at least."""
    if seconds is not None:
        return duration(seconds)
    return f"≥ {duration(least)}" if least >= 60 else "?"


def origin_of_times(plan: Plan) -> str:
    """Return where the times of the blocks come from, in words."""
    count, known = len(plan.estimates), sum(estimate.seconds is not None for estimate in plan.estimates)
    if known == count:
        return "from earlier runs"
    return "not known before blocks like these have run here" + (f"; {known} of {count} have" if known else "")


def as_text(plan: Plan) -> str:
    """Return the table of a plan's blocks."""
    manifest = plan.manifest
    trials, blocks = counted(len(manifest.members()), "trial"), counted(len(manifest.blocks), "block")
    rows = tuple(tuple(block_row(plan, block)) for block in manifest.blocks)
    return render(
        Grid(TITLES, rows, tuple(title in NUMBERS for title in TITLES), f"{manifest.experiment}: {trials} in {blocks}")
    )


def block_row(plan: Plan, block: BlockPlan) -> list[str]:
    """Return one block's cells."""
    manifest = plan.manifest
    conditions = sorted({member.condition for member in block.members})
    return [
        str(block.index),
        combined(manifest.telling_axes, [manifest.conditions[index].values for index in conditions]) or manifest.preset,
        spans(sorted({member.trial for member in block.members})),
        block.strategy,
        str(block.width),
        f"{plan.estimates[block.index].parameters:,}",
        f"{block.steps:,}",
        size(block.memory),
        time_in_words(plan.estimates[block.index].seconds, plan.estimates[block.index].least),
    ]


def size(count: float) -> str:
    """Return a number of bytes in words, with binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
