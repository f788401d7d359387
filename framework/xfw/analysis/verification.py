"""What ``xfw verify`` reports: every target against the stored runs, as tables and as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from xfw.analysis.matching import Published, Stored, published
from xfw.analysis.tables import Rounded, Table, columns, decimals_of
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
    from xfw.experiment import Experiment
    from xfw.store.rundir import RunDir

__all__ = ["Report", "as_data", "as_table", "as_tables", "read_published", "verify"]

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
    ("verdict", "verdict"),
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


def as_table(report: Report, *, everything: bool = False) -> Table:
    """Return all verdicts, what needs attention first, with the counts, suites and runs below them.

    Targets without data are listed only if asked for.
    """
    shown = [each for verdict in ORDER if verdict != NO_DATA or everything for each in report.of(verdict)]
    return Table(
        COLUMNS,
        tuple((each.verdict, *line(each)) for each in shown),
        notes=(*summary_lines(report), "Measured: mean over n trials with the 95 % t interval of the mean."),
    )


def as_tables(report: Report, *, everything: bool = False) -> list[Table]:
    """Return a narrower table for each verdict, for a terminal: columns in which no row says anything are left out."""
    whole = as_table(report, everything=everything)
    tables = []
    for verdict in ORDER:
        rows = [row for row in whole.rows if row[0] == verdict]
        keep = [place for place in range(1, len(COLUMNS)) if any(row[place] not in ("", "–") for row in rows)]
        caption = f"{verdict}: {len(rows)} of {len(report.judgements)}"
        if rows:
            cells = tuple(tuple(row[place] for place in keep) for row in rows)
            tables.append(Table(tuple(COLUMNS[place] for place in keep), cells, caption))
    return tables


def summary_lines(report: Report) -> list[str]:
    """Return the counts, the suites, and the runs that were measured."""
    counts = ", ".join(f"{len(report.of(verdict))} {verdict}" for verdict in (REPRODUCED, MISSED, NO_DATA))
    used = list(dict.fromkeys(run for each in report.judgements for run in each.runs))
    presets = list(dict.fromkeys(each.target.preset for each in report.judgements))
    known = f"{len(report.runs)} sealed runs" if len(report.runs) != 1 else "the run"
    runs = (
        f"runs: {', '.join(used)}"
        if used
        else (
            f"no trial of {known} has a published configuration; those are variants of "
            f"`xfw run {report.experiment} --preset {presets[0]}`"
        )
    )
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
    same = len(found.n) > 1 and len(set(found.n)) == 1
    measured = "–" if found.verdict == NO_DATA else found.found or fixed(found.mean, digits)
    difference = format(Rounded(found.difference, digits), "+") if math.isfinite(found.difference) else "–"
    return (
        target.name,
        target.metric if unit in ("", "1") else f"{target.metric} ({unit})",
        expected(target, digits),
        measured,
        f"[{fixed(found.low, digits)}, {fixed(found.high, digits)}]" if math.isfinite(found.low) else "–",
        f"{len(found.n)} × {found.n[0]}" if same else ", ".join(map(str, found.n)),
        difference,
        fixed(found.tolerance, digits),
        "; ".join(found.notes),
    )


def decimals(found: Judgement) -> int:
    """Return how many decimals the numbers of a target deserve.

    Two digits of its tolerance, or of its ends, and no fewer than were published; of an order two digits of its
    smallest gap.
    """
    target = found.target
    if target.kind == "order":
        return decimals_of(min(1.0, abs(found.difference)))
    scale = found.tolerance
    if not scale > 0 or not math.isfinite(scale):
        known = (target.value, target.low, target.high, None if target.of == "sd" else found.mean)
        ends = [abs(end) for end in known if end and math.isfinite(end)]
        scale = min(ends, default=1.0) / (10 if target.of == "sd" else 100)
    published = max((places(number) for number in (target.value, target.sd) if number is not None), default=0)
    return max(published, decimals_of(scale))


def places(number: float) -> int:
    """Return the decimals with which a number was written."""
    return len(f"{number:.9f}".rstrip("0").partition(".")[2])


def fixed(value: float, digits: int) -> str:
    """Return a number with these decimals; a dash where there is none."""
    return format(Rounded(value, digits), "") if math.isfinite(value) else "–"


def expected(target: Target, digits: int) -> str:
    """Return what was published, in few words."""
    if target.kind in ("mean", "exact"):
        assert target.value is not None
        spread = f" ± {fixed(target.sd, digits)}" if target.sd is not None else ""
        return f"{fixed(target.value, digits)}{spread}"
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

NUMBERS = {
    "mean": "mean",
    "sd": "sd",
    "low": "ci_low",
    "high": "ci_high",
    "difference": "difference",
    "tolerance": "tolerance",
}
"""The numbers of a judgement by their names in the data."""


def as_data(report: Report) -> dict[str, Any]:
    """Return everything as a JSON value."""
    suites = [
        {"name": each.suite.name, "verdict": each.verdict, "share": each.suite.share}
        | attrs.asdict(each, filter=lambda field, _: field.name != "suite")
        for each in report.suites
    ]
    return {
        "experiment": report.experiment,
        "runs": list(report.runs),
        "counts": {verdict.replace(" ", "_"): len(report.of(verdict)) for verdict in (REPRODUCED, MISSED, NO_DATA)},
        "targets": [target_data(each) for verdict in ORDER for each in report.of(verdict)],
        "suites": suites,
    }


def target_data(found: Judgement) -> dict[str, Any]:
    """Return one target as a JSON value."""
    target = found.target
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
        **{name: finite(getattr(found, field)) for field, name in NUMBERS.items()},
        "p": {name: finite(value) for name, value in found.p.items()},
        "found": found.found,
        "notes": list(found.notes),
        "runs": list(found.runs),
    }


def finite(value: float) -> float | None:
    """Return a number as JSON knows it."""
    return value if math.isfinite(value) else None
