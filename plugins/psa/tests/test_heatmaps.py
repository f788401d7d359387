"""The design space and the six heat maps: their artists, not their pixels; and that every name can be read."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from scipy import stats
from xfw.analysis import figures
from xfw.cli.main import invoke
from xfw.store.results import Results
from xfw_psa.analysis import cells, design_space, effects, heat_categories, heat_scales, heatmaps, labels
from xfw_psa.analysis.cells import Cell, Study
from xfw_psa.analysis.configurations import Shape, asymmetric, published
from xfw_psa.config import MODES

REFERENCE = Path(os.environ.get("XFW_DATA_DIR", "")) / "psa" / "reference_half.json"
needs_reference = pytest.mark.skipif(not REFERENCE.is_file(), reason=f"{REFERENCE} is not there")
Stored = Callable[..., Results]

SHAPES = published().shapes
FEW = (Shape(1, 64), Shape(32, 32), Shape(16, 1))
Z = 11.02
BROWN, BLACK, RED, GREEN, BLUE = "#a1887f", "#212121", "#e53935", "#4caf50", "#1565c0"
YELLOW, ORANGE, PURPLE, PINK, CYAN = "#ffeb3b", "#ff8a65", "#651fff", "#e040fb", "#00b0ff"


def study_of(values: Mapping[tuple[str, str], Sequence[float]], family: str = "simplemlp") -> Study:
    """Return results with these peaks."""
    found = {place: np.asarray(peaks, dtype=np.float64) for place, peaks in values.items()}
    made = {place: Cell(summary=cells.moments(peaks_T), peaks_T=peaks_T) for place, peaks_T in found.items()}
    return Study(family=family, cells=made, z_val=Z, loops=1, origin="given")


def alike(name: str, peaks: Sequence[float], **others: Sequence[float]) -> dict[tuple[str, str], Sequence[float]]:
    """Return equal peaks for all modes but those named."""
    return {(name, mode): others.get(mode, peaks) for mode in MODES}


@pytest.fixture(scope="module")
def reference() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(REFERENCE.read_text(encoding="utf-8"))["simplemlp_final"]
    return content


@pytest.fixture(scope="module")
def half(reference: Mapping[str, Any]) -> Study:
    return study_of(
        {(name, mode): cell["trials"] for name, row in reference.items() for mode, cell in row["modes"].items()}
    )


def marks(figure: Figure) -> dict[str, PathCollection]:
    """Return the sets of marks by their names in the legend."""
    found = [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    return {str(each.get_label()): each for each in found}


def mark_of(figure: Figure, shape: tuple[int, int]) -> tuple[str, str, float, float]:
    """Return group, colour, area and alpha of the mark of one network."""
    for name, group in marks(figure).items():
        places = np.asarray(group.get_offsets()).reshape(-1, 2)
        for index in np.flatnonzero((places == shape).all(axis=1)):
            colours, sizes = group.get_facecolor(), group.get_sizes()
            colour = colours[index % len(colours)]
            return name, to_hex(colour), float(sizes[index % len(sizes)]), float(colour[3])
    raise AssertionError(f"no mark for {shape}")


def drawn(figure: Figure) -> int:
    return sum(len(np.asarray(group.get_offsets()).reshape(-1, 2)) for group in marks(figure).values())


def rows_by_name(table: Any) -> dict[str, dict[str, Any]]:
    names = [column.name for column in table.columns]
    return {row[0]: dict(zip(names, row, strict=True)) for row in table.rows}


# --- names -----------------------------------------------------------------------------------------------


def test_crowded_squares_are_those_closer_than_one_and_a_half_mean_distances() -> None:
    depths = sorted((shape.depth for shape in SHAPES if shape.depth == shape.width), reverse=True)
    limit = 1.5 * math.log10(depths[0] / depths[-1]) / (len(depths) - 1)
    expected = [
        depth for depth in depths if any(other != depth and abs(math.log10(depth / other)) <= limit for other in depths)
    ]
    assert labels.crowded_squares(SHAPES) == expected
    assert (expected[0], expected[-1], len(expected)) == (35, 5, 29)


@pytest.mark.parametrize("squares", [[], [7], [7, 70]])
def test_few_squares_need_no_curve(squares: list[int]) -> None:
    found = labels.place([Shape(each, each) for each in squares], labels.AROUND)
    assert [label.leader for label in found] == [False] * len(squares)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_bezier_is_the_repeated_mean_of_its_points(t: float) -> None:
    first, control, last = np.array([35.0, 35.0]), np.array([76.0, 3.8]), np.array([5.0, 5.0])
    left, right = (1 - t) * first + t * control, (1 - t) * control + t * last
    expected = (1 - t) * left + t * right
    np.testing.assert_allclose(labels.bezier(tuple(first), tuple(control), tuple(last), t), expected, rtol=1e-12)


def test_names_of_crowded_squares_stand_on_the_curve_and_have_leaders() -> None:
    found = [label for label in labels.place(SHAPES, labels.AROUND) if label.leader]
    assert [label.point[0] for label in found] == labels.crowded_squares(SHAPES)
    first, last, control = (35 * 1.025, 35.0), (5 * 1.025, 5.0), (4 * 19.0, 0.2 * 19.0)
    curve = np.array([labels.bezier(first, control, last, t) for t in np.linspace(0, 1, 20_001).tolist()])
    for label in found:
        assert np.hypot(*(curve - label.place).T).min() < 0.01


def figure_of(name: str) -> Figure:
    """Return a figure whose marks are as large as they become."""
    peaks = {shape.text: [20.0 + shape.width % 7, 80.0] for shape in SHAPES}
    found = study_of({(name, mode): peaks[name] for name in peaks for mode in MODES})
    if name == "design space":
        return design_space.draw(SHAPES, "SimpleMLP")
    return heatmaps.FIGURES[name](found, SHAPES, heatmaps.Options())[0]


def ink(figure: Figure) -> Iterator[tuple[str, Bbox]]:
    """Yield the names in the plane with the boxes that their glyphs fill."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    for text in figure.axes[0].texts:
        box = text.get_window_extent(renderer)
        descent = renderer.get_text_width_height_descent(text.get_text(), text.get_fontproperties(), False)[2]
        yield text.get_text(), Bbox.from_extents(box.x0, box.y0 + descent, box.x1, box.y1)


