"""The four regimes of training: which rule of the paper's classification each network meets.

B are the controls none, decay and dropout, A the ablative modes; mu is the mean over trials of the peak
validation accuracy, M its maximum, Z the share of the most frequent class (specification, section 5.12).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import xfw
from xfw.analysis.tables import Table, columns
from xfw.errors import WrongInput

from xfw_psa.analysis import cells, dataset, published_files
from xfw_psa.analysis.cells import CONTROLS, Moments
from xfw_psa.analysis.configurations import in_order, listing, shape_of
from xfw_psa.config import ABLATIVE, MODES

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = [
    "ANALYZER",
    "REGIMES",
    "RULE_SETS",
    "UNKNOWN",
    "Verdict",
    "classify",
    "get_all_regime_classifications",
    "verdict",
]


BENEFICIAL, SIZED = "beneficial-regularization", "optimally-sized"
CHAOTIC, UNTRAINABLE, UNKNOWN = "chaotic-optimization", "untrainable", "unknown"
REGIMES: Mapping[str, str] = {BENEFICIAL: "I", SIZED: "II", CHAOTIC: "III", UNTRAINABLE: "IV", UNKNOWN: "–"}
"""The regimes with their numbers in the paper."""

RULE_SETS = ("final", "v1", "prose")
"""The rules that reproduce the published regimes, an older version of them, and the paper's wording."""

MARGIN = 0.5
"""The least tolerance, in points, for means of one group and for rule 4b."""
OVERLAP, GAP, CHAOS = 0.01, 0.1, 15.0
"""Points of overlap in rule 2b and of distance in 3c, and the SD of a control in 4c."""
ROUNDING = 1e-9
"""The mean of ten equal percentages may miss them by the last bits; no count of images is that small."""


@attrs.frozen
class Verdict:
    """The regime of one network and the number of the rule that gave it (empty where no rule could be asked)."""

    regime: str
    rule: str


@attrs.frozen
class Numbers:
    """What the rules speak of: the modes' moments, both groups' means, and the tolerances around them."""

    controls: tuple[Moments, ...]
    ablative: tuple[Moments, ...]
    z_val: float

    @property
    def mu_b(self) -> float:
        """Return the mean of the controls' means."""
        return float(np.mean([each.mean for each in self.controls]))

    @property
    def mu_a(self) -> float:
        """Return the mean of the ablative modes' means."""
        return float(np.mean([each.mean for each in self.ablative]))

    @property
    def s_b(self) -> float:
        """Return the tolerance around the controls: the SD of their three means, at least half a point."""
        return max(float(np.std([each.mean for each in self.controls])), MARGIN)

    @property
    def s_a(self) -> float:
        """Return the tolerance around the ablative modes."""
        return max(float(np.std([each.mean for each in self.ablative])), MARGIN)


def _at_most(value: float, bound: float) -> bool:
    return value <= bound + ROUNDING


def _close(group: Sequence[Moments], centre: float, tolerance: float) -> bool:
    return all(_at_most(abs(each.mean - centre), tolerance) for each in group)


def _nobody_escapes(n: Numbers) -> bool:
    return all(_at_most(each.maximum, n.z_val) for each in (*n.controls, *n.ablative))


def _means_at_majority(n: Numbers) -> bool:
    means = all(_at_most(each.mean, n.z_val) for each in (*n.controls, *n.ablative))
    return means and all(_at_most(each.maximum, n.z_val) for each in n.ablative)


def _no_ablative_winner(n: Numbers) -> bool:
    return all(_at_most(each.mean, n.mu_b + n.s_b) for each in n.ablative)


def _all_alike(n: Numbers) -> bool:
    return _close(n.controls, n.mu_b, n.s_b) and _close(n.ablative, n.mu_b, n.s_b)


def _overlapping(n: Numbers) -> bool:
    overlap = max(each.mean for each in n.ablative) - min(each.mean for each in n.controls)
    return _close(n.controls, n.mu_b, n.s_b) and overlap >= OVERLAP


def _clearly_worse(n: Numbers) -> bool:
    return n.mu_a < n.mu_b - n.s_b - ROUNDING


