"""The analyzers on published files and on runs (acceptance tests A1, A5 to A8; section 10)."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from xfw.analysis.output import Output
from xfw.cli.main import invoke
from xfw.store.results import Results
from xfw.testing.figures import problems_of
from xfw_neuronal_decay import published as files
from xfw_neuronal_decay.analysis import plots, report
from xfw_neuronal_decay.analysis.figures import AVERAGE, PLOTS, Plot, scientific
from xfw_neuronal_decay.quantities import METRICS
from xfw_neuronal_decay.sample import Parameters, Study, from_results, select

Run = Callable[..., Results]

TABLE = {
    1: [
        "97.5911 ± 0.4692",
        "97.6562 ± 0.2128",
        "97.6671 ± 0.2730",
        "97.6725 ± 0.2689",
        "97.6020 ± 0.1251",
        "11.8327 ± 1.7071",
        "16.0265 ± 1.2089",
        "84.6667 ± 54.1695 (3)",
        "70.0000 ± 19.9249 (3)",
    ],
    3: [
        "97.6400 ± 0.5378",
        "37.4837 ± 6.6597",
        "38.6068 ± 2.4527",
        "67.5700 ± 3.4883",
        "57.3423 ± 0.5699",
        "64.8600 ± 5.8431",
        "8.2086 ± 6.8614",
        "— (0)",
        "27.5000 ± 9.1924 (2)",
    ],
    4: [
        "97.7376 ± 0.5488",
        "97.3633 ± 0.2128",
        "97.3524 ± 0.1907",
        "97.3226 ± 0.1492",
        "97.0269 ± 0.0217",
        "6.5104 ± 0.4431",
        "5.9570 ± 1.4002",
        "59.3333 ± 35.0048 (3)",
        "62.6667 ± 15.5671 (3)",
    ],
    5: [
        "98.2422 ± 0.0488",
        "98.3398 ± 0.4809",
        "98.1554 ± 0.3025",
        "98.1445 ± 0.4709",
        "97.8154 ± 0.2227",
        "10.2376 ± 0.5488",
        "11.9249 ± 1.2056",
        "99.6667 ± 12.6623 (3)",
        "92.0000 ± 7.0711 (2)",
    ],
    7: [
        "96.3053 ± 0.1128",
        "96.4844 ± 0.4257",
        "96.7990 ± 0.2631",
        "96.0612 ± 0.2830",
        "96.3686 ± 0.2005",
        "8.4798 ± 0.4095",
        "12.1528 ± 1.0275",
        "268.3333 ± 40.0167 (3)",
        "280.6667 ± 127.5944 (3)",
    ],
    9: [
        "97.0215 ± 0.6385",
        "96.6960 ± 0.3916",
        "97.0378 ± 0.3960",
        "96.4111 ± 0.3000",
        "96.6254 ± 0.1046",
        "16.9271 ± 2.1953",
        "20.7845 ± 4.7445",
        "84.6667 ± 30.9246 (3)",
        "71.6667 ± 17.6163 (3)",
    ],
    11: [
        "97.9004 ± 0.3906",
        "97.7376 ± 0.2983",
        "97.6997 ± 0.2486",
        "97.7132 ± 0.1472",
        "97.7177 ± 0.2485",
        "13.1673 ± 0.7664",
        "16.7589 ± 1.9358",
        "89.3333 ± 35.7258 (3)",
        "100.3333 ± 45.0037 (3)",
    ],
    13: [
        "97.7539 ± 0.5503",
        "98.0143 ± 0.1410",
        "97.7865 ± 0.0000",
        "97.5342 ± 0.2197",
        "97.6743 ± 0.1234",
        "11.6374 ± 0.9485",
        "16.6233 ± 0.3839",
        "95.6667 ± 56.3057 (3)",
        "109.6667 ± 18.5023 (3)",
    ],
}
"""Over the three published seeds (spec section 8). Experiment 3, average at S2: the exact SD is 3.48825040."""


def analyze(capsys: pytest.CaptureFixture[str], place: Path, *arguments: str, code: int = 0) -> str:
    """Run ``xfw analyze`` and return what it printed, the error stream included."""
    directories = ["--results-dir", str(place / "results"), "-o", str(place / "out")]
    assert invoke(["analyze", *arguments, *directories]) == code
    shown = capsys.readouterr()
    return shown.out + shown.err


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A folder of published files that a test may change."""
    target = tmp_path / "files"
    target.mkdir()
    for path in published.glob("results_*.json.gz"):
        (target / path.name).write_bytes(path.read_bytes())
    return target


