"""Show a plan: a table for people, and the same as plain data."""

from __future__ import annotations

from typing import Any

import attrs

from xfw.manifest import BlockPlan, combined, spans
from xfw.plan.build import Plan
from xfw.terminal import Grid, render

__all__ = ["as_data", "as_text", "counted", "duration", "origin_of_times", "size", "total_seconds"]

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
    }


def block_data(plan: Plan, block: BlockPlan) -> dict[str, Any]:
    """Return one block of a plan as JSON holds it."""
    return {
        "block": block.index,
        "members": [attrs.asdict(member) for member in block.members],
        "width": block.width,
        "strategy": block.strategy,
        "parameters": plan.parameters[block.index],
        "steps": block.steps,
        "memory": block.memory,
        "seconds": plan.seconds[block.index],
        "measured": block.index in plan.measured,
    }


def total_seconds(plan: Plan) -> float:
    """Return the estimated time of the whole run in seconds, its blocks dealt over the jobs in their order."""
    free = [0.0] * max(1, plan.manifest.execution.jobs)
    for seconds in plan.seconds:
        free[free.index(min(free))] += seconds
    return max(free)


def origin_of_times(plan: Plan) -> str:
    """Return where the times of the blocks come from, in words."""
    count, measured = len(plan.seconds), len(plan.measured)
    if not measured:
        return "rough estimate"
    return "from earlier runs" if measured == count else f"{measured} of {count} blocks from earlier runs, else rough"


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
        f"{plan.parameters[block.index]:,}",
        f"{block.steps:,}",
        size(block.memory),
        duration(plan.seconds[block.index]),
    ]


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(count: float) -> str:
    """Return a number of bytes in words, with binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Return a time in words, to two units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