def _best_is_control(n: Numbers) -> bool:
    best = max(each.maximum for each in n.controls), max(each.maximum for each in n.ablative)
    return best[0] > best[1] and _at_most(n.mu_a, n.mu_b)


def _apart(n: Numbers) -> bool:
    alike = _close(n.controls, n.mu_b, n.s_b) and _close(n.ablative, n.mu_a, n.s_a)
    below = _at_most(max(each.mean for each in n.ablative), min(each.mean for each in n.controls))
    return alike and below and n.mu_a < n.mu_b and n.mu_b - n.mu_a > GAP + ROUNDING


def _only_ablative_escapes(n: Numbers) -> bool:
    controls_stay = all(_at_most(each.maximum, n.z_val) for each in n.controls)
    return controls_stay and any(not _at_most(each.maximum, n.z_val) for each in n.ablative)


def _clearly_better(n: Numbers) -> bool:
    return n.mu_a > n.mu_b + MARGIN + ROUNDING


def _chaotic_controls(n: Numbers) -> bool:
    return any(each.sd > CHAOS + ROUNDING for each in n.controls)


Rule = tuple[str, str, Callable[[Numbers], bool]]

FINAL: tuple[Rule, ...] = (
    ("1a", UNTRAINABLE, _nobody_escapes),
    ("1b", UNTRAINABLE, _means_at_majority),
    ("2a", BENEFICIAL, lambda n: _no_ablative_winner(n) and _all_alike(n)),
    ("2b", BENEFICIAL, lambda n: _no_ablative_winner(n) and _overlapping(n)),
    ("3a", SIZED, _clearly_worse),
    ("3b", SIZED, _best_is_control),
    ("3c", SIZED, _apart),
    ("4a", CHAOTIC, _only_ablative_escapes),
    ("4b", CHAOTIC, _clearly_better),
    ("4c", CHAOTIC, _chaotic_controls),
)
WITHOUT_WINNER: Mapping[str, Callable[[Numbers], bool]] = {"2a": _all_alike, "2b": _overlapping}
LEFT_OUT: Mapping[str, frozenset[str]] = {
    "final": frozenset(),
    "v1": frozenset({"4c"}),
    "prose": frozenset({"1b", "2b", "3b", "3c"}),
}


def _rules(name: str) -> tuple[Rule, ...]:
    kept = [rule for rule in FINAL if rule[0] not in LEFT_OUT[name]]
    if name != "v1":
        return tuple(kept)
    return tuple((number, regime, WITHOUT_WINNER.get(number, holds)) for number, regime, holds in kept)


def verdict(modes: Mapping[str, Moments], z_val: float, rules: str = "final") -> Verdict:
    """Return the regime of one network from its modes' moments; ``unknown`` unless all six have values."""
    if any(mode not in modes or not modes[mode].n for mode in MODES):
        return Verdict(UNKNOWN, "")
    groups = [tuple(modes[mode] for mode in group) for group in (CONTROLS, ABLATIVE)]
    numbers = Numbers(groups[0], groups[1], z_val)
    for number, regime, holds in _rules(rules):
        if holds(numbers):
            return Verdict(regime, number)
    return Verdict(UNKNOWN, "5")


def classify(study: cells.Study, rules: str = "final", names: Sequence[str] | None = None) -> dict[str, Verdict]:
    """Return the verdict of every network of the results, or of these networks."""
    chosen = study.architectures if names is None else names
    return {
        name: verdict({mode: cell.summary for mode, cell in study.modes(name).items()}, study.z_val, rules)
        for name in chosen
    }


Values = Mapping[str, Mapping[str, Sequence[float]]]


