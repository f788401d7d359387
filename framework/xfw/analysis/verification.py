"""What ``xfw verify`` reports: every target against the stored runs, as tables and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from xfw.analysis.matching import Published, Stored, published
from xfw.analysis.tables import Table, columns
from xfw.analysis.targets import Target, read_targets, targets_text
from xfw.analysis.verdicts import (
    MISSED,
    NO_DATA,
    REPRODUCED,
    Judgement,
    SuiteJudgement,
    judge,
    judge_suite,
)
from xfw.errors import WrongInput, did_you_mean

if TYPE_CHECKING:
    from xfw.plugins.registry import Experiment
    from xfw.store.rundir import RunDir

__all__ = ["Report", "as_data", "as_tables", "read_published", "verify"]

ORDER = (MISSED, REPRODUCED, NO_DATA)
"""The verdicts as they are listed: what needs attention first."""


@attrs.frozen(eq=False)
class Report:
    """All judgements of one command."""

    experiment: str
    runs: tuple[str, ...]
    judgements: tuple[Judgement, ...]
    suites: tuple[SuiteJudgement, ...]

    def of(self, verdict: str) -> list[Judgement]:
        """Return the judgements with one verdict."""
        return [each for each in self.judgements if each.verdict == verdict]

    @property
    def failed(self) -> bool:
        """Say whether something that has data is missed: a suite, or a target that belongs to none."""
        suites = any(each.verdict == MISSED for each in self.suites)
        alone = [each for each in self.of(MISSED) if not any(one.suite.takes(each.target) for one in self.suites)]
        return suites or bool(alone)


def read_published(experiment: Experiment) -> tuple[list[Published], list[Any]]:
    """Return the targets and suites that a plugin ships; raise ``WrongInput`` with all mistakes, or if it has none."""
    text = targets_text(experiment.module)
    if text is None:
        raise WrongInput(f"experiment '{experiment.name}' has no published numbers to verify (no targets.toml)")
    targets = read_targets(text, experiment.name)
    return published(experiment, targets), list(targets.suites)


def verify(experiment: Experiment, runs: Sequence[RunDir], only: str = "") -> Report:
    """Judge every target (or those whose name holds ``only``) by the trials of some sealed runs, newest first."""
    found, suites = read_published(experiment)
    wanted = [each for each in found if only.casefold() in each.target.name.casefold()]
    if not wanted:
        raise WrongInput(f"--only {only}: no target has this in its name", hint=nearest_names(only, found))
    with Stored(experiment, runs) as stored:
        judgements = tuple(judge(each, stored.samples(each)) for each in wanted)
    judged = tuple(made for each in suites if (made := judge_suite(each, judgements)).targets)
    return Report(experiment.name, tuple(run.id for run in runs), judgements, judged)


def nearest_names(only: str, found: Sequence[Published]) -> str:
    """Return the nearest name of a target, or how many there are."""
    suggestion = did_you_mean(only, [each.target.name for each in found])
    return suggestion if suggestion.startswith("did") or len(found) <= 8 else f"there are {len(found)} targets"


# --- for people ------------------------------------------------------------------------------------------

COLUMNS = columns(
    ("target", "target"),
    ("metric", "metric"),
    ("published", "published", "", "s"),
    ("measured", "measured", "", "s"),
    ("ci", "95 % CI", "", "s"),
    ("n", "n", "", "s"),
    ("difference", "difference", "", "s"),
    ("tolerance", "tolerance", "", "s"),
    ("note", "note"),
)

MARKDOWN_COLUMNS = columns(("verdict", "verdict")) + COLUMNS


def as_tables(report: Report, *, everything: bool = False) -> list[Table]:
    """Return one table for each verdict; targets without data only if asked for."""
    made = []
    for verdict in ORDER:
        found = report.of(verdict)
        if found and (verdict != NO_DATA or everything):
            caption = f"{verdict}: {len(found)} of {len(report.judgements)}"
            made.append(Table(COLUMNS, tuple(line(each) for each in found), caption=caption))
    return made


def as_one_table(report: Report, *, everything: bool = False) -> Table:
    """Return all verdicts in one table, with the counts, suites and runs below it."""
    shown = [each for verdict in ORDER if verdict != NO_DATA or everything for each in report.of(verdict)]
    return Table(
        MARKDOWN_COLUMNS,
        tuple((each.verdict, *line(each)) for each in shown),
        notes=(*summary_lines(report), "Measured: mean over n trials with the 95 % t interval of the mean."),
    )


def summary_lines(report: Report) -> list[str]:
    """Return the counts, the suites, and the runs that were measured."""
    counts = ", ".join(f"{len(report.of(verdict))} {verdict}" for verdict in (REPRODUCED, MISSED, NO_DATA))
    used = list(dict.fromkeys(run for each in report.judgements for run in each.runs))
    runs = f"runs: {', '.join(used)}" if used else "no run has matching trials"
    return [f"{len(report.judgements)} targets: {counts}", *map(suite_line, report.suites), runs]


def suite_line(found: SuiteJudgement) -> str:
    """Return one line about a suite."""
    suite = found.suite
    if not found.judged:
        return f"suite {suite.name}: no data for its {found.targets} targets"
    share = found.reproduced / found.judged
    of = f"{found.reproduced} of {found.judged} reproduced ({share:.1%}, needed {suite.share:.1%})"
    return f"suite {suite.name}: {found.verdict}: {of}"


def line(found: Judgement) -> tuple[str, ...]:
    """Return the cells of one target."""
    target, unit = found.target, found.published.metric.unit
    digits = decimals(found)
    metric = f"{target.metric} ({unit})" if unit not in ("", "1") else target.metric
    there = found.verdict != NO_DATA
    interval = f"[{fixed(found.low, digits)}, {fixed(found.high, digits)}]" if math.isfinite(found.low) else "–"
    difference = f"{round(found.difference, digits) + 0.0:+.{digits}f}" if math.isfinite(found.difference) else "–"
    return (
        target.name,
        metric,
        expected(target, digits),
        (found.found or fixed(found.mean, digits)) if there else "–",
        interval,
        ", ".join(map(str, found.n)),
        difference,
        fixed(found.tolerance, digits),
        "; ".join(found.notes),
    )


def decimals(found: Judgement) -> int:
    """Return how many decimals the numbers of a target deserve.

    Two digits of its tolerance, or of its ends, and no fewer than were published.
    """
    target = found.target
    scale = found.tolerance
    if not scale > 0 or not math.isfinite(scale):
        ends = [abs(end) for end in (target.value, target.low, target.high, found.mean) if end]
        scale = min((end for end in ends if math.isfinite(end)), default=1.0) / 100
    published = max((places(number) for number in (target.value, target.sd) if number is not None), default=0)
    return min(9, max(published, 1 - math.floor(math.log10(scale))))


def places(number: float) -> int:
    """Return the decimals with which a number was written."""
    return len(f"{number:.9f}".rstrip("0").partition(".")[2])


def fixed(value: float, digits: int) -> str:
    """Return a number with these decimals; a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def expected(target: Target, digits: int) -> str:
    """Return what was published, in few words."""
    if target.kind in ("mean", "exact"):
        assert target.value is not None
        spread = f" ± {target.sd:.{digits}f}" if target.sd is not None else ""
        return f"{target.value:.{digits}f}{spread}"
    if target.kind == "range":
        of = {"mean": "", "each": "each ", "sd": "SD "}[target.of]
        return of + ends(target.low, target.high)
    if target.kind == "share":
        where = "one of the published values" if target.one_of is not None else ""
        limits = ends(target.low, target.high) if (target.low, target.high) != (None, None) else ""
        return f"{ends(target.at_least, target.at_most)} of trials {' and '.join(filter(None, (where, limits)))}"
    if target.kind == "order":
        signs = {"decreasing": "decreasing", "first_largest": "first largest", "first_smallest": "first smallest"}
        return f"{signs[target.rule]} over {len(target.wheres)} groups"
    return f"{len(target.values or ())} published values"