@pytest.mark.parametrize("name", ["design space", *heatmaps.FIGURES])
def test_no_name_touches_another_or_lies_on_a_mark(name: str) -> None:
    figure = figure_of(name)
    found = list(ink(figure))
    assert {text for text, _ in found} == {shape.text.replace("*", found[0][0].strip("0123456789")) for shape in SHAPES}
    for (first, one), (second, other) in itertools.combinations(found, 2):
        assert not one.overlaps(other), (first, second)
    centres = figure.axes[0].transData.transform([(shape.depth, shape.width) for shape in SHAPES])
    if name != "design space":
        for text, box in found:
            assert not any(box.contains(*centre) for centre in centres), text
    inside = figure.bbox
    assert all(inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1) for _, box in found)


# --- design space ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("legacy", "more"), [(False, 0), (True, 1)])
def test_rectangles_end_at_depth_and_width(legacy: bool, more: int) -> None:
    (axes,) = design_space.draw(SHAPES, "SimpleMLP", legacy=legacy).axes
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [(patch.get_x(), patch.get_y()) for patch in found] == [(1, 1)] * len(SHAPES)
    corners = [(patch.get_x() + patch.get_width(), patch.get_y() + patch.get_height()) for patch in found]
    assert corners == [(shape.depth + more, shape.width + more) for shape in SHAPES]


def test_squares_lie_on_top() -> None:
    (axes,) = design_space.draw(SHAPES, "SimpleMLP").axes
    order = {
        (shape.depth == shape.width): patch.get_zorder() for shape, patch in zip(SHAPES, axes.patches, strict=True)
    }
    assert order[True] > order[False]


