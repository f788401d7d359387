"""The analyzer ``heatmaps``: six figures of the study in the depth-width plane, each with its numbers as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import xfw
from xfw.analysis.output import Output
from xfw.analysis.tables import Table

from xfw_psa.analysis import cells, configurations, effects, heat_categories, heat_scales, regimes
from xfw_psa.analysis.cells import Study
from xfw_psa.analysis.configurations import Shape
from xfw_psa.config import ABLATIVE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xfw.store.results import Results

__all__ = ["ANALYZER", "FIGURES", "Options", "run"]


Drawing = Callable[[Study, Sequence[Shape], "Options"], "tuple[Figure, Table]"]

FIGURES: Mapping[str, Drawing] = {
    "Baseline_Performance": lambda study, shapes, _: heat_scales.baseline_performance(study, shapes),
    "Ablation_Effects": lambda study, shapes, options: heat_categories.ablation_effects(
        study, shapes, options.effect_mode, options.test
    ),
    "Instability": lambda study, shapes, _: heat_scales.instability(study, shapes),
    "Winning_Strategy": lambda study, shapes, options: heat_categories.winning_strategy(
        study, shapes, options.winner_by
    ),
    "Parameter_Matching": lambda study, shapes, options: heat_scales.parameter_matching(
        study, shapes, options.param_formula, configurations.asymmetric(options.asymmetric_file)
    ),
    "Regimes": lambda study, shapes, options: heat_categories.regime_map(study, shapes, options.rules),
}


@attrs.frozen
class Options:
    """Which figures, from which results, and how they are judged."""

    figure: tuple[str, ...] | None = xfw.key(
        None,
        choices=tuple(FIGURES),
        help="figures to draw; default: all six",
    )
    config_file: str | None = xfw.key(None, help="list of networks, one DEPTH*WIDTH a line; default: the study's 98")
    asymmetric_file: str | None = xfw.key(
        None, help="list of networks without a partner of equal size; default: the 30"
    )
    summary_file: str | None = cells.summary_file_key()
    trials_file: str | None = cells.trials_file_key()
    family: str | None = cells.family_key()
    only: tuple[str, ...] | None = cells.only_key()
    test: str = xfw.key(
        "paired", choices=effects.TESTS, help="Ablation_Effects: t-test paired by trial index, as published, or Welch's"
    )
    effect_mode: str = xfw.key(
        "full", choices=(*ABLATIVE, "best"), help="Ablation_Effects: the mode compared with none; best: largest mean"
    )
    winner_by: str = xfw.key(
        "max", choices=("max", "mean"), help="Winning_Strategy: by the best trial, as published, or by the mean"
    )
    param_formula: str = xfw.key(
        "actual",
        choices=configurations.FORMULAS,
        help="Parameter_Matching: parameters of the network that is built, or of the plain one, as published",
    )
    rules: str = xfw.key("final", choices=regimes.RULE_SETS, help="Regimes: the rules of the classification")


def run(results: Results | None, options: Options, output: Output) -> None:
    """Write the figures that were asked for; raises ``UserError`` where no network of the list has results."""
    study = cells.study(results, options)
    listing = configurations.listing(options.config_file)
    for warning in listing.warnings:
        output.say(warning)
    if not any(study.modes(name) for name in listing.names):
        raise xfw.UserError(
            f"{study.origin}: no results for any of the {len(listing.names)} networks of the list: nothing was drawn",
            hint="another list: -s config_file=FILE",
        )
    for name in options.figure or tuple(FIGURES):
        if name == "Ablation_Effects" and not _has_trials(study):
            output.say(f"left out: {name} (needs single trials: -s trials_file=FILE)")
            continue
        figure, table = FIGURES[name](study, listing.shapes, options)
        output.figure(f"{study.title}_Heatmap_{name}", figure)
        output.data(f"{study.title}_Heatmap_{name}", table)


def _has_trials(study: Study) -> bool:
    return any(len(cell.peaks_T) for cell in study.cells.values())


def available(results: Results) -> str:
    """Say why there is nothing to draw, or return an empty string."""
    listed = set(configurations.published().names)
    arches = results.parameters.get("arch") or [results.config.get("arch", "")]
    shapes = [configurations.shape_of(str(arch)) for arch in arches]
    if not any(shape is not None and shape.text in listed for shape in shapes):
        return "the run has none of the study's 98 networks"
    return cells.available(results)


ANALYZER = xfw.Analyzer(
    "heatmaps",
    "six maps of the depth-width plane: baseline, effects, instability, winners, parameters, regimes",
    run,
    options=Options,
    available=available,
)
