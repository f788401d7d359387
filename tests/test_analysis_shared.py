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
from xfw.analysis import curves, exact, figures, shared
from xfw.analysis.conditions import Values, generic_metrics, groups_of
from xfw.analysis.output import Output, safe_name
from xfw.analysis.tables import Table
from xfw.cli import analyze as commands
from xfw.config.keys import key
from xfw.errors import UserError, WrongInput
from xfw.experiment import Analyzer, Metric
from xfw.store.results import Results, open_run
from xfw.testing.figures import problems_of
from xfw.testing.runs import finished_run

# In these runs best = 100 condition + 10 trial and correct = best + row.
BEST = Metric("best", "best score", "1", lambda results: results.array("best").astype(float))
CORRECT = Metric(
    "correct", "score", "1", lambda results: results.values("epoch", "correct").astype(float), series="epoch"
)
METRICS = [BEST, CORRECT]


def values(*metrics: Metric) -> Values:
    return Values(metrics or METRICS)


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


class Kept(Output):
    """An output that writes nothing and keeps the tables and figures that it gets."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.made: dict[str, Any] = {}
        self.said: list[str] = []

    def table(self, name: str, table: Table, **options: Any) -> None:
        self.made[name] = table

    def figure(self, name: str, figure: Any) -> None:
        self.made[name] = figure

    def data(self, name: str, table: Table) -> None:
        self.made[f"{name}.csv"] = table

    def say(self, text: str) -> None:
        self.said.append(text)


def summary(results: Results, *metrics: Metric, **options: Any) -> Table:
    kept = Kept()
    shared.summarise(results, shared.Summarise(**options), kept, values(*(metrics or (BEST,))))
    table: Table = kept.made["summary"]
    assert not kept.failures
    return table


def compared(results: Results, *metrics: Metric, **options: Any) -> Table:
    kept = Kept()
    shared.compare(results, shared.Compare(**options), kept, values(*(metrics or (BEST,))))
    table: Table = kept.made["compare"]
    return table


def curves_of(results: Results, metric: Metric = CORRECT, **options: Any) -> list[curves.Curve]:
    return curves.curves_of(results, metric, groups_of(results), curves.Options(**options), values(metric))


def pair(results: Results) -> tuple[Any, Any]:
    first, second = groups_of(results)
    return (results, second), (results, first)


def test_summary_has_one_row_per_condition(results: Results) -> None:
    made = summary(results)
    rows = [dict(zip([column.name for column in made.columns], row, strict=True)) for row in made.rows]
    assert [(row["mode"], row["n"], row["mean"], row["sd_ddof1"]) for row in rows] == [
        ("none", 3, 10.0, 10.0),
        ("out_put", 3, 110.0, 10.0),
    ]
    assert rows[0]["sem"] == pytest.approx(10 / math.sqrt(3))


def test_summary_states_the_divisor(results: Results) -> None:
    made = summary(results, ddof=0)
    assert "divisor n;" in made.notes[0]
    assert made.columns[5].name == "sd_ddof0"
    assert made.rows[0][5] == pytest.approx(math.sqrt(200 / 3))


def test_summary_of_one_condition_names_the_preset(single: Results) -> None:
    assert summary(single).rows[0][1] == "quick"


def test_unknown_metric_names_the_nearest(results: Results, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="did you mean 'best'"):
        shared.summarise(results, shared.Summarise(metric=("bset",)), output(tmp_path), values())


@pytest.mark.parametrize("labels", [[f"arch=[{n}*{n}], mode=dropout" for n in range(12)], ["a", "b"], ["x" * 60] * 7])
def test_the_legend_of_a_figure_lies_within_it(labels: list[str]) -> None:
    with figures.styled():
        figure, axes = figures.new_figure(6.4, 5.5)
        handles = [axes.plot([0, 1, 2], [0, 0, 0], label=label)[0] for label in labels]
        figures.legend_below(figure, handles, 6.4)
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_curve_is_the_mean_over_the_trials(results: Results) -> None:
    first, second = curves_of(results, band="sd")
    assert first.group.label == "mode=none"
    assert first.x_E.tolist() == [1, 2, 3, 4]
    assert (second.mean_E - first.mean_E).tolist() == [100.0] * 4
    assert (first.high_E - first.mean_E).tolist() == [10.0] * 4
    assert first.n_E.tolist() == [3] * 4


@pytest.mark.parametrize(
    ("band", "half"), [("sem", 10 / math.sqrt(3)), ("range", 10.0), ("ci", 4.302653 * 10 / math.sqrt(3))]
)
def test_bands_mean_what_they_say(results: Results, band: str, half: float) -> None:
    curve = curves_of(results, band=band)[0]
    assert (curve.high_E - curve.mean_E).tolist() == pytest.approx([half] * 4, rel=1e-6)


def test_curves_are_written_with_their_numbers(results: Results, tmp_path: Path) -> None:
    made = output(tmp_path)
    curves.analyse(results, curves.Options(), made, values())
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

    curve = curves_of(results, attrs.evolve(CORRECT, compute=holes), band="range")[0]
    assert curve.n_E.tolist() == [3, 3, 2, 0]
    assert np.isnan(curve.mean_E[3])
    assert np.isnan(curve.low_E[3])


def test_many_conditions_of_a_number_make_one_figure(tmp_path: Path) -> None:
    with open_run(finished_run(tmp_path / "many", trials=1, sweep={"lr": list(range(13))})) as many:
        made = output(tmp_path, formats=["svg"])
        curves.analyse(many, curves.Options(), made, values())
    assert [path.name for path in made.paths] == ["curves-correct.svg"]


@pytest.mark.parametrize("analyse", [curves.analyse, shared.summarise, shared.compare])
def test_analyzers_are_reproducible_byte_for_byte(results: Results, tmp_path: Path, analyse: Any) -> None:
    options = {curves.analyse: curves.Options, shared.summarise: shared.Summarise, shared.compare: shared.Compare}
    made = []
    for name in ("a", "b"):
        place = Output(tmp_path / name)
        analyse(results, options[analyse](), place, values())
        made.append({path.name: path.read_bytes() for path in place.paths})
    assert made[0] == made[1]
    assert len(made[0]) >= 3


def test_conditions_with_equal_keys_are_compared_pair_by_pair(results: Results) -> None:
    found = shared.difference(*pair(results), BEST, 0.95, values())
    assert (found.kind, found.n_first, found.mean) == ("paired", 3, 100.0)


def test_conditions_with_other_keys_are_compared_by_welch(results: Results) -> None:
    (opened, group), second = pair(results)
    other = attrs.evolve(group, keys=("x", "y", "z"))
    found = shared.difference((opened, other), second, BEST, 0.95, values())
    assert (found.kind, found.mean, found.effect_name) == ("Welch", 100.0, "g")


def test_pairs_are_matched_by_trial_not_by_place(results: Results) -> None:
    (opened, group), second = pair(results)
    turned = attrs.evolve(group, positions=group.positions[::-1], trials=group.trials[::-1], keys=group.keys[::-1])
    found = shared.difference((opened, turned), second, BEST, 0.95, values())
    assert (found.mean, found.low, found.high) == (100.0, 100.0, 100.0)


def test_baseline_is_named_by_its_label(results: Results) -> None:
    (row,) = compared(results, baseline="mode=out_put").rows
    assert row[1:3] == ("mode=none", "mode=out_put")
    with pytest.raises(WrongInput, match=r"\$\.baseline"):
        compared(results, baseline="mode=output")


def test_runs_are_compared_condition_by_condition(results: Results, tmp_path: Path) -> None:
    later = finished_run(tmp_path / "later", trials=2, sweep={"mode": ["out_put", "none"]})
    with open_run(later) as opened:
        kept = Kept()
        shared.compare_runs([results, opened], shared.Compare(), kept, values(BEST))
    assert [(row[1].partition(": ")[2], row[2].partition(": ")[2]) for row in kept.made["compare"].rows] == [
        ("mode=out_put", "mode=out_put"),
        ("mode=none", "mode=none"),
    ]


def test_one_condition_has_nothing_to_compare(single: Results) -> None:
    analyzers = shared.all_analyzers(METRICS, None)
    assert analyzers["compare"].available(single) == "the run has one condition"


def test_records_stand_in_for_metrics_that_are_not_declared(single: Results) -> None:
    metrics = {metric.name: metric for metric in generic_metrics(single)}
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
    shared.summarise(results, shared.Summarise(), made, values())
    assert [path.suffix for path in made.paths] == [".csv", ".json"]


@pytest.mark.parametrize(("name", "safe"), [("a/b c", "a_b_c"), ("[4*4,2*8].csv", "4x4_2x8_.csv"), ("../x", "._x")])
def test_file_names_stay_in_their_directory(name: str, safe: str) -> None:
    assert safe_name(name).lstrip(".").lstrip("_") == safe.lstrip(".").lstrip("_")
    assert "/" not in safe_name(name)


def test_printed_table_is_that_of_the_files(results: Results, tmp_path: Path) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    shared.summarise(results, shared.Summarise(), output(tmp_path, console=console), values())
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
    arguments = ("-s", "metric=best", "-s", "ddof=0", "--results-dir", str(tmp_path))
    done = CliRunner().invoke(commands.analyze, ("demo", "summary", "curves", *arguments), standalone_mode=False)
    assert done.return_value == 1
    assert "error: curves failed: $.metric: unknown metric 'best'" in done.stderr
    assert "summary.{md,csv,tex}" in done.stdout
    said = json.loads(call(commands.analyze, "demo", "summary", *arguments, "--json"))
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
    assert shared.all_analyzers(METRICS, [own])["summary"] is own


# --- what users type, and what goes wrong ----------------------------------------------------------------------


def texts_of(figure: Any) -> list[str]:
    """Return the texts of a rendered figure, as they are drawn; mathematics would raise or be set in another font."""
    from matplotlib.text import Text

    figure.canvas.draw()
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert not any(text.get_parse_math() and "$" in text.get_text() for text in shown if "mathdefault" not in str(text))
    return [text.get_text() for text in shown]


@pytest.mark.parametrize("label", ["$HOME/a_$USER", r"\\frac{a}{b} $x^{$", "100 % & #1_2", "a\nb", "ü λ <b>"])
def test_texts_of_users_are_drawn_as_written(tmp_path: Path, label: str) -> None:
    with open_run(finished_run(tmp_path, trials=2, sweep={"label": [label, "b"]})) as opened:
        kept = Kept()
        curves.analyse(opened, curves.Options(), kept, values())
        assert not kept.failures
        assert f"label={label}" in texts_of(kept.made["curves-correct"])
        for form in figures.FORMATS:
            figures.render(kept.made["curves-correct"], form)


def test_a_logarithmic_axis_still_has_powers_of_ten(results: Results) -> None:
    kept = Kept()
    curves.analyse(results, curves.Options(log=True), kept, values())
    figure = kept.made["curves-correct"]
    figures.render(figure, "svg")
    ticks = [tick.label1 for tick in figure.axes[0].xaxis.get_major_ticks()]
    assert any(tick.get_text() for tick in ticks)
    assert all(tick.get_parse_math() for tick in ticks)


def broken(results: Results) -> np.ndarray:
    raise ZeroDivisionError("a plugin's mistake")


def test_a_metric_that_fails_takes_no_other_with_it(results: Results) -> None:
    kept = Kept()
    wrong = attrs.evolve(BEST, name="wrong", compute=broken)
    shape = attrs.evolve(BEST, name="shape", compute=lambda opened: np.zeros(2))
    shared.summarise(results, shared.Summarise(), kept, values(wrong, shape, BEST))
    assert [row[0] for row in kept.made["summary"].rows] == ["best", "best"]
    assert [name for name, _ in kept.failures] == ["summary of wrong", "summary of shape"]
    assert "returned the shape (2,), expected (6,)" in str(kept.failures[1][1])


def test_a_metric_is_computed_once_whoever_asks(results: Results, tmp_path: Path) -> None:
    asked = []

    def counted(opened: Results) -> np.ndarray:
        asked.append(opened)
        return opened.array("best").astype(float)

    for analyzer in shared.all_analyzers([attrs.evolve(BEST, compute=counted), CORRECT], None).values():
        assert analyzer.available(results) == ""
        assert analyzer.options is not None
        analyzer.run(results, analyzer.options(), output(tmp_path))
    assert asked == [results]


def test_values_that_are_not_finite_are_noted(results: Results) -> None:
    def holes(opened: Results) -> np.ndarray:
        found = opened.array("best").astype(float)
        found[0], found[4] = np.nan, np.inf
        return found

    metric = attrs.evolve(BEST, compute=holes)
    assert any("1 of 3 values of best (mode=none)" in note for note in summary(results, metric).notes)
    assert any("2 in best (mode=out_put)" in note for note in compared(results, metric).notes)
    assert not any("finite" in note for note in (*summary(results).notes, *compared(results).notes))


def test_missing_rows_of_curves_are_noted_but_not_rows_that_no_trial_has(results: Results) -> None:
    def computed(opened: Results, hole: bool) -> np.ndarray:
        found = opened.values("epoch", "correct").astype(float)
        found[:, 0] = np.nan  # before the task begins
        found[2, 3] = np.nan if hole else found[2, 3]
        found[1, 2] = np.nan if hole else found[1, 2]
        return found

    for hole in (False, True):
        kept = Kept()
        metric = attrs.evolve(CORRECT, compute=lambda opened, hole=hole: computed(opened, hole))
        curves.analyse(results, curves.Options(), kept, values(metric))
        assert len(kept.said) == (1 if hole else 0)
    assert kept.said[0].startswith("curves-correct: 1 of 3 trials of mode=none")


def test_numbers_in_the_summary_follow_the_spread(results: Results) -> None:
    small = attrs.evolve(BEST, compute=lambda opened: 3e-4 + 1e-6 * opened.array("best"))
    cells = summary(results, small).cells("–")[0]
    assert cells[4:6] == ["0.000310", "0.000010"]


def test_axes_follow_the_curves_and_wide_intervals_are_cut(single: Results) -> None:
    wide = attrs.evolve(CORRECT, compute=lambda opened: np.array([[90.0, 91, 92, 93], [91.0, 95, 94, 90]]))
    (curve,) = curves_of(single, wide)
    low, high, cut = curves.limits([curve])
    assert cut
    assert curve.high_E.max() > 110
    assert (80 < low < 90, 95 < high < 100) == (True, True)
    kept = Kept()
    curves.analyse(single, curves.Options(), kept, values(wide))
    figure = kept.made["curves-correct"]
    assert "bands are cut at the axis" in figure.get_suptitle()
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() < 1]
    assert len(thin) == 2


def test_a_narrow_interval_is_not_cut(results: Results) -> None:
    found = curves_of(results, band="sem")
    low, high, cut = curves.limits(found)
    assert not cut
    assert low < min(curve.low_E.min() for curve in found)
    assert high > max(curve.high_E.max() for curve in found)


def group(**values_of: Any) -> Any:
    empty = np.zeros(0, int)
    return next(iter([shared.Group("run", "label", 0, values_of, empty, (), ())]))


def test_two_swept_keys_choose_colour_and_line_and_a_third_the_panel() -> None:
    groups = [group(lr=lr, mode=mode, depth=depth) for lr in (0.1, 1.0) for mode in "abc" for depth in (1, 2)]
    layout = curves.layout_of(groups)
    assert (layout.colour, layout.line, layout.panel) == (("mode",), ("lr",), ("depth",))
    looks = {(layout.place(one, layout.colour), layout.place(one, layout.line)) for one in groups[::2]}
    assert len(looks) == 6


def test_keys_of_many_values_get_a_ramp_or_panels() -> None:
    numbers = curves.layout_of([group(lr=value / 7) for value in range(40)])
    assert (numbers.colour, numbers.panel) == (("lr",), ())
    words = curves.layout_of([group(arch=f"{value}*8") for value in range(40)])
    assert (words.colour, words.panel) == ((), ("arch",))


@pytest.mark.parametrize(
    ("only", "labels"),
    [
        (("mode=none",), ["mode=none"]),
        (("mode=none", "out_put"), ["mode=none", "mode=out_put"]),
        (("mode=other",), r"no condition has mode=other"),
        (("moode=none",), "did you mean 'mode'"),
        (("lr=0.1",), ["mode=none", "mode=out_put"]),
        (("lr=0.2",), r"no condition has lr=0\.2"),
        (("none",), "expected KEY=VALUE"),
    ],
)
def test_only_keeps_conditions(results: Results, only: tuple[str, ...], labels: Any) -> None:
    if isinstance(labels, str):
        with pytest.raises(WrongInput, match=labels):
            groups_of(results, only)
    else:
        assert [each.label for each in groups_of(results, only)] == labels


def test_only_takes_numbers_however_they_are_written(tmp_path: Path) -> None:
    with open_run(finished_run(tmp_path, sweep={"lr": [0.001, 0.0010000001, 3]})) as opened:
        assert [each.values["lr"] for each in groups_of(opened, ("lr=1e-3", "3.0"))] == [0.001, 3]


def failing(results: Results | None, options: Any, made: Output) -> None:
    made.file("before.txt", b"kept")
    raise KeyError("a plugin's mistake")


def unwilling(results: Results | None, options: Any, made: Output) -> None:
    raise UserError("two learning rates", hint="choose: -s only=lr=0.1")


@pytest.fixture
def flawed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed experiment ``demo`` with an analyzer that fails and one that cannot work on the run."""
    own = [Analyzer("failing", "fails", failing), Analyzer("unwilling", "cannot", unwilling)]
    hooks = SimpleNamespace(define_metrics=lambda: METRICS, analyze=lambda: own)
    installed = SimpleNamespace(name="demo", kind="experiment")
    monkeypatch.setattr("xfw.plugins.registry.discover", lambda: [installed])
    monkeypatch.setattr("xfw.plugins.registry.load_experiment", lambda name: SimpleNamespace(name=name, hooks=hooks))