def changed(folder: Path, seed: int, change: Callable[[dict[str, Any]], None]) -> Path:
    """Rewrite one published file after a change."""
    path = folder / f"results_{seed}.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    change(content)
    path.unlink()
    plain = folder / f"results_{seed}.json"
    plain.write_text(json.dumps(content))
    return plain


# --- the published table ---------------------------------------------------------------------------------


def test_the_three_published_seeds_give_the_published_table(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    shown = analyze(capsys, tmp_path, "neuronal_decay", "metrics", "-s", f"published={published}")
    assert time.monotonic() - started < 5.0
    rows: dict[int, list[str]] = {}
    for name, count in (("accuracies", 5), ("gaps", 4)):
        lines = (tmp_path / "out" / f"{name}.md").read_text().splitlines()
        for line in lines[4:]:
            if line.startswith("|"):
                cells = [cell.strip() for cell in line.strip("|").split("|")]
                rows.setdefault(int(cells[0]), []).extend(cells[2 : 2 + count])
    for number, expected in TABLE.items():
        assert rows[number] == expected, number
    assert "01  [ 97.591  97.656  97.667]  [  0.469   0.213   0.273]" in shown
    assert "03  [      —   5.500]  [      —   1.838]  [3 1]" in shown


def test_standard_errors_on_request(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("neuronal_decay", "metrics", "-s", f"published={published}", "-s", "numbers=[1]", "-s", "sem=true")
    shown = analyze(capsys, tmp_path, *arguments)
    assert "standard errors of the mean" in shown
    assert f"97.5911 ± {0.46922 / 3**0.5:.4f}"[:16] in shown
    assert "\n02 " not in shown


def test_chosen_seeds_are_reported(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "neuronal_decay",
        "metrics",
        "-s",
        f"published={published}",
        "-s",
        "numbers=[4]",
        "-s",
        "trials=[9782]",
    )
    shown = analyze(capsys, tmp_path, *arguments)
    assert "n = 1" in shown
    assert "nan" not in shown.lower()
    assert "±" not in (tmp_path / "out" / "gaps.md").read_text().split("\n\n")[1]


def test_metrics_of_a_run_are_those_of_the_report(run: Run) -> None:
    results = run("number=1,4", "n_neurons=4", options=("--trials", "3"))
    study = from_results(results)
    for metric in METRICS:
        if metric.series:
            continue
        values = metric.compute(results)
        for place, sample in enumerate(study.samples):
            own = report._moments_of(sample).get(metric.name)
            if own is not None:
                assert report.moments(values[3 * place : 3 * place + 3]) == pytest.approx(own, nan_ok=True)
            else:
                assert np.isnan(values).all()


def test_accuracies_are_exact_percentages_of_counts(run: Run) -> None:
    results = run("number=4", "eval_mode=subset", "test_size=100", "batch_size=32")
    sample = from_results(results).samples[0]
    correct = sample.accuracies * sample.tested_RGK / 100.0
    there = np.isfinite(correct)
    assert there.sum() == 12 * (3 + 2 + 1)
    assert np.abs(correct[there] - np.rint(correct[there])).max() < 1e-9


def test_a_run_of_one_task_has_no_gaps(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("number=1", "rotations=[0]", options=("--trials", "2"))
    output = Output(tmp_path / "out")
    results = run("number=1", "rotations=[0]")
    capsys.readouterr()
    report.run(results, report.Options(), output)
    assert "gaps" not in output.tables
    lines = report.blocks([(s, report._moments_of(s)) for s in from_results(results).samples], sem=False)
    assert lines.count("01  not defined with one task") == 2


def test_conditions_of_equal_number_are_kept_apart(run: Run, tmp_path: Path) -> None:
    results = run("number=4", "default_lambda=0.001,0.01", options=("--trials", "2"))
    study = from_results(results)
    assert [sample.label for sample in study.samples] == [
        "04, default_lambda=0.001, decay_lambda=0.001",
        "04, default_lambda=0.01, decay_lambda=0.01",
    ]
    with pytest.raises(Exception, match="experiment 4 has several conditions"):
        plots.run(results, plots.Options(), Output(tmp_path))


def test_thinned_records_are_refused_unless_allowed(run: Run, tmp_path: Path) -> None:
    results = run("number=1", "eval_every=4")
    with pytest.raises(Exception, match="eval_every=4, but these metrics need every record"):
        report.run(results, report.Options(), Output(tmp_path))
    report.run(results, report.Options(allow_coarse=True), Output(tmp_path))
    scalar = [metric for metric in METRICS if not metric.series]
    assert all(np.isnan(metric.compute(results)).all() for metric in scalar)


# --- published files -------------------------------------------------------------------------------------


def test_published_files_come_back_exactly(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    analyze(capsys, tmp_path, "neuronal_decay", "published_json", "-s", f"published={published}")
    for path in published.glob("results_*.json.gz"):
        written = json.loads((tmp_path / "out" / path.name.removesuffix(".gz")).read_text())
        assert written == json.loads(gzip.decompress(path.read_bytes()))


def test_files_written_from_a_run_give_its_numbers_back(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run("number=1,4", "eval_mode=subset", "test_size=100", "batch_size=32", options=("--trials", "2"))
    assert (
        invoke(["analyze", results.run, "published_json", "--results-dir", str(tmp_path), "-o", str(tmp_path / "out")])
        == 0
    )
    back, study = files.read_folder(tmp_path / "out"), from_results(results)
    assert [sample.trials for sample in back.samples] == [(0, 1), (0, 1)]
    for found, expected in zip(back.samples, study.samples, strict=True):
        assert np.array_equal(found.correct_RGK, expected.correct_RGK)
        assert np.array_equal(found.tested_RGK, expected.tested_RGK)
        assert found.parameters == expected.parameters


def test_seeds_with_different_parameters_are_not_averaged(folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["4"]["parameters"]["decay_lambda"] = 1e-3

    path = changed(folder, 9782, change)
    with pytest.raises(Exception, match=f"experiment 4: decay_lambda is .* '{path}'|experiment 4: decay_lambda is"):
        files.read_folder(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["3"].pop("performances"), "experiment 3: key 'performances' is missing"),
        (lambda c: c["2"]["parameters"].pop("rotations"), "experiment 2: key 'rotations' is missing"),
        (lambda c: c["5"]["performances"][1].pop(), "experiment 5: 'performances' has series of lengths"),
        (lambda c: c["1"].update(switch_indices=[500, 1000]), "experiment 1: 'switch_indices' is"),
        (lambda c: c["1"]["performances"][0].__setitem__(0, 50.0001), "experiment 1: 'performances' of task 1 are no"),
        (lambda c: c["6"]["performances"].__setitem__(2, "abc"), "experiment 6: 'performances' has series of lengths"),
    ],
)
def test_wrong_published_files_are_named(folder: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    path = changed(folder, 290353, change)
    with pytest.raises(Exception, match=message) as caught:
        files.read_folder(folder)
    assert str(path) in str(caught.value)


def test_what_is_no_json_is_named(folder: Path) -> None:
    (folder / "results_1.json").write_text("{")
    with pytest.raises(Exception, match=r"results_1\.json' is no JSON file of results"):
        files.read_folder(folder)


def test_an_empty_or_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no file named results_SEED.json" in analyze(
        capsys, tmp_path, "neuronal_decay", "metrics", "-s", f"published={tmp_path}", code=2
    )
    shown = analyze(capsys, tmp_path, "neuronal_decay", "metrics", "-s", "published=nowhere", code=2)
    assert "no folder 'nowhere'" in shown


def test_without_a_run_the_command_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = analyze(capsys, tmp_path, "neuronal_decay", "metrics", code=2)
    assert "xfw run neuronal_decay" in shown


def test_unknown_trials_and_experiments_are_named(published: Path) -> None:
    study = files.read_folder(published)
    with pytest.raises(Exception, match="no results for trial 3; stored: 9782, 290353, 777330"):
        select(study, (3,), None)
    with pytest.raises(Exception, match="no results for experiment 15; stored: 1, 2, 3"):
        select(study, None, (15,))


# --- figures ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(published: Path) -> Study:
    return files.read_folder(published)


def test_all_ten_figures_are_written_as_pdf(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    analyze(capsys, tmp_path, "neuronal_decay", "plots", "-s", f"published={published}")
    pairs = ["1, 4", "7, 8", "9, 10", "11, 12", "13, 14", "1, 5, 4, 6", "1, 2, 3"]
    expected = {f"experiments_[{pair}]_task_1.pdf" for pair in pairs}
    expected |= {"experiments_[1, 4]_avg.pdf", "experiment_1_all_tasks.pdf", "experiment_4_all_tasks.pdf"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert content.startswith(b"%PDF-")
        assert content.rstrip().endswith(b"%%EOF")
        assert len(content) > 10_000


def figure(study: Study, name: str, tmp_path: Path) -> Any:
    plot = next(each for each in PLOTS if each.name == name)
    with plots.styled():
        return plot, plots.draw(plot, {sample.number: sample for sample in study.samples}, Output(tmp_path))


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_curves_and_bands_are_the_aggregated_values(study: Study, plot: Any, tmp_path: Path) -> None:
    _, drawn = figure(study, plot.name, tmp_path)
    axes = drawn.axes[0]
    samples = {sample.number: sample for sample in study.samples}
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    assert len(lines) == len(plot.curves)
    for curve, line in zip(plot.curves, lines, strict=True):
        accuracy = samples[curve.number].accuracies
        first = 0 if curve.task == AVERAGE else 500 * (curve.task - 1)
        if curve.task == AVERAGE:
            expected = np.nanmean(accuracy.mean(0), axis=1)
        else:
            expected = accuracy.mean(0)[first:, curve.task - 1]
        assert line.get_xdata().tolist() == list(range(first, 1500))
        assert np.allclose(line.get_ydata(), expected, rtol=0, atol=1e-12)
        assert mpl.colors.to_hex(line.get_color()) == curve.colour
        assert line.get_linewidth() == plot.width
    assert len(axes.collections) == (len(plot.curves) if plot.bands else 0)
    assert len(axes.child_axes) == (2 if plot.zoom else 0)
    assert axes.get_ylim() == (plot.low, 100.0)
    assert axes.get_xticks().tolist() == [0, 500, 1000, 1500]
    assert [text.get_text() for text in axes.get_legend().get_texts()].count("Task switch") == 1


def test_bands_are_one_standard_deviation_wide(study: Study, tmp_path: Path) -> None:
    _, drawn = figure(study, "experiments_[1, 4]_task_1", tmp_path)
    accuracy = next(sample for sample in study.samples if sample.number == 1).accuracies[:, :, 0]
    outline = drawn.axes[0].collections[0].get_paths()[0].vertices
    at = outline[outline[:, 0] == 700][:, 1]
    mean, sd = accuracy[:, 700].mean(), accuracy[:, 700].std(ddof=1)
    assert sorted({round(float(value), 9) for value in at}) == [round(mean - sd, 9), round(mean + sd, 9)]


def test_insets_show_the_windows_around_the_switches(study: Study, tmp_path: Path) -> None:
    _, drawn = figure(study, "experiments_[9, 10]_task_1", tmp_path)
    for inset, switch, left in zip(drawn.axes[0].child_axes, (500, 1000), (0.173, 0.568), strict=True):
        assert inset.get_xlim() == (switch - 10, switch + 100)
        assert inset.get_ylim() == (80.0, 100.0)
        assert inset.get_xticks().tolist() == [switch - 10, switch + 100]
        drawn.canvas.draw()
        main, own = drawn.axes[0].get_position(), inset.get_position()
        assert (own.x0 - main.x0) / main.width == pytest.approx(left, abs=1e-6)
        assert (own.y0 - main.y0) / main.height == pytest.approx(1.08, abs=1e-6)
        assert own.width / main.width == pytest.approx(0.293, abs=1e-6)


def test_legends_of_strengths_come_from_the_recorded_parameters(study: Study, tmp_path: Path) -> None:
    _, drawn = figure(study, "experiments_[1, 5, 4, 6]_task_1", tmp_path)
    legends = [text.get_text() for text in drawn.axes[0].get_legend().get_texts()]
    assert legends[:4] == [
        "Baseline",
        r"$\lambda = 1\cdot 10^{-7}$",
        r"$\lambda = 1\cdot 10^{-5}$",
        r"$\lambda = 5\cdot 10^{-5}$",
    ]
    assert scientific(2.5e-4) == r"2.5\cdot 10^{-4}"


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
def test_figures_can_be_read(study: Study, tmp_path: Path, plot: Plot) -> None:
    """No legend lies over data, every entry has its line in sight, and no two lines look alike."""
    if not {*plot.numbers} <= {sample.number for sample in study.samples}:
        pytest.skip(f"the published files lack an experiment of {plot.numbers}")
    _, drawn = figure(study, plot.name, tmp_path)
    assert problems_of(drawn) == []


def test_one_seed_has_no_bands(study: Study, tmp_path: Path) -> None:
    _, drawn = figure(select(study, (9782,), None), "experiments_[1, 4]_task_1", tmp_path)
    assert len(drawn.axes[0].collections) == 0


def test_figures_with_missing_experiments_are_left_out_with_one_warning_each(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = analyze(
        capsys, tmp_path, "neuronal_decay", "plots", "-s", f"published={published}", "-s", "numbers=[2,3,4]"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["experiment_4_all_tasks.pdf"]
    assert shown.count("warning:") == 9
    assert "warning: 'experiments_[1, 4]_task_1' is left out: no results for experiment 1" in shown
    assert "'experiments_[7, 8]_task_1' is left out: no results for experiments 7, 8" in shown


def test_figures_come_out_byte_for_byte_the_same(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = []
    for _ in range(2):
        arguments = ("-s", f"published={published}", "-s", "numbers=[4]", "-s", "format=svg")
        analyze(capsys, tmp_path, "neuronal_decay", "plots", *arguments)
        written.append((tmp_path / "out" / "experiment_4_all_tasks.svg").read_bytes())
    assert written[0] == written[1]


def test_latex_that_is_not_there_is_named(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots.shutil, "which", lambda name: None)
    arguments = ("neuronal_decay", "plots", "-s", f"published={published}", "-s", "usetex=true")
    assert "there is no program 'latex'" in analyze(capsys, tmp_path, *arguments, code=2)


def test_axes_of_other_data_reach_below_every_dip(run: Run, tmp_path: Path) -> None:
    results = run("number=1,4", options=("--trials", "2"))
    samples = {sample.number: sample for sample in from_results(results).samples}
    with plots.styled():
        drawn = plots.draw(PLOTS[0], samples, Output(tmp_path))
    dips = [plots.line_of(sample, 1).mean_X[12:].min() for sample in samples.values()]
    assert drawn.axes[0].get_ylim()[0] <= min(dips)
    assert drawn.axes[0].get_xticks().tolist() == [0, 12, 24, 36]


def test_more_than_two_switches_have_no_insets(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run("number=1,4", "rotations=[0,40,80,120]", "iterations_per_task=2")
    samples = {sample.number: sample for sample in from_results(results).samples}
    with plots.styled():
        drawn = plots.draw(PLOTS[0], samples, Output(tmp_path))
    assert len(drawn.axes[0].child_axes) == 0
    assert "3 switches do not fit side by side" in capsys.readouterr().err


def test_parameters_know_their_switches() -> None:
    given = Parameters(1, (0.0, 1.0), 0.1, 7, 0, 3, 0.0, True, 10, 5)
    assert given.switches == [7, 14]
    assert files.tested_images(given, 2) == 5
