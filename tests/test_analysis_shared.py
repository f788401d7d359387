"""The shared analyzers on a run made by hand, and the commands that call them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console
from xfw.analysis import compare, curves, figures, registry, samples, summary
from xfw.analysis.output import Output, safe_name
from xfw.cli import analyze as commands
from xfw.config.keys import key
from xfw.errors import UserError, WrongInput
from xfw.experiment import Analyzer, Metric
from xfw.store.results import Results, open_run
from xfw.testing.runs import finished_run

# In these runs best = 100 condition + 10 trial and correct = best + row.
BEST = Metric("best", "best score", "images", lambda results: results.array("best").astype(float))
CORRECT = Metric(
    "correct", "score", "images", lambda results: results.values("epoch", "correct").astype(float), series="epoch"
)
METRICS = [BEST, CORRECT]


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    """Two conditions with three trials each, paired by key."""
    with open_run(finished_run(tmp_path / "results", trials=3, sweep={"mode": ["none", "out_put"]})) as opened:
        yield opened


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Results]:
    """One condition with two trials."""
    with open_run(finished_run(tmp_path / "single")) as opened:
        yield opened


def output(tmp_path: Path, **options: Any) -> Output:
    return Output(tmp_path / "out", **options)


def test_summary_has_one_row_per_condition(results: Results) -> None:
    made = summary.table(results, [BEST], summary.Options())
    rows = [dict(zip([column.name for column in made.columns], row, strict=True)) for row in made.rows]
    assert [(row["mode"], row["n"], row["mean"], row["sd_ddof1"]) for row in rows] == [
        ("none", 3, 10.0, 10.0),
        ("out_put", 3, 110.0, 10.0),
    ]
    assert rows[0]["sem"] == pytest.approx(10 / math.sqrt(3))


def test_summary_states_the_divisor(results: Results) -> None:
    made = summary.table(results, [BEST], summary.Options(ddof=0))
    assert "divisor n;" in made.notes[0]
    assert made.columns[5].name == "sd_ddof0"
    assert made.rows[0][5] == pytest.approx(math.sqrt(200 / 3))


def test_summary_of_one_condition_names_the_preset(single: Results) -> None:
    assert summary.table(single, [BEST], summary.Options()).rows[0][1] == "quick"


def test_unknown_metric_names_the_nearest(results: Results, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="did you mean 'best'"):
        summary.analyse(results, summary.Options(metric=("bset",)), output(tmp_path), METRICS)


@pytest.mark.parametrize("labels", [[f"arch=[{n}*{n}], mode=dropout" for n in range(12)], ["a", "b"], ["x" * 60] * 7])
def test_the_legend_of_a_figure_lies_within_it(labels: list[str]) -> None:
    x, y = np.arange(3.0), np.zeros(3)
    with figures.styled():
        figure, axes = figures.new_figure(curves.WIDTH, 5.5)
        for label in labels:
            axes.plot(x, y, label=label)
        legend = figure.legend(loc="outside lower center", ncols=curves.legend_columns(labels))
        figure.canvas.draw()
        box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_curve_is_the_mean_over_the_trials(results: Results) -> None:
    first, second = curves.curves_of(results, CORRECT, curves.Options(band="sd"))
    assert first.label == "mode=none"
    assert first.x_E.tolist() == [1, 2, 3, 4]
    assert (second.mean_E - first.mean_E).tolist() == [100.0] * 4
    assert (first.high_E - first.mean_E).tolist() == [10.0] * 4
    assert first.n_E.tolist() == [3] * 4


@pytest.mark.parametrize(
    ("band", "half"), [("sem", 10 / math.sqrt(3)), ("range", 10.0), ("ci", 4.302653 * 10 / math.sqrt(3))]
)
def test_bands_mean_what_they_say(results: Results, band: str, half: float) -> None:
    curve = curves.curves_of(results, CORRECT, curves.Options(band=band))[0]
    assert (curve.high_E - curve.mean_E).tolist() == pytest.approx([half] * 4, rel=1e-6)


def test_curves_are_written_with_their_numbers(results: Results, tmp_path: Path) -> None:
    made = output(tmp_path)
    curves.analyse(results, curves.Options(), made, METRICS)
    names = sorted(path.name for path in made.paths)
    assert names == [f"curves-correct.{suffix}" for suffix in ("csv", "pdf", "png", "svg")]
    lines = (tmp_path / "out" / "curves-correct.csv").read_text().splitlines()
    assert lines[0] == "condition,epoch,n,mean,low,high"
    assert len(lines) == 1 + 2 * 4


def test_missing_rows_do_not_count(results: Results) -> None:
    def holes(opened: Results) -> np.ndarray:
        values = opened.values("epoch", "correct").astype(float)
        values[0, 2:] = np.nan
        values[:3, 3] = np.nan
        return values

    curve = curves.curves_of(results, attrs.evolve(CORRECT, compute=holes), curves.Options(band="range"))[0]
    assert curve.n_E.tolist() == [3, 3, 2, 0]
    assert np.isnan(curve.mean_E[3])
    assert np.isnan(curve.low_E[3])


def test_more_than_twelve_conditions_make_several_figures(tmp_path: Path) -> None:
    with open_run(finished_run(tmp_path / "many", trials=1, sweep={"lr": list(range(13))})) as many:
        made = output(tmp_path, formats=["svg"])
        curves.analyse(many, curves.Options(), made, [CORRECT])
    assert [path.name for path in made.paths] == ["curves-correct-1.svg", "curves-correct-2.svg"]


@pytest.mark.parametrize("analyse", [curves.analyse, summary.analyse, compare.analyse])
def test_analyzers_are_reproducible_byte_for_byte(results: Results, tmp_path: Path, analyse: Any) -> None:
    options = {curves.analyse: curves.Options, summary.analyse: summary.Options, compare.analyse: compare.Options}
    made = []
    for name in ("a", "b"):
        place = Output(tmp_path / name)
        analyse(results, options[analyse](), place, METRICS)
        made.append({path.name: path.read_bytes() for path in place.paths})
    assert made[0] == made[1]
    assert len(made[0]) >= 3


def test_conditions_with_equal_keys_are_compared_pair_by_pair(results: Results) -> None:
    (pair,) = compare.within_run(results, None)
    found = compare.difference(pair, BEST, 0.95)
    assert (found.kind, found.n_first, found.mean) == ("paired", 3, 100.0)


def test_conditions_with_other_keys_are_compared_by_welch(results: Results) -> None:
    (pair,) = compare.within_run(results, None)
    opened, group = pair.first
    other = compare.Pair((opened, attrs.evolve(group, keys=("x", "y", "z"))), pair.second)
    found = compare.difference(other, BEST, 0.95)
    assert (found.kind, found.mean, found.effect_name) == ("Welch", 100.0, "g")


def test_pairs_are_matched_by_trial_not_by_place(results: Results) -> None:
    (pair,) = compare.within_run(results, None)
    opened, group = pair.first
    turned = attrs.evolve(group, positions=group.positions[::-1], trials=group.trials[::-1], keys=group.keys[::-1])
    found = compare.difference(compare.Pair((opened, turned), pair.second), BEST, 0.95)
    assert (found.mean, found.low, found.high) == (100.0, 100.0, 100.0)


def test_baseline_is_named_by_its_label(results: Results) -> None:
    (pair,) = compare.within_run(results, "mode=out_put")
    assert pair.first[1].label == "mode=none"
    with pytest.raises(WrongInput, match=r"\$\.baseline"):
        compare.within_run(results, "mode=output")


def test_runs_are_compared_condition_by_condition(results: Results, tmp_path: Path) -> None:
    later = finished_run(tmp_path / "later", trials=2, sweep={"mode": ["out_put", "none"]})
    with open_run(later) as opened:
        pairs = compare.between_runs([results, opened], None)
    assert [(pair.first[1].label, pair.second[1].label) for pair in pairs] == [
        ("mode=out_put", "mode=out_put"),
        ("mode=none", "mode=none"),
    ]


def test_one_condition_has_nothing_to_compare(single: Results) -> None:
    assert compare.available(single) == "the run has one condition"


def test_records_stand_in_for_metrics_that_are_not_declared(single: Results) -> None:
    metrics = {metric.name: metric for metric in samples.generic_metrics(single)}
    assert metrics["best"].compute(single).tolist() == [0, 10]
    assert metrics["epoch/correct"].compute(single).tolist() == [3, 13]
    assert metrics["epoch/correct/series"].series == "epoch"
    assert "epoch/per_class" not in metrics


def test_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="--format"):
        output(tmp_path, formats=["pgn"])


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write") as raised:
        Output(tmp_path / "file" / "out").file("a.txt", b"")
    assert raised.value.exit_code == 2


def test_formats_narrow_what_is_written(results: Results, tmp_path: Path) -> None:
    made = output(tmp_path, formats=["csv", "json"])
    summary.analyse(results, summary.Options(), made, METRICS)
    assert [path.suffix for path in made.paths] == [".csv", ".json"]


@pytest.mark.parametrize(("name", "safe"), [("a/b c", "a_b_c"), ("[4*4,2*8].csv", "4x4_2x8_.csv"), ("../x", "._x")])
def test_file_names_stay_in_their_directory(name: str, safe: str) -> None:
    assert safe_name(name).lstrip(".").lstrip("_") == safe.lstrip(".").lstrip("_")
    assert "/" not in safe_name(name)


def test_printed_table_is_that_of_the_files(results: Results, tmp_path: Path) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    summary.analyse(results, summary.Options(), output(tmp_path, console=console), METRICS)
    assert "out_put" in console.export_text()


@attrs.frozen
class HelloOptions:
    """Options of an analyzer that needs no run."""

    name: str = key("you", help="whom to greet")


def hello(results: Results | None, options: HelloOptions, made: Output) -> None:
    made.file("hello.txt", options.name.encode())


HELLO = Analyzer("hello-there", "greet", hello, options=HelloOptions, needs_run=False)


@attrs.frozen
class CountOptions:
    """Options of an analyzer that works on a run or on a file."""

    numbers: str | None = key(None, replaces_run=True, help="file with numbers")
    place: str | None = key(None, help="where the sum goes")


def count(results: Results | None, options: CountOptions, made: Output) -> None:
    text = Path(options.numbers).read_text() if options.numbers else str(len(results.trial) if results else 0)
    made.document("count.txt", f"{text}\n", options.place)


COUNT = Analyzer("count", "count trials", count, options=CountOptions)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed experiment ``demo`` with the metrics of this module and an analyzer of its own."""
    hooks = SimpleNamespace(define_metrics=lambda: METRICS, analyze=lambda: [HELLO, COUNT])
    installed = SimpleNamespace(name="demo", kind="experiment")
    monkeypatch.setattr("xfw.plugins.registry.discover", lambda: [installed])
    monkeypatch.setattr("xfw.plugins.registry.load_experiment", lambda name: SimpleNamespace(name=name, hooks=hooks))