@pytest.mark.usefixtures("flawed")
def test_one_analyzer_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    finished_run(tmp_path, trials=3)
    done = CliRunner().invoke(commands.analyze, ("@last", "--results-dir", str(tmp_path)), standalone_mode=False)
    assert done.return_value == 1
    assert "left out: unwilling (two learning rates; choose: -s only=lr=0.1)" in done.stdout
    assert "before.txt" in done.stdout
    assert "summary.{md,csv,tex}" in done.stdout
    assert 'error: failing failed: KeyError: "a plugin\'s mistake" (test_analysis_shared.py, line' in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.usefixtures("flawed")
def test_an_analyzer_that_was_asked_for_and_cannot_work_is_an_error(tmp_path: Path) -> None:
    finished_run(tmp_path, trials=3)
    with pytest.raises(UserError, match="two learning rates"):
        call(commands.analyze, "@last", "unwilling", "--results-dir", str(tmp_path))
    arguments = ("@last", "unwilling", "summary", "--json", "--results-dir", str(tmp_path))
    done = CliRunner().invoke(commands.analyze, arguments, standalone_mode=False)
    assert done.return_value == 1
    said = json.loads(done.stdout)
    assert (said["left_out"], [each["what"] for each in said["failed"]]) == ([], ["unwilling"])
    assert "summary" in said["tables"]


