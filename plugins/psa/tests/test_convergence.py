"""The convergence figures: which trial is drawn, in which colour and scale, and what happens without results."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from xfw.cli.main import invoke
from xfw.store.results import Results
from xfw_psa.analysis import cells, convergence
from xfw_psa.analysis.cells import Cell, Study
from xfw_psa.analysis.convergence import Options
from xfw_psa.config import MODES

Stored = Callable[..., Results]
Values = Sequence[Sequence[float]]

LEGEND = {
    "Control (None)": "#a1887f",
    "Weight Decay": "#651fff",
    "Dropout": "#e040fb",
    "Hidden Ablation": "#ffeb3b",
    "Output Ablation": "#00b0ff",
    "Full Ablation": "#ff8a65",
}
"""Names and colours in the order of the legend."""


def cell_of(values: Values) -> Cell:
    val_TE = np.asarray(values, dtype=np.float64)
    peaks_T = val_TE.max(axis=1)
    lkg_TE = np.maximum.accumulate(val_TE, axis=1)
    return Cell(summary=cells.moments(peaks_T), peaks_T=peaks_T, val_TE=val_TE, lkg_TE=lkg_TE)


def study_of(values: Mapping[tuple[str, str], Values]) -> Study:
    made = {place: cell_of(each) for place, each in values.items()}
    return Study(family="simplemlp", cells=made, z_val=11.02, loops=3, origin="given")


def panel(values: Mapping[tuple[str, str], Values], options: Options | None = None) -> Axes:
    """Return the one panel of results of one network."""
    ((name, _), *_) = values
    (axes,) = convergence.draw(study_of(values), [name], options or Options()).axes
    return axes


def line_of(axes: Axes, label: str) -> Line2D:
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def all_modes(name: str = "18*18") -> dict[tuple[str, str], Values]:
    return {(name, mode): [[10.0, 20.0 + index, 15.0], [11.0, 12.0, 13.0]] for index, mode in enumerate(MODES)}


def test_the_trial_with_the_largest_peak_is_drawn() -> None:
    axes = panel({("18*18", "none"): [[50, 60, 55], [10, 20, 70], [70, 1, 2]]})
    line = line_of(axes, "Control (None)")
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata().tolist() == [10, 20, 70]
    assert (line.get_alpha(), line.get_linewidth()) == (0.8, 2)


def test_modes_have_their_names_colours_and_order() -> None:
    axes = panel(all_modes())
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == [*LEGEND, "ZeroR Baseline"]
    for name, colour in LEGEND.items():
        assert to_hex(line_of(axes, name).get_color()) == colour
    base = line_of(axes, "ZeroR Baseline")
    assert (base.get_ydata()[0], base.get_linestyle(), to_hex(base.get_color())) == (11.02, "--", "#212121")


def test_modes_without_results_are_left_out() -> None:
    axes = panel({("18*18", "output"): [[1, 20, 3]], ("18*18", "full"): [[np.nan, np.nan, np.nan]]})
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Output Ablation", "ZeroR Baseline"]


def test_the_running_best_can_be_drawn() -> None:
    axes = panel({("18*18", "none"): [[50, 40, 60, 55]]}, Options(curve="lkg"))
    assert line_of(axes, "Control (None)").get_ydata().tolist() == [50, 50, 60, 60]


def test_the_mean_and_all_trials_can_be_drawn() -> None:
    values: dict[tuple[str, str], Values] = {("18*18", "none"): [[50, 40, 60], [10, 20, 30]]}
    assert line_of(panel(values, Options(trials="mean")), "Control (None)").get_ydata().tolist() == [30, 30, 45]
    axes = panel(values, Options(trials="all"))
    drawn = [line.get_ydata().tolist() for line in axes.lines if to_hex(line.get_color()) == "#a1887f"]
    assert drawn == [[50, 40, 60], [10, 20, 30]]
    assert len(axes.get_legend().get_texts()) == 2


@pytest.mark.parametrize(("value", "place"), [(50.0, "below"), (5.0, "above")])
def test_a_baseline_outside_the_axis_is_said_and_has_no_entry(value: float, place: str) -> None:
    axes = panel({("1*1024", "none"): [[value, value + 1, value + 2]]})
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Control (None)"]
    assert f"ZeroR Baseline 11.02 %, {place} this axis" in [text.get_text() for text in axes.texts]


def test_axes_have_the_limits_of_all_trials_and_modes() -> None:
    axes = panel({("18*18", "none"): [[20, 60, 55], [30, 30, 30]], ("18*18", "full"): [[25, 25, 70], [21, 22, 23]]})
    assert axes.get_xlim() == (0.5, 3.5)
    assert axes.get_ylim() == pytest.approx((20 - 0.05 * 50, 70 + 0.05 * 50))
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [(0.0, 100.0, (1.0, 100.0)), (10.0, 20.0, (9.5, 20.5)), (99.5, 100.0, (99.475, 100.0)), (11.0, 11.0, (10.5, 11.5))],
)
def test_limits_stay_within_percentages(lowest: float, highest: float, expected: tuple[float, float]) -> None:
    assert convergence.limits(np.array([lowest, highest, np.nan])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("span", "step"), [(88.0, 10), (50.1, 10), (50.0, 5), (20.1, 5), (20.0, 2), (3.0, 2), (2.9, 0.5), (0.4, 0.5)]
)
def test_ticks_have_these_distances(span: float, step: float) -> None:
    assert convergence.tick_step(span) == step


@pytest.mark.parametrize(("top", "step"), [(80.0, 10.0), (45.0, 5.0), (20.0, 2.0), (12.0, 0.5)])
def test_ticks_are_percentages_with_one_decimal(top: float, step: float) -> None:
    axes = panel({("18*18", "none"): [[11.0, top, 12.0]]})
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    np.testing.assert_allclose(np.diff(ticks), step)
    assert axes.yaxis.get_major_formatter()(12.25) == "12.2%"


def test_a_panel_names_the_network_and_the_regime_of_its_peaks() -> None:
    """Only the peaks decide: all modes are at a class share in most loops here."""
    values = {("18*18", mode): [[8.65] * 9 + [11.02 if mode != "output" else 60.0]] * 2 for mode in MODES}
    axes = panel(values)
    assert axes.get_title() == "Architecture 18*18"
    (box,) = axes.texts
    assert box.get_text() == "III: Chaotic Optimization"
    patch = box.get_bbox_patch()
    assert patch is not None
    assert (to_hex(patch.get_facecolor()), patch.get_facecolor()[3]) == ("#1565c0", 0.25)
    assert (box.get_horizontalalignment(), box.get_verticalalignment()) == ("left", "top")
    assert box.get_position()[0] < 0.1
    assert box.get_position()[1] > 0.9


def test_panels_are_stacked() -> None:
    study = study_of({**all_modes("18*18"), **all_modes("4*2")})
    figure = convergence.draw(study, ["4*2", "99*9", "18*18"], Options())
    assert tuple(figure.get_size_inches()) == (12, 18)
    assert figure.get_dpi() == 300
    assert [axes.get_title() for axes in figure.axes] == [f"Architecture {each}" for each in ("4*2", "99*9", "18*18")]
    empty = figure.axes[1]
    assert [text.get_text() for text in empty.texts] == ["no results for 99*9"]
    assert not empty.axison


# --- the analyzer ----------------------------------------------------------------------------------------


def curves(*names: str) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Return two trials of four loops of every mode."""
    rise = np.array([[11.02, 20.0, 15.0, 40.0], [11.02, 30.0, 35.0, 36.0]])
    return {(name, mode): rise + index * (rise > 15) for name in names for index, mode in enumerate(MODES)}


