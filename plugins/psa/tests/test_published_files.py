"""The two Markdown files: round trips, the published layout, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xfw import WrongInput
from xfw_psa.analysis import published_files as files
from xfw_psa.analysis.cells import moments
from xfw_psa.analysis.published_files import Entry, Summaries, Trials
from xfw_psa.config import MODES

hundredths = st.integers(0, 10_000).map(lambda count: count / 100)
cells = st.dictionaries(
    st.tuples(st.sampled_from(["1*8", "18*18", "[4*4,2*8]"]), st.sampled_from(MODES)),
    st.lists(st.one_of(hundredths, st.just(math.nan)), min_size=3, max_size=3),
    min_size=1,
)


def order_of(content: dict[tuple[str, str], list[float]]) -> list[str]:
    return sorted({name for name, _ in content})


Content = dict[tuple[str, str], list[float]]


@given(content=cells)
def test_trials_round_trip(
    tmp_path_factory: pytest.TempPathFactory, content: dict[tuple[str, str], list[float]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "trials.md"
    text = files.write_trials(Trials("resmlp", {place: tuple(v) for place, v in content.items()}), order_of(content))
    path.write_text(text, encoding="utf-8")
    read = files.read_trials(path)
    assert read.family == "resmlp"
    for place, values in content.items():
        known = [value for value in values if math.isfinite(value)]
        assert [value for value in read.cells.get(place, ()) if math.isfinite(value)] == known


@given(content=cells)
def test_summaries_round_trip(tmp_path_factory: pytest.TempPathFactory, content: Content) -> None:
    path = tmp_path_factory.mktemp("s") / "summary.md"
    found = {place: moments(values) for place, values in content.items()}
    entries = {place: Entry(m.n, m.mean, m.sd, m.minimum, m.maximum) for place, m in found.items()}
    names = order_of(content)
    path.write_text(files.write_summary(Summaries("simplemlp", entries, dict.fromkeys(names, 1234567)), names))
    read = files.read_summary(path)
    assert (read.family, read.parameters) == ("simplemlp", dict.fromkeys(names, 1234567))
    for place, expected in found.items():
        entry = read.cells[place]
        assert entry.n == expected.n
        if expected.n:
            pairs = [(entry.mean, expected.mean), (entry.sd, expected.sd), (entry.minimum, expected.minimum)]
            assert all(abs(mine - theirs) <= 0.005 + 1e-9 for mine, theirs in pairs)
        else:
            assert entry.status == files.EMPTY


PUBLISHED_SUMMARY = """# Persistent Stochastic Ablation - SimpleMLP Results Summary

## Statistical Summary

Results Shape {1*8} Parameters {6370}
* None: Mean=91.14% | Std=0.24% | Min=90.58% | Max=91.40% (n=10)
* Decay: NO_JOB_FOUND
* Dropout: CLIENT_ERROR: no such key
* Full: EMPTY_RESULTS
* Hidden: RESULTS_NOT_FOUND
* Output: FAILED_OR_INCOMPLETE

"""


def test_the_layout_of_a_summary(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text(PUBLISHED_SUMMARY)
    read = files.read_summary(path)
    assert read.cells["1*8", "none"] == Entry(10, 91.14, 0.24, 90.58, 91.40)
    assert (read.cells["1*8", "dropout"].n, read.cells["1*8", "dropout"].status) == (0, "CLIENT_ERROR: no such key")
    assert files.write_summary(read, ["1*8"]) == PUBLISHED_SUMMARY


PUBLISHED_TRIALS = """# Persistent Stochastic Ablation - SimpleMLP Results Summary

## Raw Trial Data

### Architecture: 1*8

| Trial | None | Decay | Dropout | Full | Hidden | Output |
{rule}
| 1 | 91.14% | 91.24% | 90.30% | 86.44% | N/A | 89.07% |
| 2 | 91.40% | N/A | 90.31% | 86.45% | N/A | 89.08% |

### Architecture: 2*2

No successful trials exist for this architecture.
"""

CORRECT = "|:-----:|:-----:|:-----:|:-----:|:-----:|:-----:|:-----:|"


@pytest.mark.parametrize("rule", [CORRECT, "|:-----::----:|:-----:|:----:|:------:|:------:|"])
def test_the_layout_of_trials_with_either_alignment_row(tmp_path: Path, rule: str) -> None:
    path = tmp_path / "trials.md"
    path.write_text(PUBLISHED_TRIALS.format(rule=rule))
    read = files.read_trials(path)
    assert read.cells["1*8", "none"] == (91.14, 91.40)
    assert read.cells["1*8", "output"] == (89.07, 89.08)
    assert files.write_trials(read, ["1*8", "2*2"]) == PUBLISHED_TRIALS.format(rule=CORRECT)


def test_a_missing_value_is_missing_for_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "trials.md"
    path.write_text(PUBLISHED_TRIALS.format(rule=CORRECT))
    decay = files.read_trials(path).cells["1*8", "decay"]
    assert decay[0] == 91.24
    assert math.isnan(decay[1])


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("91.14%", "ninety", "trials.md:9: found 'ninety', expected a percentage such as 98.07% or N/A"),
        ("| N/A | 89.07% |", "| 89.07% |", "trials.md:9: found 5 values in a row, expected 6"),
        ("| Hidden |", "| Hiding |", "trials.md:7: found mode 'Hiding', expected one of none"),
    ],
)
def test_what_cannot_be_read_is_named_with_file_and_line(tmp_path: Path, wrong: str, right: str, said: str) -> None:
    path = tmp_path / "trials.md"
    path.write_text(PUBLISHED_TRIALS.format(rule=CORRECT).replace(wrong, right))
    with pytest.raises(WrongInput, match=said):
        files.read_trials(path)


def test_a_malformed_summary_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text(PUBLISHED_SUMMARY.replace("Std=0.24%", "Std="))
    with pytest.raises(WrongInput, match=r"summary\.md:6: found 'Mean=91.14"):
        files.read_summary(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (files.read_summary, files.read_trials):
        with pytest.raises(WrongInput, match=r"cannot read '.*none\.md': No such file"):
            read(tmp_path / "none.md")