@pytest.mark.usefixtures("flawed")
@pytest.mark.parametrize("hook", ["define_metrics", "analyze"])
def test_a_hook_that_fails_leaves_the_general_analyzers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def wrong() -> None:
        raise TypeError("a plugin's mistake")

    hooks = SimpleNamespace(**{"define_metrics": lambda: METRICS, "analyze": lambda: None, hook: wrong})
    monkeypatch.setattr("xfw.plugins.registry.load_experiment", lambda name: SimpleNamespace(name=name, hooks=hooks))
    finished_run(tmp_path, trials=3)
    done = CliRunner().invoke(commands.analyze, ("@last", "--results-dir", str(tmp_path)), standalone_mode=False)
    assert done.return_value == 1
    assert "summary.{md,csv,tex}" in done.stdout
    assert f"error: hook {hook} of demo failed: TypeError: a plugin's mistake" in done.stderr


def test_long_labels_stay_within_the_figure(tmp_path: Path) -> None:
    with open_run(finished_run(tmp_path, trials=2, sweep={"label": ["x" * 300 + "a", "x" * 300 + "b"]})) as opened:
        kept = Kept()
        curves.analyse(opened, curves.Options(), kept, values())
    assert problems_of(kept.made["curves-correct"]) == []


# --- equal runs ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("demo")
def test_equal_runs_hold_the_same_bits(tmp_path: Path) -> None:
    sweep = {"lr": [0.1, 0.2]}
    first = finished_run(tmp_path, trials=3, sweep=sweep)
    second = finished_run(tmp_path, trials=3, sweep=sweep, blocks=3)
    said = call(commands.compare, "--exact", first.id, second.id, "--results-dir", str(tmp_path))
    assert said.startswith(f"equal: {first.id} and {second.id} hold the same bits (")


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (
            {"rows": 5},
            {"epoch/count", "epoch/epoch", "epoch/correct", "epoch/loss", "epoch/accepted", "epoch/per_class"},
        ),
        ({"trials": 4}, {"trials"}),
        ({"config": {"lr": 0.2, "data": {"name": "digits"}}}, {"config lr"}),
        ({"seed": 8}, {"seed"}),
        ({"sweep": {"lr": [0.1, 0.3]}}, {"trials"}),
    ],
)
def test_what_differs_is_named(tmp_path: Path, changes: dict[str, Any], names: set[str]) -> None:
    common: dict[str, Any] = {"trials": 3, "sweep": {"lr": [0.1, 0.2]}}
    runs = [finished_run(tmp_path, **common).id, finished_run(tmp_path, **(common | changes)).id]
    arguments = ("--exact", *runs, "--json", "--results-dir", str(tmp_path))
    done = CliRunner().invoke(commands.compare, arguments, standalone_mode=False)
    said = json.loads(done.stdout)
    assert (done.return_value, said["equal"]) == (1, False)
    assert {row["quantity"] for row in said["differences"]} == names


