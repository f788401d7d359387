"""Every figure of psa: no legend over data, no entry without its line, no two lines alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from xfw.analysis.shared import all_analyzers
from xfw.plugins.registry import load_experiment
from xfw.store.results import Results
from xfw.testing.figures import Drawn, problems_of
from xfw_psa.config import MODES


@pytest.mark.parametrize("height", [12.0, 90.0])
def test_figures_can_be_read(stored: Callable[..., Results], height: float) -> None:
    places = [(arch, mode) for arch in ("1*1024", "18*18", "4*4") for mode in MODES]
    curves = {
        place: height - 1.0 + 0.4 * number % 5 + np.linspace(0, 3, 12).reshape(3, 4)
        for number, place in enumerate(places)
    }
    results = stored(curves)
    experiment = load_experiment("psa")
    drawn = Drawn()
    for analyzer in all_analyzers(experiment.hooks.define_metrics(), experiment.hooks.analyze()).values():
        if analyzer.name in ("curves", "convergence", "heatmaps"):
            analyzer.run(results, analyzer.options() if analyzer.options else None, drawn)
    assert len(drawn.figures) == 9
    assert not drawn.failures
    assert {name: problems for name, figure in drawn.figures.items() if (problems := problems_of(figure))} == {}