def call(command: Any, *arguments: str) -> str:
    return CliRunner().invoke(command, arguments, catch_exceptions=False).output


@pytest.mark.usefixtures("demo")
def test_analyze_makes_everything_that_the_run_has_data_for(tmp_path: Path) -> None:
    run = finished_run(tmp_path, trials=3)
    said = call(commands.analyze, "@last", "--results-dir", str(tmp_path))
    assert "left out: compare (the run has one condition)" in said
    assert f"wrote {run.report_dir / 'summary'}.{{md,csv,tex}}" in said
    assert (run.report_dir / "curves-correct.pdf").exists()


@pytest.mark.usefixtures("demo")
def test_analyze_prints_json(tmp_path: Path) -> None:
    finished_run(tmp_path, trials=3)
    said = json.loads(call(commands.analyze, "demo", "summary", "--json", "--results-dir", str(tmp_path)))
    assert said["schema"] == 1
    assert said["tables"]["summary"][0]["mean"] == 10.0
    assert any(path.endswith("summary.csv") for path in said["files"])


@pytest.mark.usefixtures("demo")
def test_options_reach_the_analyzers_that_have_them(tmp_path: Path) -> None:
    finished_run(tmp_path, trials=3)
    arguments = ("demo", "summary", "curves", "-s", "metric=best", "-s", "ddof=0", "--results-dir", str(tmp_path))
    with pytest.raises(WrongInput, match="unknown metric 'best'"):
        call(commands.analyze, *arguments)
    said = json.loads(call(commands.analyze, "demo", "summary", *arguments[3:], "--json"))
    assert "sd_ddof0" in said["tables"]["summary"][0]


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("ddoff=0", "did you mean 'ddof'"),
        ("ddof=2", r"\$\.ddof"),
        ("confidence=0.9,0.95", "expected one"),
        ("x", "KEY=VALUE"),
    ],
)
def test_wrong_option_is_named(tmp_path: Path, option: str, said: str) -> None:
    finished_run(tmp_path)
    with pytest.raises(WrongInput, match=said):
        call(commands.analyze, "demo", "summary", "-s", option, "--results-dir", str(tmp_path))


