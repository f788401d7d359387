"""The analyzer ``published_json``: result files in the layout of the published ones."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import attrs
import xfw

from xfw_neuronal_decay import published
from xfw_neuronal_decay.analysis import chosen

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["Options", "run"]


@attrs.frozen
class Options:
    """What is written."""

    published: str | None = chosen.published_key()
    trials: tuple[int, ...] | None = chosen.trials_key()
    numbers: tuple[int, ...] | None = chosen.numbers_key()


def run(results: Results | None, options: Options, output: Output) -> None:
    """Write one file for each trial, named after its index (of published files: its seed)."""
    study = chosen.study(results, options)
    chosen.refuse_coarse(study, allowed=False)
    twice = sorted(number for number, count in Counter(s.number for s in study.samples).items() if count > 1)
    if twice:
        numbers = ", ".join(map(str, twice))
        hint = "run them apart: the layout has one place for each experiment"
        raise xfw.WrongInput(f"the run holds several conditions of experiment {numbers}", hint=hint)
    for sample in study.samples:
        if len(set(sample.trials)) < len(sample.trials):
            hint = "export the runs that it was merged from"
            raise xfw.WrongInput(f"experiment {sample.label}: trial indices occur twice in this merged run", hint=hint)
    for trial in sorted({trial for sample in study.samples for trial in sample.trials}):
        text = json.dumps(published.content_of(study.samples, trial), separators=(",", ":"))
        output.file(f"results_{trial}.json", text.encode())
