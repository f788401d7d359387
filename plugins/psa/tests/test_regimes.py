"""The regimes: published verdicts, hand-made cases of every rule, and what the Python function accepts."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import xfw_psa
from xfw import WrongInput
from xfw_psa.analysis import published_files, regimes
from xfw_psa.analysis.cells import Moments, moments
from xfw_psa.analysis.regimes import UNKNOWN, Verdict
from xfw_psa.config import MODES

REFERENCE = Path(os.environ.get("XFW_DATA_DIR", "")) / "psa" / "reference_half.json"
needs_reference = pytest.mark.skipif(not REFERENCE.is_file(), reason=f"{REFERENCE} is not there")

Z = 11.02


@pytest.fixture(scope="module")
def published() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))["simplemlp_final"]
    return content


def of_table(cell: Mapping[str, float]) -> Moments:
    return Moments(int(cell["n"]), cell["mean"], cell["std"], cell["min"], cell["max"])


@needs_reference
@pytest.mark.parametrize("rules", regimes.RULE_SETS)
def test_published_rows_have_their_regime_and_rule(published: Mapping[str, Any], rules: str) -> None:
    for name, row in published.items():
        expected = Verdict(row["regime"][rules]["regime"], row["regime"][rules]["rule"])
        of_trials = {mode: moments(cell["trials"]) for mode, cell in row["modes"].items()}
        assert regimes.verdict(of_trials, Z, rules) == expected, name
        rounded = {mode: of_table(cell) for mode, cell in row["modes"].items()}
        assert regimes.verdict(rounded, Z, rules).regime == expected.regime, name


COUNTS = {"final": [5, 12, 9, 23, 0], "v1": [7, 12, 6, 23, 1], "prose": [3, 10, 10, 22, 4]}
"""Networks in regimes I to IV and unknown, over the 49 published rows (specification, section 5.12)."""


@needs_reference
@pytest.mark.parametrize("rules", regimes.RULE_SETS)
def test_counts_over_the_published_rows(published: Mapping[str, Any], rules: str) -> None:
    verdicts = [
        regimes.verdict({mode: moments(cell["trials"]) for mode, cell in row["modes"].items()}, Z, rules)
        for row in published.values()
    ]
    found = Counter(each.regime for each in verdicts)
    assert [found[regime] for regime in regimes.REGIMES] == COUNTS[rules]


@needs_reference
def test_rows_where_the_older_rules_differ(published: Mapping[str, Any]) -> None:
    def regime(name: str, rules: str) -> str:
        cells = {mode: moments(cell["trials"]) for mode, cell in published[name]["modes"].items()}
        return regimes.REGIMES[regimes.verdict(cells, Z, rules).regime]

    assert [regime(name, "v1") for name in ("26*26", "18*18", "6*6")] == ["–", "I", "I"]
    assert [regime(name, "prose") for name in ("1*512", "2*214", "4*185", "4*1", "4*4")] == ["–"] * 4 + ["III"]


def modes(
    means: Sequence[float], *, maxima: Sequence[float] | None = None, sds: Sequence[float] | None = None
) -> dict[str, Moments]:
    """Return moments of the six modes in the order none, decay, dropout, full, hidden, output."""
    high, spread = maxima or means, sds or [0.0] * 6
    numbers = zip(MODES, means, high, spread, strict=True)
    return {mode: Moments(10, mean, sd, mean, top) for mode, mean, top, sd in numbers}


CASES: dict[str, tuple[dict[str, Moments], str]] = {
    "1a: nobody above Z, Z itself included": (modes([Z] * 6), "1a"),
    "1b: one control escapes once, means stay": (modes([10.8] * 6, maxima=[17.0, 10, 10, Z, Z, Z]), "1b"),
    "2a: all within the tolerance": (modes([98.0, 98.1, 98.2, 97.9, 98.0, 97.6]), "2a"),
    "2a: exactly half a point below": (modes([98.0, 98.0, 98.0, 97.5, 97.5, 97.5]), "2a"),
    "2b: one far below, one overlaps": (modes([98.0, 98.0, 98.0, 98.1, 97.0, 97.0]), "2b"),
    "2b: an overlap of exactly 0.01": (modes([98.0, 98.0, 98.0, 98.01, 97.0, 97.0]), "2b"),
    "3a: clearly worse": (modes([97.4, 97.4, 97.5, 96.8, 97.1, 95.8]), "3a"),
    "3b: best trial is a control's, ablative no better": (
        modes([30.0, 34.0, 18.0, 26.0, 18.0, 33.0], maxima=[77, 82, 38, 47, 33, 57]),
        "3b",
    ),
    "3c: both groups tight, 0.3 apart": (
        modes([98.0, 98.0, 98.0, 97.8, 97.8, 97.45], maxima=[98.0, 98.0, 98.0, 98.5, 97.9, 97.5]),
        "3c",
    ),
    "4a: only ablation escapes": (modes([10.0, 10.0, 10.0, 11.5, 10.2, 18.0], maxima=[Z, Z, Z, 19.0, Z, 71.0]), "4a"),
    "4b: ablation is half a point better": (
        modes([12.0, 15.0, 13.0, 20.0, 21.0, 22.0], maxima=[80, 80, 80, 60, 60, 60]),
        "4b",
    ),
    "4c: a control spreads widely": (
        modes([12.0, 10.0, 10.0, 10.5, 10.5, 11.5], maxima=[73, 11, 11, 11, 11, 80], sds=[18.9, 1, 1, 1, 1, 15]),
        "4c",
    ),
    "5: nothing holds": (
        modes([12.0, 10.0, 10.0, 10.5, 10.5, 11.5], maxima=[73, 11, 11, 11, 11, 80], sds=[15.0, 1, 1, 1, 1, 15]),
        "5",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_hand_made_cases_of_every_rule(case: str) -> None:
    cells, rule = CASES[case]
    assert regimes.verdict(cells, Z).rule == rule


def test_every_rule_has_a_case() -> None:
    assert {rule for _, rule in CASES.values()} == {number for number, _, _ in regimes.FINAL} | {"5"}


def test_a_mean_of_equal_percentages_is_not_above_them() -> None:
    assert sum([11.02] * 3) / 3 > 11.02
    cells = modes([sum([11.02] * 3) / 3] * 6, maxima=[17.0, Z, Z, Z, Z, Z])
    assert regimes.verdict(cells, Z).rule == "1b"


def test_just_above_the_majority_class_is_no_longer_untrainable() -> None:
    assert regimes.verdict(modes([Z] * 5 + [11.03]), Z).rule != "1a"


def test_five_modes_are_unknown() -> None:
    cells = modes([98.0] * 6)
    del cells["hidden"]
    assert regimes.verdict(cells, Z) == Verdict(UNKNOWN, "")
    cells["hidden"] = moments([])
    assert regimes.verdict(cells, Z) == Verdict(UNKNOWN, "")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Return a list of three networks and published trials of two of them."""
    listed = tmp_path / "nets.txt"
    listed.write_text("1*8\n4*4\n2*2\n", encoding="utf-8")
    values = {("1*8", mode): (98.0, 98.1) for mode in MODES} | {("4*4", mode): (11.02, 9.8) for mode in MODES}
    content = published_files.write_trials(published_files.Trials("simplemlp", values), ["1*8", "4*4"])
    trials = tmp_path / "trials.md"
    trials.write_text(content, encoding="utf-8")
    return listed, trials


