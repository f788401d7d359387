"""The two Markdown files in the layout of the published results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import xfw

from xfw_psa import architecture
from xfw_psa.analysis import cells
from xfw_psa.analysis.cells import Study
from xfw_psa.analysis.configurations import FORMULAS, listing
from xfw_psa.analysis.published_files import Entry, Summaries, Trials, write_summary, write_trials

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["ANALYZER", "summaries", "trials"]


@attrs.frozen
class Options:
    """Which networks are listed, how their parameters are counted, and where the results come from."""

    config_file: str | None = xfw.key(None, help="list of networks, also those without results; default: those with")
    param_formula: str = xfw.key(
        "actual", choices=FORMULAS, help="the network that is built, or (as published) the plain one for both families"
    )
    summary_file: str | None = cells.summary_file_key()
    trials_file: str | None = cells.trials_file_key()
    family: str | None = cells.family_key()
    only: tuple[str, ...] | None = cells.only_key()


def summaries(study: Study, names: Sequence[str], formula: str = "actual") -> Summaries:
    """Return the summary of these networks."""
    family = "simplemlp" if formula == "plain-mlp" else study.family
    counts = {name: architecture.parameter_count(architecture.parse(name), family) for name in names}
    entries = {place: _entry(cell) for place, cell in study.cells.items()}
    return Summaries(study.family, entries, counts)


def _entry(cell: cells.Cell) -> Entry:
    found = cell.summary
    return Entry(found.n, found.mean, found.sd, found.minimum, found.maximum, cell.status)


def trials(study: Study) -> Trials:
    """Return the single trials' peaks."""
    values = {place: tuple(float(peak) for peak in cell.peaks_T) for place, cell in study.cells.items()}
    return Trials(study.family, values)


def analyse(results: Results | None, options: Options, output: Output) -> None:
    """Write ``psa_<family>_summary.md`` and ``psa_<family>_trials.md``."""
    study = cells.study(results, options)
    names: Sequence[str] = study.architectures
    if options.config_file is not None:
        listed = listing(options.config_file)
        names = listed.names
        for text in listed.warnings:
            output.warn(text)
    text = write_summary(summaries(study, names, options.param_formula), names)
    output.document(f"psa_{study.family}_summary.md", text)
    output.document(f"psa_{study.family}_trials.md", write_trials(trials(study), names))


ANALYZER = xfw.Analyzer(
    "result-files",
    "summary and single trials as Markdown, in the layout of the published results",
    analyse,
    options=Options,
    available=cells.available,
)