def test_design_space_is_drawn_as_specified() -> None:
    (axes,) = design_space.draw(SHAPES, "ResMLP").axes
    patch = axes.patches[0]
    assert (to_hex(patch.get_facecolor()), to_hex(patch.get_edgecolor())) == (to_hex("cyan"), to_hex("blue"))
    assert (patch.get_alpha(), patch.get_linewidth()) == (0.3, 1)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlim(), axes.get_ylim()) == ((0.8, 3000), (0.8, 3000))
    assert axes.get_xlabel() == "Depth (# of layers)"
    assert axes.get_ylabel() == "Width (neurons per layer)"
    assert "ResMLP" in axes.get_title()
    (line,) = {(line.get_linestyle(), line.get_alpha()) for line in axes.get_xgridlines()}
    assert line == ("--", 0.5)
    wide = next(text for text in axes.texts if text.get_text() == "1×2048")
    assert wide.get_position() == pytest.approx((1.1, 1.1 * 2048))
    assert wide.get_fontsize() == 8


def test_design_space_needs_no_run(tmp_path: Path) -> None:
    arguments = ["analyze", "psa", "design-space", "-o", str(tmp_path), "--format", "png", "--results-dir"]
    assert invoke([*arguments, str(tmp_path / "none"), "-s", "family=resmlp"]) == 0
    assert_png(tmp_path / "ResMLP_Testing_Design_Space.png")


def test_a_list_without_networks_draws_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    out = tmp_path / "out"
    arguments = ["analyze", "psa", "design-space", "-o", str(out), "--results-dir", str(tmp_path / "none")]
    assert invoke([*arguments, "-s", f"config_file={empty}"]) == 1
    assert "names no network" in capsys.readouterr().err
    assert not out.exists()


def assert_png(path: Path) -> None:
    from PIL import Image

    assert path.stat().st_size > 10_000
    with Image.open(path) as image:
        assert image.size == (3600, 3000)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


# --- common to the heat maps -----------------------------------------------------------------------------


@needs_reference
@pytest.mark.parametrize("name", heatmaps.FIGURES)
def test_every_network_has_a_mark_and_a_row(half: Study, name: str) -> None:
    figure, table = heatmaps.FIGURES[name](half, SHAPES, heatmaps.Options())
    assert len(table.rows) == 98
    assert [row[:3] for row in table.rows] == [(shape.text, shape.depth, shape.width) for shape in SHAPES]
    assert drawn(figure) == 98
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlim(), axes.get_ylim()) == ((0.8, 4000), (0.8, 4000))
    assert axes.get_xgridlines()[0].get_alpha() == 0.3
    assert tuple(figure.get_size_inches()) == (12, 10)
    assert figure.get_dpi() == 300


@needs_reference
@pytest.mark.parametrize("name", ["Baseline_Performance", "Ablation_Effects", "Instability", "Winning_Strategy"])
def test_networks_without_results_are_brown_and_untrainable_ones_black(half: Study, name: str) -> None:
    figure, table = heatmaps.FIGURES[name](half, SHAPES, heatmaps.Options())
    assert mark_of(figure, (1, 1024))[:2] == ("No data", BROWN)
    group, colour, area, _ = mark_of(figure, (115, 115))
    assert (group, colour) == ("Untrainable", BLACK)
    assert area == (120 if name == "Winning_Strategy" else 50)
    categories = [row["category"] for row in rows_by_name(table).values()]
    assert (categories.count("no data"), categories.count("untrainable")) == (49, 23)


def test_a_mean_of_exactly_the_majority_share_is_untrainable() -> None:
    """The mean of ten values 11.02 is 11.020000000000001 in float64."""
    figure, _ = heat_scales.baseline_performance(study_of(alike("32*32", [Z] * 10)), FEW)
    assert mark_of(figure, (32, 32))[0] == "Untrainable"
    figure, _ = heat_scales.baseline_performance(study_of(alike("32*32", [Z] * 10, full=[Z] * 9 + [11.03])), FEW)
    assert mark_of(figure, (32, 32))[0] == "_values"


# --- baseline, instability -------------------------------------------------------------------------------


def between(colours: Sequence[str], share: float) -> tuple[float, ...]:
    """Return the colour at a share of a gradient with equal parts."""
    place = share * (len(colours) - 1)
    part = min(int(place), len(colours) - 2)
    first, second = np.array(to_rgb(colours[part])), np.array(to_rgb(colours[part + 1]))
    return tuple(first + (place - part) * (second - first))