def get_all_regime_classifications(
    configurations: str | Path | None,
    trials: str | Path | Values,
    *,
    rules: str = "final",
    z_val: float | None = None,
) -> dict[str, str]:
    """Return the regime of every listed network, by ``L*W`` in the order of the list.

    ``configurations`` is a file with one ``DEPTH*WIDTH`` a line (None: the 98 of the study), ``trials`` the
    published Markdown file or peaks in percent by network (``L*W`` or ``LxW``) and mode. ``z_val`` is the
    share of the most frequent class, by default that of MNIST where its labels are found, else 11.02.
    """
    if rules not in RULE_SETS:
        raise WrongInput(f"rules: found '{rules}', expected one of {', '.join(RULE_SETS)}")
    listed = listing(configurations)
    for text in listed.warnings:
        warnings.warn(text, stacklevel=2)
    by_name = _by_name(trials)
    z = dataset.zero_r() if z_val is None else z_val
    return {name: verdict(by_name.get(name, {}), z, rules).regime for name in listed.names}


def _by_name(trials: str | Path | Values) -> dict[str, dict[str, Moments]]:
    found: dict[str, dict[str, Moments]] = {}
    if isinstance(trials, Mapping):
        entries = [(name, mode, values) for name, modes in trials.items() for mode, values in modes.items()]
    else:
        read = published_files.read_trials(trials).cells
        entries = [(name, mode, values) for (name, mode), values in read.items()]
    for name, mode, values in entries:
        shape = shape_of(name)
        found.setdefault(name if shape is None else shape.text, {})[mode] = cells.moments(values)
    return found


# --- the analyzer ----------------------------------------------------------------------------------------


@attrs.frozen
class Options:
    """Which rules, which networks, and where the results come from."""

    rules: str = xfw.key("final", choices=RULE_SETS, help="final: as published; v1: an older set; prose: as worded")
    config_file: str | None = xfw.key(None, help="list of networks; default: those of the results")
    summary_file: str | None = cells.summary_file_key()
    trials_file: str | None = cells.trials_file_key()
    family: str | None = cells.family_key()
    only: tuple[str, ...] | None = cells.only_key()


def analyse(results: Results | None, options: Options, output: Output) -> None:
    """Print and write the regime and rule of every network, and how many networks each regime has."""
    study = cells.study(results, options)
    names: Sequence[str] = study.architectures
    if options.config_file:
        listed = listing(options.config_file)
        names = listed.names
        for text in listed.warnings:
            output.warn(text)
    found = classify(study, options.rules, in_order(names, listing(None).shapes) if not options.config_file else names)
    output.table("regimes", _table(study, found, options.rules))
    output.table("regime-counts", _counts(found, options.rules))


def _table(study: cells.Study, found: Mapping[str, Verdict], rules: str) -> Table:
    described: list[tuple[Any, ...]] = []
    for name, each in found.items():
        modes = study.modes(name)
        means = [modes[mode].summary.mean if mode in modes else None for mode in MODES]
        described.append((name, each.regime, REGIMES[each.regime], each.rule, *means))
    return Table(
        columns=columns(
            ("architecture", "architecture"),
            ("regime", "regime"),
            ("number", "no."),
            ("rule", "rule"),
            *((f"mean_{mode}", mode, "%", ".2f") for mode in MODES),
        ),
        rows=tuple(described),
        caption=f"{study.title}: regimes by the rules '{rules}'",
        label="tab:psa-regimes",
        notes=(
            f"Means of the peak validation accuracy over trials; Z = {study.z_val:.2f} %. {study.origin}.",
            "The tolerance of the rules is the spread of three means, not of trials; rule 2b needs 0.01 points of "
            "overlap only; significance plays no part.",
        ),
    )


def _counts(found: Mapping[str, Verdict], rules: str) -> Table:
    members = {regime: [name for name, each in found.items() if each.regime == regime] for regime in REGIMES}
    return Table(
        columns=columns(("regime", "regime"), ("number", "no."), ("count", "networks", "", "d"), ("networks", "which")),
        rows=tuple((regime, REGIMES[regime], len(names), " ".join(names)) for regime, names in members.items()),
        caption=f"Networks by regime, rules '{rules}'",
        label="tab:psa-regime-counts",
    )


ANALYZER = xfw.Analyzer(
    "regimes",
    "which of the four regimes each network belongs to, and by which rule",
    analyse,
    options=Options,
    available=cells.available,
)