@pytest.mark.usefixtures("demo")
def test_unknown_analyzer_names_the_nearest(tmp_path: Path) -> None:
    finished_run(tmp_path)
    with pytest.raises(WrongInput, match="did you mean 'summary'"):
        call(commands.analyze, "demo", "sumary", "--results-dir", str(tmp_path))


@pytest.mark.usefixtures("demo")
def test_analyzer_without_a_run_works_with_the_name_of_the_experiment(tmp_path: Path) -> None:
    call(commands.analyze, "demo", "hello_there", "-s", "name=me", "--results-dir", str(tmp_path))
    assert (tmp_path / "demo" / "report" / "hello.txt").read_text() == "me"


@pytest.mark.usefixtures("demo")
def test_analyzer_without_a_run_leaves_the_newest_run_alone(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    call(commands.analyze, "demo", "hello_there", "--results-dir", str(tmp_path))
    assert (tmp_path / "demo" / "report" / "hello.txt").exists()
    said = call(commands.analyze, "demo", "--results-dir", str(tmp_path))
    assert "left out: hello-there (needs no run: xfw analyze demo hello-there)" in said
    assert not (run.report_dir / "hello.txt").exists()


@pytest.mark.usefixtures("demo")
def test_an_option_can_name_what_to_read_in_place_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "numbers").write_text("17")
    arguments = ("demo", "count", "-s", f"numbers={tmp_path / 'numbers'}", "--results-dir", str(tmp_path))
    call(commands.analyze, *arguments)
    finished_run(tmp_path, trials=3)
    call(commands.analyze, *arguments)
    assert (tmp_path / "demo" / "report" / "count.txt").read_text() == "17\n"