def analyze(results_dir: Path, *arguments: str) -> int:
    place = ("--results-dir", str(results_dir), "-o", str(results_dir / "out"))
    return invoke(["analyze", "psa", "convergence", *place, *arguments])


def written(results_dir: Path) -> list[str]:
    out = results_dir / "out"
    return sorted(path.name for path in out.iterdir()) if out.exists() else []


def test_figure_and_numbers_are_written(stored: Stored, tmp_path: Path) -> None:
    from PIL import Image

    stored(curves("1*1024", "18*18"))
    assert analyze(tmp_path, "--format", "png,csv") == 0
    assert written(tmp_path) == ["SimpleMLP_Plot_Convergence.csv", "SimpleMLP_Plot_Convergence.png"]
    file = tmp_path / "out" / "SimpleMLP_Plot_Convergence.png"
    assert file.stat().st_size > 10_000
    with Image.open(file) as image:
        assert image.size == (3600, 3600)
    rows = list(csv.DictReader(io.StringIO(file.with_suffix(".csv").read_text())))
    assert len(rows) == 2 * len(MODES) * 4
    assert rows[:2] == [
        {"architecture": "1*1024", "mode": "none", "trial": "0", "loop": "1", "accuracy": "11.02"},
        {"architecture": "1*1024", "mode": "none", "trial": "0", "loop": "2", "accuracy": "20.0"},
    ]