@pytest.mark.parametrize("mean", [11.5, 50.0, 75.3, 99.9])
def test_baseline_goes_from_blue_to_green_in_a_hundred_steps(mean: float) -> None:
    figure, table = heat_scales.baseline_performance(study_of(alike("1*64", [mean, mean])), FEW)
    step = math.floor(100 * (mean - Z) / (100 - Z))
    _, colour, area, alpha = mark_of(figure, (1, 64))
    # A colour of 8 bits per channel is off by at most half a step of 1/255.
    np.testing.assert_allclose(to_rgb(colour), between([BLUE, GREEN], step / 99), atol=0.51 / 255)
    assert (area, alpha) == (50, 0.7)
    assert rows_by_name(table)["1*64"]["baseline_accuracy"] == mean
    bar = figure.axes[1]
    assert bar.get_ylabel() == "Baseline Accuracy (%)"
    assert bar.get_ylim() == (Z, 100)


@pytest.mark.parametrize(("sd", "share"), [(0.0, 0.0), (1.25, 0.25), (2.5, 0.5), (4.0, 0.8), (5.0, 1.0), (20.0, 1.0)])
def test_instability_is_the_largest_deviation_of_any_mode(sd: float, share: float) -> None:
    figure, table = heat_scales.instability(study_of(alike("1*64", [60.0, 60.0], hidden=[60 - sd, 60 + sd])), FEW)
    gradient = ["#1b5e20", "#7cb342", YELLOW, ORANGE, RED]
    # The scale has 256 steps, of which the widest one changes a channel by less than 5/255.
    np.testing.assert_allclose(to_rgb(mark_of(figure, (1, 64))[1]), between(gradient, share), atol=5 / 255)
    assert rows_by_name(table)["1*64"]["max_sd"] == pytest.approx(sd)
    assert figure.axes[1].get_ylabel() == "Max Standard Deviation (%)"


# --- effects ---------------------------------------------------------------------------------------------


def with_t(t: float, n: int = 10) -> NDArray[np.float64]:
    """Return differences whose one-sample t-test gives this t."""
    shape = np.linspace(-1, 1, n)
    return shape / shape.std(ddof=1) + t / math.sqrt(n)


@pytest.mark.parametrize(
    ("t", "category", "colour"),
    [
        (2.27, "Beneficial", GREEN),
        (2.25, "Neutral", BROWN),
        (-2.25, "Neutral", BROWN),
        (-2.27, "Harmful", RED),
    ],
)
def test_effects_are_judged_at_the_quantile_of_student(t: float, category: str, colour: str) -> None:
    """With 9 degrees of freedom p = 0.05 is reached at t = 2.262157."""
    none = np.linspace(40, 60, 10)
    found = study_of(alike("1*64", none, full=none + with_t(t)))
    figure, table = heat_categories.ablation_effects(found, FEW, "full", "paired")
    assert mark_of(figure, (1, 64))[:2] == (category, colour)
    assert rows_by_name(table)["1*64"]["p_paired"] == pytest.approx(2 * stats.t.sf(abs(t), 9), abs=1e-6)


def test_the_published_quantile_has_p_of_five_percent() -> None:
    none = np.full(10, 50.0)
    effect = effects.effect_of(study_of(alike("1*64", none, full=none + with_t(2.262157))), "1*64", "full")
    assert effect is not None
    assert effect.p_paired == pytest.approx(0.05, abs=1e-6)


def test_equal_differences_are_neutral_and_small() -> None:
    """0.1 as the difference of several pairs has different last bits in float64."""
    none = np.array([98.1, 97.3, 11.02, 64.0])
    found = study_of(alike("1*64", none, full=none + 0.1))
    figure, table = heat_categories.ablation_effects(found, FEW, "full", "paired")
    assert mark_of(figure, (1, 64))[:3] == ("Neutral", BROWN, 7.5)
    assert math.isnan(rows_by_name(table)["1*64"]["p_paired"])


@pytest.mark.parametrize(("t", "size"), [(0.9, None), (30.0, 1.0)])
def test_area_grows_with_the_difference_in_standard_deviations(t: float, size: float | None) -> None:
    none = np.full(10, 50.0)
    figure, _ = heat_categories.ablation_effects(
        study_of(alike("1*64", none, full=none + with_t(t))), FEW, "full", "paired"
    )
    differences = with_t(t)
    expected = abs(differences.mean()) / differences.std(ddof=0) if size is None else size
    assert mark_of(figure, (1, 64))[2] == pytest.approx(7.5 + 461.5 * expected, abs=1e-6)