REGIMES = {"1*8": "beneficial-regularization", "4*4": "untrainable", "2*2": "unknown"}


@pytest.mark.parametrize("kind", [str, Path])
def test_the_function_takes_texts_and_paths(files: tuple[Path, Path], kind: Any) -> None:
    listed, trials = (kind(path) for path in files)
    assert xfw_psa.get_all_regime_classifications(listed, trials) == REGIMES


def test_the_function_takes_networks_with_x(files: tuple[Path, Path]) -> None:
    listed, trials = files
    trials.write_text(trials.read_text(encoding="utf-8").replace("1*8", "1x8"), encoding="utf-8")
    assert xfw_psa.get_all_regime_classifications(listed, trials, z_val=Z) == REGIMES
    values = {name: {mode: [peak] for mode in MODES} for name, peak in (("1x8", 98.0), ("4*4", 9.8))}
    assert xfw_psa.get_all_regime_classifications(listed, values, z_val=Z) == REGIMES


def test_the_function_knows_the_published_list(files: tuple[Path, Path]) -> None:
    found = xfw_psa.get_all_regime_classifications(None, files[1], z_val=Z)
    assert len(found) == 98
    assert Counter(found.values())["unknown"] == 96


def test_the_function_warns_of_a_network_that_stands_twice(files: tuple[Path, Path]) -> None:
    listed, trials = files
    listed.write_text("1*8\n1*8\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="1\\*8 stands in line 1 too"):
        xfw_psa.get_all_regime_classifications(listed, trials, z_val=Z)


def test_unknown_rules_are_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(WrongInput, match="expected one of final, v1, prose"):
        xfw_psa.get_all_regime_classifications(*files, rules="v2")
