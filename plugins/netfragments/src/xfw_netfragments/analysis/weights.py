"""The analyzer ``weights``: the stored weights as files in the published layout, for ``-s weights=FILE``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xfw
from xfw.analysis.output import Output
from xfw.store.sources import nest

from xfw_netfragments import connections
from xfw_netfragments.layer import Layer

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["ANALYZER", "of_trial", "run"]


def available(results: Results) -> str:
    """Say why there is nothing to write."""
    stored = "w_index" in results.arrays() or "w_index" in results.ragged(0)
    return "" if stored else "the run stored no weights of S2"


def run(results: Results | None, options: Any, output: Output) -> None:
    """Write one file for each trial."""
    del options
    assert results is not None
    for place, (condition, trial) in enumerate(zip(results.condition.tolist(), results.trial.tolist(), strict=True)):
        name = f"weights_{condition}_{trial}.npz"
        output.file(name, connections.file_content(of_trial(results, place)))
        output.say(f"{name}: condition {condition}, trial {trial}")


def of_trial(results: Results, place: int) -> connections.Weights:
    """Return the weights of the trial at one position."""
    s2 = nest(results.config, results.conditions[int(results.condition[place])])["s2"]
    layer = Layer(int(s2["alternatives"]), int(s2["locality"]), float(s2["support_factor"]))
    arrays = results.ragged(place) or {name: results.array(name, place) for name in ("w_index", "w_value")}
    weight = connections.of_trial(arrays, layer.shape)
    if weight is None:
        raise xfw.UserError(f"weights: the run stored none for trial {int(results.trial[place])}", exit_code=2)
    return weight


ANALYZER = xfw.Analyzer("weights", "weights as files in the published layout", run, available=available)