def test_welch_compares_the_samples_and_both_p_values_are_kept() -> None:
    random = np.random.default_rng(3)
    none, full = random.normal(60, 3, 10), random.normal(64, 1, 10)
    found = study_of(alike("1*64", none, full=full))
    _, paired = heat_categories.ablation_effects(found, FEW, "full", "paired")
    _, welch = heat_categories.ablation_effects(found, FEW, "full", "welch")
    row = rows_by_name(welch)["1*64"]
    assert row["p_welch"] == pytest.approx(stats.ttest_ind(full, none, equal_var=False).pvalue, rel=1e-9)
    assert row["p_paired"] == pytest.approx(stats.ttest_1samp(full - none, 0).pvalue, rel=1e-6)
    assert row["category"] == "beneficial"
    assert rows_by_name(paired)["1*64"]["p_welch"] == row["p_welch"]


def test_the_test_that_was_chosen_decides() -> None:
    none = np.linspace(20, 80, 10)
    found = study_of(alike("1*64", none, full=none + 1 + np.linspace(-0.1, 0.1, 10)))
    assert mark_of(heat_categories.ablation_effects(found, FEW, "full", "paired")[0], (1, 64))[0] == "Beneficial"
    assert mark_of(heat_categories.ablation_effects(found, FEW, "full", "welch")[0], (1, 64))[0] == "Neutral"


@pytest.mark.parametrize(("mode", "expected"), [("full", "full"), ("output", "output"), ("best", "hidden")])
def test_the_compared_mode_can_be_chosen(mode: str, expected: str) -> None:
    found = study_of(alike("1*64", [50.0, 51.0], hidden=[70.0, 72.0], decay=[90.0, 91.0]))
    _, table = heat_categories.ablation_effects(found, FEW, mode, "paired")
    assert rows_by_name(table)["1*64"]["mode"] == expected


def test_a_missing_trial_leaves_its_pair_out() -> None:
    found = study_of(alike("1*64", [50.0, np.nan, 52.0, 53.0], full=[51.0, 99.0, 54.0, 54.5]))
    effect = effects.effect_of(found, "1*64", "full")
    assert effect is not None
    assert (effect.n, effect.mean) == (3, pytest.approx(1.5))


# --- winners, parameters, regimes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "colour"),
    [("none", BROWN), ("decay", PURPLE), ("dropout", PINK), ("full", ORANGE), ("hidden", YELLOW), ("output", CYAN)],
)
def test_every_winner_has_its_colour(mode: str, colour: str) -> None:
    figure, table = heat_categories.winning_strategy(
        study_of(alike("1*64", [50.0, 51.0], **{mode: [50.0, 60.0]})), FEW, "max"
    )
    assert mark_of(figure, (1, 64))[1:3] == (colour, 120)
    assert rows_by_name(table)["1*64"]["winner"] == mode


def test_winner_by_maximum_by_mean_and_on_ties() -> None:
    found = study_of(alike("1*64", [50.0, 50.0], hidden=[10.0, 60.0], dropout=[50.0, 52.0], full=[50.0, 52.0]))
    for by, expected in (("max", "hidden"), ("mean", "dropout")):
        _, table = heat_categories.winning_strategy(found, FEW, by)
        assert rows_by_name(table)["1*64"]["winner"] == expected
    _, table = heat_categories.winning_strategy(study_of(alike("1*64", [50.0])), FEW, "max")
    assert rows_by_name(table)["1*64"]["winner"] == "none"


@needs_reference
def test_published_winners(half: Study, reference: Mapping[str, Any]) -> None:
    """The table of the paper calls means within 0.01 of each other a tie."""
    by_max, by_mean = (rows_by_name(heat_categories.winning_strategy(half, SHAPES, by)[1]) for by in ("max", "mean"))
    for name, row in reference.items():
        assert by_max[name]["winner"] == row["winner_by_max"][0], name
        assert by_mean[name]["winner"] in row["winner_by_mean"], name


