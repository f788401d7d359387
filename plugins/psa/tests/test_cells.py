"""Results by network and mode, from sealed runs and from files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
from xfw import WrongInput
from xfw.store.results import Results
from xfw_psa.analysis import cells, published_files, result_files
from xfw_psa.analysis.cells import moments

Run = Callable[..., Results]


@attrs.frozen
class Reading:
    summary_file: str | None = None
    trials_file: str | None = None
    family: str | None = None
    only: tuple[str, ...] | None = None


@pytest.fixture
def swept(run: Run) -> Results:
    """Return a run of two networks, two modes and three trials."""
    return run("-s", "mode=none,output", "--trials", "3", arch="1*4,[2*3,1*4]")


def test_cells_hold_the_trials_of_their_condition(swept: Results) -> None:
    found = cells.study(swept, Reading())
    assert (found.family, found.title, found.loops, found.origin) == ("resmlp", "ResMLP", 3, swept.run)
    assert found.architectures == ("1*4", "[2*3,1*4]")
    correct = swept.values("epoch", "val_correct")
    for condition, label in enumerate(swept.condition_labels()):
        name = "1*4" if "[1*4]" in label else "[2*3,1*4]"
        cell = found.cells[name, label.rpartition("=")[2]]
        rows = correct[swept.condition == condition]
        np.testing.assert_allclose(cell.val_TE, 100 * rows / 300, rtol=1e-15)
        np.testing.assert_allclose(cell.peaks_T, 100 * rows.max(axis=1) / 300, rtol=1e-15)
        np.testing.assert_allclose(cell.lkg_TE, np.maximum.accumulate(cell.val_TE, axis=1), rtol=1e-15)
        np.testing.assert_allclose(
            cell.test_T, 100 * swept.array("test_correct")[swept.condition == condition] / 300, rtol=1e-15
        )
        assert cell.best_trial == int(np.argmax(cell.peaks_T))


def test_z_is_that_of_the_data(swept: Results) -> None:
    assert cells.study(swept, Reading()).z_val == pytest.approx(100 * 35 / 300, abs=1e-12)


def test_standard_deviations_have_the_divisor_n() -> None:
    assert (moments([1.0, 3.0]).mean, moments([1.0, 3.0]).sd) == (2.0, 1.0)
    assert moments([1.0, np.nan, 3.0]).n == 2


def test_a_mode_without_trials_is_no_cell(swept: Results) -> None:
    found = cells.study(swept, Reading())
    assert found.cell("1*4", "full") is None
    assert list(found.modes("1*4")) == ["none", "output"]


@pytest.mark.parametrize(
    ("only", "modes"),
    [
        ("mode=output", {"output"}),
        ("arch=1*4,mode=output", {"output"}),
        ("arch=[1*4],mode=output", {"output"}),
        ("lr=1e-4,mode=output", {"output"}),
        ("mode=none,output", {"none", "output"}),
    ],
)
def test_conditions_can_be_chosen(swept: Results, only: str, modes: set[str]) -> None:
    found = cells.study(swept, Reading(only=tuple(only.split(","))))
    assert {mode for _, mode in found.cells} == modes


def test_conditions_that_are_not_there_are_named(swept: Results) -> None:
    with pytest.raises(WrongInput, match="no condition with mode=full") as caught:
        cells.study(swept, Reading(only=("mode=full",)))
    assert "mode=none" in caught.value.hint


def test_conditions_that_do_not_belong_together_are_refused(run: Run) -> None:
    results = run("-s", "lr=1e-3,1e-4", loops=1)
    with pytest.raises(WrongInput, match="conditions of 1\\*4 hidden differ in lr") as caught:
        cells.study(results, Reading())
    assert "-s only=lr=0.001" in caught.value.hint
    assert cells.study(results, Reading(only=("lr=0.001",))).cells["1*4", "hidden"].summary.n == 1


def test_two_families_need_a_choice(run: Run) -> None:
    results = run("-s", "family=all", loops=1)
    with pytest.raises(WrongInput, match="holds both families"):
        cells.study(results, Reading())
    assert cells.study(results, Reading(family="simplemlp")).title == "SimpleMLP"


def test_trials_that_did_not_end_are_missing(swept: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    states = ["failed", "done", "done"] + ["done"] * 9
    monkeypatch.setattr(type(swept), "status", states)
    found = cells.study(swept, Reading()).cells["1*4", "none"]
    assert found.summary.n == 2
    assert np.isnan(found.peaks_T[0])
    monkeypatch.setattr(type(swept), "status", ["failed"] * 3 + ["done"] * 9)
    failed = cells.study(swept, Reading())
    assert failed.cells["1*4", "none"].status == published_files.INCOMPLETE
    assert failed.cell("1*4", "none") is None


def test_files_give_the_cells_of_the_run(swept: Results, tmp_path: Path) -> None:
    study = cells.study(swept, Reading())
    trials, summary = tmp_path / "trials.md", tmp_path / "summary.md"
    trials.write_text(published_files.write_trials(result_files.trials(study), study.architectures))
    summary.write_text(
        published_files.write_summary(result_files.summaries(study, study.architectures), study.architectures)
    )
    for reading in (Reading(trials_file=str(trials)), Reading(summary_file=str(summary))):
        found = cells.study(None, reading)
        assert (found.family, found.architectures, found.loops) == ("resmlp", study.architectures, None)
        for place, cell in study.cells.items():
            mine, theirs = found.cells[place].summary, cell.summary
            # Peaks of 300 images are rounded to two decimals in the file, so mean and deviation move by at most 0.01.
            assert mine.n == theirs.n
            assert abs(mine.mean - theirs.mean) <= 0.01
            assert abs(mine.sd - theirs.sd) <= 0.01


def test_summary_numbers_agree_with_the_trials_of_whole_hundredths(tmp_path: Path) -> None:
    reference = Path(__file__).parents[4] / "shared" / "data" / "psa" / "reference_half.json"
    if not reference.is_file():
        pytest.skip(f"{reference} is not there")
    for name, row in json.loads(reference.read_text(encoding="utf-8"))["simplemlp_final"].items():
        for mode, cell in row["modes"].items():
            found = moments(cell["trials"])
            assert abs(found.mean - cell["mean"]) <= 0.005 + 1e-9, (name, mode)
            assert abs(found.sd - cell["std"]) <= 0.005 + 1e-9, (name, mode)
            assert (found.minimum, found.maximum) == (cell["min"], cell["max"])


def test_without_a_run_and_files_the_way_out_is_named() -> None:
    with pytest.raises(WrongInput, match="there is no run yet") as caught:
        cells.study(None, Reading())
    assert "trials_file" in caught.value.hint


def test_a_run_without_a_finished_loop_has_no_cells(swept: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cells.available(swept) == ""
    monkeypatch.setattr(type(swept), "count", lambda results, stream: np.zeros(12, np.int64))
    assert cells.available(swept) == "no trial has finished a loop"