def test_bits_are_compared_not_values() -> None:
    one = np.array([0.0, np.nan, 1.0])
    assert exact.compared("x", one, one.copy()) is None
    found = exact.compared("x", one, np.array([-0.0, np.nan, 1.0 + 2**-52]))
    assert found is not None
    assert (found.elements, found.of, found.largest) == (2, 3, 2**-52)
    assert exact.compared("x", one, one.astype(np.float32)) is not None


@pytest.mark.usefixtures("demo")
def test_exact_takes_two_runs_and_no_options(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    with pytest.raises(WrongInput, match="two runs"):
        call(commands.compare, "--exact", run.id, "--results-dir", str(tmp_path))


@pytest.mark.parametrize("trials", [1, 2, 5])
@pytest.mark.parametrize(
    "sweep", [{}, {"mode": ["a", "b"]}, {"lr": list(range(13))}, {"arch": [f"{n}*{n}" for n in range(9)]}]
)
def test_curves_can_be_read(tmp_path: Path, trials: int, sweep: dict[str, list[Any]]) -> None:
    """No legend lies over data, every entry has its line in sight, and no two lines look alike."""
    with open_run(finished_run(tmp_path, rows=12, trials=trials, sweep=sweep)) as opened:
        kept = Kept()
        curves.analyse(opened, curves.Options(), kept, values())
    assert problems_of(kept.made["curves-correct"]) == []