@needs_reference
def test_winners_are_drawn_from_back_to_front_and_edged(half: Study) -> None:
    groups = marks(heat_categories.winning_strategy(half, SHAPES, "max")[0])
    order = ["Untrainable", "Control (None)", "Dropout", "Weight Decay", "Full Ablation", "Output Ablation"]
    heights = [groups[name].get_zorder() for name in [*order, "Hidden Ablation"]]
    assert heights == sorted(set(heights))
    assert to_hex(groups["Dropout"].get_edgecolor()[0]) == "#000000"
    assert groups["Dropout"].get_linewidth()[0] == 0.5


@pytest.mark.parametrize(
    ("family", "formula", "smallest", "largest"),
    [("simplemlp", "actual", 805, 1_702_618), ("resmlp", "actual", 809, 10_020_874), ("resmlp", "plain-mlp", 805, 0)],
)
def test_parameters_are_counted_by_the_chosen_formula(family: str, formula: str, smallest: int, largest: int) -> None:
    found = study_of(alike("1*64", [50.0]), family)
    figure, table = heat_scales.parameter_matching(found, SHAPES, formula, asymmetric())
    counts = {name: row["parameters"] for name, row in rows_by_name(table).items()}
    assert min(counts.values()) == smallest
    assert counts["1*2048"] == (10_020_874 if (family, formula) == ("resmlp", "actual") else 1_628_170)
    assert max(counts.values()) >= largest
    least, most = math.log10(min(counts.values())), math.log10(max(counts.values()))
    for name, area in ((row[0], row[-1]) for row in table.rows):
        expected = 7.5 + 461.5 * (math.log10(counts[name]) - least) / (most - least)
        assert area == pytest.approx(expected, abs=1e-9)
    groups = marks(figure)
    assert len(groups["Asymmetric"].get_offsets()) == 30
    assert len(groups["Matched"].get_offsets()) == 68
    assert len(groups["Asymmetric"].get_paths()[0].vertices) == 4
    assert sorted(groups["Asymmetric"].get_sizes()) == pytest.approx(
        sorted(row[-1] for row in table.rows if row[4] == "Asymmetric")
    )
    biggest = max(counts, key=lambda name: counts[name])
    shape = tuple(int(number) for number in biggest.split("*"))
    assert mark_of(figure, shape)[1] == "#00ffff"  # type: ignore[arg-type]
    assert mark_of(figure, (1, 1))[1] == "#000000"


def test_ticks_of_parameter_counts() -> None:
    assert list(heat_scales.count_ticks(805, 1_628_170).values()) == ["805", "1K", "10K", "100K", "1M", "1.6M"]
    assert list(heat_scales.count_ticks(1_500, 90_000).values()) == ["10K"]


def test_parameter_scale_has_these_ticks_and_the_diagonal_is_dashed() -> None:
    figure, _ = heat_scales.parameter_matching(study_of(alike("1*64", [50.0])), SHAPES, "actual", asymmetric())
    bar = figure.axes[1]
    assert [label.get_text() for label in bar.get_yticklabels()] == ["805", "1K", "10K", "100K", "1M", "1.7M"]
    (line,) = [line for line in figure.axes[0].lines if line.get_gid() == "diagonal"]
    assert (line.get_linestyle(), line.get_alpha(), line.get_color()) == ("--", 0.3, "black")
    text = next(text for text in figure.axes[0].texts if text.get_text() == "1*64")
    assert (text.get_fontfamily(), text.get_color(), text.get_alpha()) == (["monospace"], "#212121", 0.8)


@needs_reference
def test_regimes_have_their_colours_and_numbers(half: Study, reference: Mapping[str, Any]) -> None:
    figure, table = heat_categories.regime_map(half, SHAPES, "final")
    colours = {
        "beneficial-regularization": GREEN,
        "optimally-sized": RED,
        "chaotic-optimization": BLUE,
        "untrainable": BLACK,
        "unknown": BROWN,
    }
    found = rows_by_name(table)
    for name in published().names:
        expected = reference[name]["regime"]["final"] if name in reference else {"regime": "unknown", "rule": ""}
        assert (found[name]["regime"], found[name]["rule"]) == (expected["regime"], expected["rule"]), name
        depth, width = (int(number) for number in name.split("*"))
        assert mark_of(figure, (depth, width))[1:3] == (colours[expected["regime"]], 120)
    legend = figure.axes[0].get_legend()
    assert legend.get_title().get_text() == "Training Regime"
    assert [text.get_text().split(":")[0] for text in legend.get_texts()] == ["I", "II", "III", "IV", "Unknown"]
    order = ["IV: Untrainable", "I: Beneficial Regularization", "II: Optimally Sized", "III: Chaotic Optimization"]
    heights = [marks(figure)[name].get_zorder() for name in [*order, "Unknown"]]
    assert heights == sorted(set(heights))


