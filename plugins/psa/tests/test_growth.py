"""Growth and convergence tables, from records and from logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xfw import WrongInput
from xfw.analysis.output import Output
from xfw.store.results import Results
from xfw_psa.analysis import growth
from xfw_psa.config import Config
from xfw_psa.records import loop_line

Run = Callable[..., Results]

curves = st.lists(st.lists(st.floats(0, 100), min_size=5, max_size=5), min_size=1, max_size=4)


@given(curves)
def test_growth_adds_up_to_the_merged_curve(values: list[list[float]]) -> None:
    best_TE = np.maximum.accumulate(np.array(values), axis=1)
    whole = growth.merged(best_TE)
    gained = growth.gains(whole)
    assert gained[0] == 0
    for loop in range(5):
        assert whole[0] + sum(gained[: loop + 1]) == pytest.approx(max(row[loop] for row in best_TE))


def test_a_loop_that_only_some_trials_have_counts_for_those() -> None:
    merged = growth.merged(np.array([[1.0, 3.0, np.nan], [2.0, np.nan, np.nan]]))
    np.testing.assert_array_equal(merged, [2.0, 3.0, np.nan])


VAL = [[10.0, 20.5, 19.0, 30.25, 28.0], [12.0, 11.0, 40.0, 39.0, 41.5]]
LKG = [[10.0, 20.5, 20.5, 30.25, 30.25], [12.0, 12.0, 40.0, 40.0, 41.5]]


def line(trial: int, loop: int, *, named: bool) -> str:
    text = (
        f"Loop {loop}/5 (Global: {loop}) | Current: {VAL[trial][loop - 1]:.2f}% | "
        f"LKG: {LKG[trial][loop - 1]:.2f}% | Bounty: {LKG[trial][loop - 1]:.2f}%"
    )
    return f"trial {trial} | {text}" if named else text


def job(folder: Path, name: str, lines: list[str]) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "log.txt").write_text("\n".join(["Downloading", *lines, "Test Accuracy"]) + "\n")


IN_TURN = [line(trial, loop, named=False) for trial in (0, 1) for loop in range(1, 6)]
MIXED = [line(trial, loop, named=True) for loop in range(1, 6) for trial in (1, 0)]


@pytest.mark.parametrize("lines", [IN_TURN, MIXED], ids=["one after another", "named"])
def test_logs_are_read_trial_by_trial(tmp_path: Path, lines: list[str]) -> None:
    job(tmp_path, "psa-18x18-output-2025-08-01-10-11-12-345", lines)
    (course,) = growth.from_logs(tmp_path)
    assert (course.architecture, course.mode) == ("18*18", "output")
    np.testing.assert_array_equal(course.val_TE, VAL)
    np.testing.assert_array_equal(course.lkg_TE, LKG)


def test_tables_of_logs(tmp_path: Path) -> None:
    job(tmp_path / "logs", "psa-18x18-output-2025-08-01-10-11-12-345", IN_TURN)
    output = Output(tmp_path / "out")
    growth.analyse(None, growth.Options(logs=str(tmp_path / "logs")), output)
    loops = " | ".join(f"Meta-Loop {loop}" for loop in (1, 2, 3, 4, 5))
    head = f"| Architecture (LxW) | Mode | {loops} | Final Test |"
    rule = "| --- | --- | --- | --- | --- | --- | --- | --- |"
    assert (tmp_path / "out" / "growth.md").read_text().splitlines() == [
        head,
        rule,
        "| 18x18 | output | 0.00 | 8.50 | 19.50 | 0.00 | 1.50 | N/A |",
    ]
    assert (tmp_path / "out" / "convergence.md").read_text().splitlines()[2:] == [
        "| 18x18 | output | 12.00 | 20.50 | 40.00 | 39.00 | 41.50 | N/A |"
    ]
    assert (tmp_path / "out" / "convergence.csv").read_text().splitlines() == [
        "architecture,mode,trial,loop_1,loop_2,loop_3,loop_4,loop_5,final_test",
        "18x18,output,0,10.0,20.5,19.0,30.25,28.0,",
        "18x18,output,1,12.0,11.0,40.0,39.0,41.5,",
    ]


def test_the_latest_job_of_a_cell_counts_and_rows_are_sorted_as_text(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    job(logs, "psa-2x8-none-2025-08-01-10-11-12-345", IN_TURN[:5])
    job(logs, "psa-2x8-none-2025-08-02-10-11-12-345", IN_TURN)
    job(logs, "psa-2x8-decay-2025-08-01-10-11-12-345", IN_TURN[:5])
    job(logs, "psa-18x18-output-2025-08-01-10-11-12-345", IN_TURN)
    job(logs, "psa-2x8-none", IN_TURN)
    found = {(each.architecture, each.mode): len(each.val_TE) for each in growth.from_logs(logs)}
    assert found == {("2*8", "none"): 2, ("2*8", "decay"): 1, ("18*18", "output"): 2}
    output = Output(tmp_path / "out")
    growth.analyse(None, growth.Options(logs=str(logs)), output)
    rows = (tmp_path / "out" / "growth.md").read_text().splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [["| 18x18", "output"], ["| 2x8", "decay"], ["| 2x8", "none"]]


def test_our_own_log_lines_are_read(tmp_path: Path) -> None:
    config = Config(data="digits", meta_loops=2)
    rows = [{"epoch": loop, "val_correct": 30 * loop, "lkg_correct": 30 * loop} for loop in (1, 2)]
    read = growth.read_log(loop_line(config, trial, row, 2) for row in rows for trial in (0, 7))
    assert read == [[(10.0, 10.0), (20.0, 20.0)]] * 2


def test_records_give_the_tables_of_their_curves(run: Run, tmp_path: Path) -> None:
    results = run("-s", "mode=none,output", "--trials", "2", loops=4)
    output = Output(tmp_path / "out")
    growth.analyse(results, growth.Options(), output)
    correct_TE = results.values("epoch", "lkg_correct")[results.condition == 1] * 100 / 300
    best = correct_TE.max(axis=0)
    test = (results.array("test_correct")[results.condition == 1] * 100 / 300).mean()
    cells = (tmp_path / "out" / "growth.md").read_text().splitlines()[3].strip("| ").split(" | ")
    assert cells[:2] == ["1x4", "output"]
    expected = [0.0, *np.diff(best), test]
    assert [float(cell) for cell in cells[2:]] == pytest.approx(expected, abs=0.005 + 1e-9)


@pytest.mark.parametrize(("per_trial", "markdown", "csv"), [(None, 1, 2), (True, 2, 2), (False, 1, 1)])
def test_rows_by_trial_or_merged(tmp_path: Path, per_trial: bool | None, markdown: int, csv: int) -> None:
    job(tmp_path / "logs", "psa-18x18-output-2025-08-01-10-11-12-345", IN_TURN)
    growth.analyse(None, growth.Options(logs=str(tmp_path / "logs"), per_trial=per_trial), Output(tmp_path / "out"))
    assert len((tmp_path / "out" / "growth.md").read_text().splitlines()) == 2 + markdown
    assert len((tmp_path / "out" / "growth.csv").read_text().splitlines()) == 1 + csv


def test_folders_without_logs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="holds no log with loops") as caught:
        growth.from_logs(tmp_path)
    assert "psa-LxW-MODE" in caught.value.hint
    with pytest.raises(WrongInput, match="it is no directory"):
        growth.from_logs(tmp_path / "none")
