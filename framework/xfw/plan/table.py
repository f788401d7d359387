"""Show a plan: a table for people, and the same as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from xfw.config.values import show
from xfw.plan.build import Plan
from xfw.plan.manifest import BlockPlan, Condition

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["as_data", "as_table", "duration", "origin_of_times", "size", "total_seconds"]


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


def as_table(plan: Plan) -> Table:
    """Return the table of a plan's blocks."""
    from rich.table import Table

    manifest = plan.manifest
    table = Table(title=f"{manifest.experiment}: {len(manifest.members())} trials in {len(manifest.blocks)} blocks")
    table.add_column("block", justify="right")
    table.add_column("conditions")
    table.add_column("trials")
    table.add_column("strategy")
    for heading in ("width", "parameters", "steps", "memory", "time"):
        table.add_column(heading, justify="right")
    for block in manifest.blocks:
        table.add_row(*block_row(plan, block))
    return table


def block_row(plan: Plan, block: BlockPlan) -> list[str]:
    """Return one block's cells."""
    conditions = sorted({member.condition for member in block.members})
    return [
        str(block.index),
        "; ".join(label(plan.manifest.conditions[index]) for index in conditions[:6])
        + (f" and {len(conditions) - 6} more" if len(conditions) > 6 else ""),
        spans(sorted({member.trial for member in block.members})),
        block.strategy,
        str(block.width),
        f"{plan.parameters[block.index]:,}",
        f"{block.steps:,}",
        size(block.memory),
        duration(plan.seconds[block.index]),
    ]


def label(condition: Condition) -> str:
    """Return a condition's swept values, or its number where nothing is swept."""
    return " ".join(f"{path}={show(value)}" for path, value in condition.values.items()) or str(condition.index)


def spans(numbers: list[int]) -> str:
    """Return sorted whole numbers in short form, such as ``0-4,7``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


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