@pytest.mark.usefixtures("demo")
def test_documents_go_to_a_path_or_to_standard_output(tmp_path: Path) -> None:
    run = finished_run(tmp_path, trials=3)
    place = tmp_path / "new" / "a file.txt"
    said = call(commands.analyze, "demo", "count", "-s", f"place={place}", "--results-dir", str(tmp_path))
    assert (place.read_text(), said) == ("3\n", f"wrote {place}\n")
    assert call(commands.analyze, "demo", "count", "-s", "place=-", "--results-dir", str(tmp_path)) == "3\n"
    assert not (run.report_dir / "count.txt").exists()


@pytest.mark.usefixtures("demo")
def test_analyzer_that_needs_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="there is no run yet"):
        call(commands.analyze, "demo", "summary", "--results-dir", str(tmp_path))


@pytest.mark.usefixtures("demo")
def test_output_goes_where_it_is_sent(tmp_path: Path) -> None:
    finished_run(tmp_path)
    call(
        commands.analyze,
        "demo",
        "summary",
        "-o",
        str(tmp_path / "there"),
        "--format",
        "md",
        "--results-dir",
        str(tmp_path),
    )
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["summary.md"]


@pytest.mark.usefixtures("demo")
def test_compare_of_one_run_compares_its_conditions(tmp_path: Path) -> None:
    finished_run(tmp_path, trials=3, sweep={"lr": [0.1, 0.2]})
    said = json.loads(call(commands.compare, "@last", "--json", "--results-dir", str(tmp_path)))
    (row,) = said["tables"]["compare"]
    assert (row["condition"], row["baseline"], row["difference"]) == ("lr=0.2", "lr=0.1", 100.0)


@pytest.mark.usefixtures("demo")
def test_compare_of_two_runs_pairs_equal_keys(tmp_path: Path) -> None:
    first, second = (finished_run(tmp_path, trials=3) for _ in range(2))
    said = json.loads(call(commands.compare, first.id, second.id, "--json", "--results-dir", str(tmp_path)))
    (row,) = said["tables"]["compare"]
    assert (row["test"], row["difference"]) == ("paired", 0.0)
    assert row["condition"].startswith(second.id)


def test_experiments_own_analyzer_replaces_a_shared_one() -> None:
    own = Analyzer("summary", "mine", hello)
    assert registry.all_analyzers(METRICS, [own])["summary"] is own