def test_late_breakthroughs_have_a_name_of_their_own(stored: Stored, tmp_path: Path) -> None:
    stored(curves("18*18", "4*2"))
    assert analyze(tmp_path, "--format", "csv", "-s", "curve=lkg", "-s", "targets=18*18,4*2") == 0
    assert written(tmp_path) == ["SimpleMLP_Plot_Late_Breakthroughs.csv"]


@pytest.mark.parametrize(
    ("names", "curve", "expected"),
    [
        (["3*3", "18*18", "1*1024"], "val", ["1*1024", "18*18"]),
        (["3*3", "18*18"], "val", ["18*18"]),
        (["3*3", "4*2", "18*18"], "lkg", ["18*18", "4*2"]),
        (["3*3", "5*5", "6*6"], "val", ["6*6", "5*5"]),
    ],
)
def test_without_targets_the_papers_networks_or_the_first_two_are_shown(
    stored: Stored, tmp_path: Path, names: list[str], curve: str, expected: list[str]
) -> None:
    stored(curves(*names))
    assert analyze(tmp_path, "--format", "csv", "-s", f"curve={curve}") == 0
    (file,) = (tmp_path / "out").iterdir()
    found = [row["architecture"] for row in csv.DictReader(io.StringIO(file.read_text()))]
    assert list(dict.fromkeys(found)) == expected


def test_an_unknown_target_is_warned_of(stored: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(curves("18*18"))
    assert analyze(tmp_path, "--format", "png", "-s", "targets=18*18,99x9") == 0
    assert "warning" in (said := capsys.readouterr().out)
    assert "no loops of '99*9'" in said
    assert written(tmp_path) == ["SimpleMLP_Plot_Convergence.png"]


def test_no_known_target_draws_nothing(stored: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(curves("18*18"))
    assert analyze(tmp_path, "-s", "targets=99*9,98*9") == 1
    said = capsys.readouterr().err
    assert "no loops of 99*9, 98*9: nothing was drawn" in said
    assert "the run has: 18*18" in said
    assert written(tmp_path) == []


def test_a_continued_run_counts_its_loops_on(run: Callable[..., Results], tmp_path: Path) -> None:
    first = run("-s", "mode=none,output", loops=2)
    run("--from", first.run, "-s", "meta_loops=3")
    assert analyze(tmp_path, "--format", "csv") == 0
    (file,) = (tmp_path / "out").iterdir()
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [row["loop"] for row in rows if row["mode"] == "none"] == ["3", "4", "5"]