@needs_reference
def test_regimes_follow_the_rules_that_were_chosen(half: Study) -> None:
    tables = {rules: rows_by_name(heat_categories.regime_map(half, SHAPES, rules)[1]) for rules in ("final", "v1")}
    assert [tables[rules]["26*26"]["regime"] for rules in ("final", "v1")] == ["chaotic-optimization", "unknown"]


# --- the analyzer ----------------------------------------------------------------------------------------


def analyze(results_dir: Path, *arguments: str) -> int:
    return invoke(["analyze", "psa", "heatmaps", "--results-dir", str(results_dir), *arguments])


@needs_reference
def test_six_figures_and_their_numbers_are_written(
    stored: Stored, reference: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    values = {
        (name, mode): np.array(cell["trials"])[:, None]
        for name, row in reference.items()
        for mode, cell in row["modes"].items()
    }
    stored(values)
    out = tmp_path / "out"
    assert analyze(tmp_path, "-o", str(out), "--format", "png,csv") == 0
    names = [f"SimpleMLP_Heatmap_{name}" for name in heatmaps.FIGURES]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}.{form}" for name in names for form in ("csv", "png")
    )
    for name in names:
        assert_png(out / f"{name}.png")
        rows = list(csv.DictReader(io.StringIO((out / f"{name}.csv").read_text())))
        assert [row["architecture"] for row in rows] == list(published().names)
    effects_of = {
        row["architecture"]: row for row in csv.DictReader(io.StringIO((out / f"{names[1]}.csv").read_text()))
    }
    assert effects_of["1*2048"]["category"] == "harmful"
    assert float(effects_of["1*2048"]["p_paired"]) < 0.05
    assert float(effects_of["1*2048"]["p_welch"]) < 0.05


def test_one_figure_can_be_asked_for(stored: Stored, tmp_path: Path) -> None:
    stored({("1*64", mode): np.full((2, 1), 90.0) for mode in MODES}, "resmlp")
    out = tmp_path / "out"
    assert analyze(tmp_path, "-o", str(out), "--format", "png", "-s", "figure=Regimes") == 0
    assert [path.name for path in out.iterdir()] == ["ResMLP_Heatmap_Regimes.png"]


def test_results_outside_of_the_list_draw_nothing(
    stored: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored({("1*64", "none"): np.full((2, 1), 90.0)})
    other = tmp_path / "other.txt"
    other.write_text("3*5\n")
    out = tmp_path / "out"
    assert analyze(tmp_path, "-o", str(out), "-s", f"config_file={other}") == 1
    assert "nothing was drawn" in capsys.readouterr().err
    assert not out.exists()


def test_a_run_of_other_networks_is_left_out(
    stored: Stored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored({("3*5", "none"): np.full((2, 1), 90.0)})
    assert analyze(tmp_path) == 2
    assert "none of the study's 98 networks" in capsys.readouterr().err


def test_a_summary_alone_has_no_effects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from xfw_psa.analysis import published_files

    entries = {("1*64", mode): published_files.Entry(10, 97.0, 0.1, 96.8, 97.2, "") for mode in MODES}
    summary = tmp_path / "summary.md"
    summary.write_text(
        published_files.write_summary(published_files.Summaries("simplemlp", entries, {"1*64": 50_890}), ["1*64"])
    )
    out = tmp_path / "out"
    arguments = ("-s", f"summary_file={summary}", "-o", str(out), "--format", "csv")
    assert analyze(tmp_path / "none", *arguments) == 0
    assert "left out: Ablation_Effects" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 5


@needs_reference
def test_drawing_twice_gives_the_same_bytes(half: Study) -> None:
    first, second = (figures.render(heat_categories.regime_map(half, SHAPES, "final")[0], "svg") for _ in range(2))
    assert first == second
