"""Figures and animations: what is drawn, and that it comes out the same (spec 6, 10.32)."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from xfw.analysis.output import Output
from xfw.analysis.shared import all_analyzers
from xfw.cli.main import invoke
from xfw.errors import UserError
from xfw.plugins.registry import load_experiment
from xfw.store.results import Results
from xfw.store.rundir import find_run
from xfw.testing.figures import Drawn, problems_of
from xfw_netfragments.analysis import frames, robustness, support
from xfw_netfragments.analysis.rows import Row, condition_rows, published_rows, schedule_of

Run = Any
ONE_POINT = ("-s", "evaluate.theta=[0.3,0.5]", "-s", "evaluate.noise=[0,0.1]", "-s", "evaluate.line_interrupt=[2,4]")


def row(theta: float | None, noise: float = 0.1, interrupt: int = 0, **values: float) -> Row:
    measured = {name: (value, 0.0, 1) for name, value in values.items()}
    return Row(theta, theta is None, (1.2, 0.2), noise, interrupt, measured)


def test_spatial_noise_is_that_of_the_paper() -> None:
    assert [round(robustness.spatial(noise), 2) for noise in (0.05, 0.1, 0.15, 0.2)] == [0.19, 0.34, 0.48, 0.59]


@pytest.mark.parametrize(
    ("theta", "label"), [(0.3, "b = 0.2"), (0.5, "b = 0.0"), (0.7, "b = -0.2"), (None, "Bernoulli")]
)
def test_legends_show_the_activation_bias(theta: float | None, label: str) -> None:
    assert row(theta).label == label


def test_what_is_not_corrupted_is_drawn_as_1() -> None:
    clean = row(0.5, noise=0.0, interrupt=0, noise_reduction=0.0, line_reconstruction=0.0, recall=0.9)
    assert [clean.drawn(name)[0] for name in ("noise_reduction", "line_reconstruction", "recall")] == [1.0, 1.0, 0.9]
    assert row(0.5, noise=0.1, noise_reduction=0.97).drawn("noise_reduction") == (0.97, 0.0)


def lines_of(figure: Any, panel: int) -> dict[str, tuple[list[float], list[float]]]:
    axes = figure.axes[panel]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_a_figure_has_a_panel_for_each_schedule_and_a_line_for_each_threshold(published: Path) -> None:
    rows = [each for each in published_rows(published / "reference_results.json") if each.interrupt == 0]
    spec = robustness.FIGURES[0]
    figure = robustness.draw(spec, rows, {0.1: 0.97, 0.2: 0.96})
    assert (figure.get_size_inches() * figure.dpi).tolist() == [3900.0, 1080.0]
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == [f"Power Factor γ = {text}" for text in ("0.6 + 0.2t", "1.2 + 0.2t", "1.8 + 0.1t")]
    found = lines_of(figure, 1)
    assert list(found) == ["b = -0.2", "b = 0.0", "b = 0.2", "silent"]
    assert found["b = 0.0"][0] == pytest.approx(np.arange(0, 0.21, 0.02))
    assert found["b = 0.0"][1][:3] == pytest.approx([1.0, 0.9763, 0.9740], abs=6e-5)
    assert found["silent"] == ([0.1, 0.2], [0.97, 0.96])
    assert figure.axes[0].get_ylim() == (0.795, 1.005)
    assert figure.axes[0].get_xlim() == (-0.005, 0.205)


def test_published_results_are_drawn_without_a_run(published: Path, tmp_path: Path) -> None:
    file = published / "reference_results.json"
    place = ["--results-dir", str(tmp_path / "none"), "--format", "png,csv"]
    for folder in ("a", "b"):
        command = [
            "analyze",
            "netfragments",
            "robustness",
            "-s",
            f"published={file}",
            *place,
            "-o",
            str(tmp_path / folder),
        ]
        assert invoke(command) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted([*(f"{spec.name}.png" for spec in robustness.FIGURES), "robustness.csv"])
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with Image.open(tmp_path / "a" / "1_noise_reduction.png") as image:
        assert image.size == (3900, 1080)


def test_the_silent_network_of_the_paper() -> None:
    found = robustness._silent_of_paper()
    assert [round(found[noise], 4) for noise in (0.02, 0.04, 0.1, 0.2)] == [0.9757, 0.9737, 0.9746, 0.9736]


def test_rows_may_stand_one_in_a_line(published: Path, tmp_path: Path) -> None:
    whole = published_rows(published / "reference_results.json")
    rows = json.loads((published / "reference_results.json").read_text())["rows"]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in rows))
    assert published_rows(path) == whole
    assert len(whole) == 126


def test_files_of_another_layout_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"rows": [{"noise": 0.1}]}')
    with pytest.raises(UserError, match="not in the published layout"):
        published_rows(path)
    with pytest.raises(UserError, match="cannot read"):
        published_rows(tmp_path / "none.json")


def test_schedules_that_are_not_linear_are_refused() -> None:
    with pytest.raises(UserError, match=r"\[1,1.2,1.5\] is not of the form a \+ b·t"):
        schedule_of([1.0, 1.2, 1.5])
    assert schedule_of([1.2, 1.4, 1.6]) == (1.2, 0.2)


def test_rows_of_a_run_are_means_over_its_trials(run: Run) -> None:
    results: Results = run("--trials", "3", *ONE_POINT)
    rows = condition_rows(results, 0)
    assert len(rows) == 2 * 4
    (chosen,) = [each for each in rows if each.theta == 0.3 and each.noise == 0.1]
    columns = {name: results.values("evaluation", name) for name in ("theta", "noise", "recall")}
    values = columns["recall"][(columns["theta"] == 0.3) & (columns["noise"] == 0.1)]
    assert chosen.values["recall"] == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)), 3)


def test_all_analyzers_of_a_run_and_what_they_leave_out(run: Run, tmp_path: Path, capsys: Any) -> None:
    results = run(*ONE_POINT, "--trials", "2")
    place = ["--results-dir", str(tmp_path), "-o", str(tmp_path / "out"), "--format", "png,csv"]
    assert invoke(["analyze", results.run, *place]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"1_noise_reduction.png", "5_recon_recall.png", "robustness.csv", "support.png", "weights_0_1.npz"} <= names
    assert {"summary.csv", "curves-support_active.png"} <= names
    printed = capsys.readouterr().out
    assert "left out: frames (the run stored no activity: evaluate with -s evaluate.store_activity=true)" in printed


def test_an_unevaluated_run_says_what_is_missing(run: Run, tmp_path: Path, capsys: Any) -> None:
    results = run("--stage", "train")
    assert invoke(["analyze", results.run, "--results-dir", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    assert "robustness (the run has no evaluation: run its stage evaluate)" in capsys.readouterr().out


def test_support_is_drawn_as_stored(run: Run, tmp_path: Path) -> None:
    results = run("--trials", "2")
    output = Output(tmp_path / "out", formats=("csv", "png"))
    support.run(results, support.Options(limit=True), output)
    table = np.genfromtxt(tmp_path / "out" / "support.csv", delimiter=",", names=True)
    stored = results.values("epoch", "support_active_mean")
    np.testing.assert_allclose(table["support_active_mean"], stored.mean(0))
    assert table["support_active_min"][1] == results.values("epoch", "support_active_min")[:, 1].min()
    support.run(results, support.Options(trial=1), output)
    table = np.genfromtxt(tmp_path / "out" / "support.csv", delimiter=",", names=True)
    np.testing.assert_allclose(table["support_active_mean"], stored[1])


# --- animations ----------------------------------------------------------------------------------------------


def small_scene() -> frames.Scene:
    images = np.zeros((1, 4, 4), bool)
    images[0, 1] = True
    features = np.zeros((1, 4, 4, 4), bool)
    features[0, 0, 1, 1] = features[0, 2, 1, 1] = True
    z = np.zeros((1, 2, 4, 4, 4), bool)
    z[0, 1, 1, 2, 2] = True
    strength = np.full((1, 2, 4, 4, 4), 0.5, np.float32)
    return frames.Scene(images, features, z, strength)


def test_a_frame_has_four_panels_of_256_pixels() -> None:
    picture = np.asarray(frames.picture(small_scene(), 0, 1, "title"))
    assert picture.shape == (490, 1324, 3)
    panels = [picture[150 : 150 + 256, 60 + place * 316 : 60 + place * 316 + 256] for place in range(4)]
    assert panels[0][96, 10].tolist() == [255, 255, 255]
    assert panels[0][10, 10].tolist() == [0, 0, 0]
    colours = [np.asarray(frames._coloured(np.eye(4, dtype=bool)[f][:, None, None])) for f in range(4)]
    both = np.clip(colours[0].astype(int) + colours[2], 0, 255)[0, 0]
    assert np.abs(panels[1][96, 96].astype(int) - both).max() <= 1
    assert panels[2][160, 160].tolist() == colours[1][0, 0].tolist()
    assert panels[3][10, 10].tolist() == panels[3][250, 10].tolist()
    assert panels[3][96, 96].sum() > panels[3][10, 10].sum()


@pytest.mark.parametrize("form", ["png", "gif"])
def test_animations_hold_every_step_and_come_out_the_same(form: str) -> None:
    pictures = list(frames.frames(small_scene(), "title"))
    encoded = frames.encode(pictures, form, 10.0)
    assert encoded == frames.encode(list(frames.frames(small_scene(), "title")), form, 10.0)
    animation: Any = Image.open(io.BytesIO(encoded))
    assert (animation.size, animation.n_frames, animation.info["duration"]) == ((1324, 490), 2, 100)


def test_frames_show_stored_points(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run("-s", "evaluate.store_activity=true", "-s", "evaluate.line_interrupt=[2]", "-s", "evaluate.samples=2")
    assert results.array("activity/1/z").shape == (1, 2, 6, 4, 32, 32)
    output = Output(tmp_path / "out")
    frames.run(results, frames.Options(points=(1,), form="gif"), output)
    assert [path.name for path in output.paths] == ["frames_1.gif"]
    with pytest.raises(UserError, match="point 7 has no activity"):
        frames.run(results, frames.Options(points=(7,)), output)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(UserError, match="needs ffmpeg") as caught:
        frames.run(results, frames.Options(form="mp4"), output)
    assert "form=gif" in caught.value.hint


def test_stored_activity_is_that_of_the_points(run: Run) -> None:
    results = run("-s", "evaluate.store_activity=true", "-s", "evaluate.samples=3")
    z = results.array("activity/0/z", 0)[:, -1].reshape(3, -1)
    assert results.values("evaluation", "active_cells")[0, 0] == z.sum(1).mean()
    clean = results.array("baseline/0", 0)[:, -1].reshape(3, -1)
    assert results.values("evaluation", "accuracy")[0, 0] == pytest.approx((z == clean).mean())
    assert results.array("activity/0/features").sum() > 0


def test_live_overlay_is_black_where_nothing_is_active() -> None:
    from xfw_netfragments.live import _overlay

    active = np.zeros((4, 2, 2), bool)
    active[[1, 3], 0, 0] = True
    overlay = _overlay(active)
    assert overlay[1, 1].tolist() == [0, 0, 0]
    assert overlay[0, 0].sum() > 0


def test_pictures_of_a_run_stand_in_its_report(run: Run, tmp_path: Path) -> None:
    results = run("-s", "plot.live=true", "-s", "plot.last_only=true", "-s", "train.epochs=2")
    names = {path.name for path in (find_run(tmp_path, results.run).report_dir / "live").iterdir()}
    assert not any(name.startswith(("epoch0000", "epoch0001")) for name in names)
    assert "epoch0002_condition0_trial0_image0.png" in names


def test_figures_can_be_read(run: Run) -> None:
    """No legend lies over data, every entry has its line in sight, and no two lines look alike."""
    results = run("--trials", "2", "-s", "evaluate.noise=[0.05,0.2]", "-s", "evaluate.line_interrupt=[2,4]")
    experiment = load_experiment("netfragments")
    drawn = Drawn()
    for analyzer in all_analyzers(experiment.hooks.define_metrics(), experiment.hooks.analyze()).values():
        if analyzer.name in ("curves", "robustness", "support"):
            analyzer.run(results, analyzer.options() if analyzer.options else None, drawn)
    assert len(drawn.figures) == 8
    assert {name: problems for name, figure in drawn.figures.items() if (problems := problems_of(figure))} == {}