def ends(low: float | None, high: float | None) -> str:
    """Return a range in words."""
    if low is None:
        return f"≤ {high:g}"
    return f"≥ {low:g}" if high is None else f"{low:g} to {high:g}"


# --- for programs ----------------------------------------------------------------------------------------


def as_data(report: Report) -> dict[str, Any]:
    """Return everything as a JSON value."""
    return {
        "experiment": report.experiment,
        "runs": list(report.runs),
        "counts": {verdict.replace(" ", "_"): len(report.of(verdict)) for verdict in (REPRODUCED, MISSED, NO_DATA)},
        "targets": [target_data(each) for verdict in ORDER for each in report.of(verdict)],
        "suites": [suite_data(each) for each in report.suites],
    }


def target_data(found: Judgement) -> dict[str, Any]:
    """Return one target as a JSON value."""
    target = found.target
    numbers = ("mean", "sd", "low", "high", "difference", "tolerance")
    values = {name: getattr(found, name) for name in numbers}
    names = {"low": "ci_low", "high": "ci_high"}
    return {
        "name": target.name,
        "verdict": found.verdict,
        "metric": target.metric,
        "unit": found.published.metric.unit,
        "kind": target.kind,
        "source": target.source,
        "tags": list(target.tags),
        "preset": target.preset,
        "where": [dict(each) for each in target.selections],
        "at": dict(target.at),
        "published": {"value": target.value, "sd": target.sd, "n": target.n, "text": expected(target, decimals(found))},
        "n": list(found.n),
        **{names.get(name, name): value if math.isfinite(value) else None for name, value in values.items()},
        "p": {name: value if math.isfinite(value) else None for name, value in found.p.items()},
        "found": found.found,
        "notes": list(found.notes),
        "runs": list(found.runs),
    }


def suite_data(found: SuiteJudgement) -> dict[str, Any]:
    """Return one suite as a JSON value."""
    return {
        "name": found.suite.name,
        "verdict": found.verdict,
        "share": found.suite.share,
        "targets": found.targets,
        "judged": found.judged,
        "reproduced": found.reproduced,
    }
