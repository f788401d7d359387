"""The paper's long table: mean peak accuracy and its deviation for every network and mode, and the winner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import xfw
from xfw.analysis.tables import Column, Table, escape_latex

from xfw_psa.analysis import cells
from xfw_psa.analysis.cells import Moments, Study, moments
from xfw_psa.analysis.configurations import in_order, listing, shape_of
from xfw_psa.config import MODES

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["ANALYZER", "Row", "rows", "to_latex"]

NAME = "trial-accuracy-table"
LABEL = "tab:results_summary_stats"
TIE = 0.01
"""Points between rounded means that still count as equal."""
METRICS = ("validation-peak", "test")


@attrs.frozen
class Options:
    """Which accuracy, in which order, under which caption, and where the results come from."""

    metric: str = xfw.key("validation-peak", choices=METRICS, help="peak validation accuracy, or test accuracy")
    order: str | None = xfw.key(None, help="list of networks whose order the rows have; default: the study's")
    caption: str | None = xfw.key(None, help="caption as plain text; default: what the numbers are")
    label: str = xfw.key(LABEL, help="label of the table in LaTeX")
    output: str | None = xfw.key(None, help="file for the LaTeX alone; - is standard output")
    summary_file: str | None = cells.summary_file_key()
    trials_file: str | None = cells.trials_file_key()
    family: str | None = cells.family_key()
    only: tuple[str, ...] | None = cells.only_key()


@attrs.frozen
class Row:
    """One network: the moments of every mode that has values, and the modes with the largest mean."""

    architecture: str
    modes: Mapping[str, Moments]
    winners: tuple[str, ...]

    @property
    def winner(self) -> str:
        """Return the winner as text, such as ``Tie: decay/output``."""
        return ("Tie: " if len(self.winners) > 1 else "") + "/".join(self.winners)


def rows(study: Study, metric: str = "validation-peak", order: str | None = None) -> list[Row]:
    """Return the rows of all networks that have values."""
    found = []
    for name in in_order(study.architectures, listing(order).shapes):
        modes = {mode: _moments(cell, metric) for mode, cell in study.modes(name).items()}
        modes = {mode: each for mode, each in modes.items() if each.n}
        if modes:
            found.append(Row(name, modes, _winners(modes)))
    return found


def _moments(cell: cells.Cell, metric: str) -> Moments:
    return cell.summary if metric == "validation-peak" else moments(cell.test_T)


def _winners(modes: Mapping[str, Moments]) -> tuple[str, ...]:
    rounded = {mode: round(each.mean, 2) for mode, each in modes.items()}
    best = max(rounded.values())
    return tuple(mode for mode, mean in rounded.items() if round(best - mean, 2) <= TIE)


def caption_of(study: Study, found: Sequence[Row], metric: str) -> str:
    """Return what the numbers are, with the numbers of trials and loops that the data have."""
    sizes = sorted({each.n for row in found for each in row.modes.values()})
    trials = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    quantity = "peak validation accuracy" if metric == "validation-peak" else "test accuracy of the best network"
    loops = f" of {study.loops} loops" if study.loops else ""
    plural = "" if sizes == [1] else "s"
    return f"Mean {quantity} with standard deviation over {trials} trial{plural}{loops} for {study.title}."


def to_latex(found: Sequence[Row], caption: str, label: str) -> str:
    """Return a ``longtable`` environment; it needs the packages booktabs and longtable."""
    titles = ("Architecture", *(mode.capitalize() for mode in MODES), "Winner")
    head = [
        r"\toprule",
        " & ".join(rf"\textbf{{{title}}}" for title in titles) + r" \\",
        rf" & \multicolumn{{{len(MODES)}}}{{c}}{{Mean $\pm$ Std (\%)}} & \\",
        r"\midrule",
    ]
    width = len(titles)
    lines = [
        r"{\tiny",
        r"\begin{longtable}{@{}lccccccl@{}}",
        rf"\caption{{{escape_latex(caption)}}} \label{{{label}}} \\",
        *head,
        r"\endfirsthead",
        rf"\multicolumn{{{width}}}{{c}}{{\tablename\ \thetable{{}} -- continued from previous page}} \\",
        *head,
        r"\endhead",
        r"\midrule",
        rf"\multicolumn{{{width}}}{{r}}{{Continued on next page}} \\",
        r"\endfoot",
        r"\bottomrule",
        r"\endlastfoot",
        *(_latex_row(row) for row in found),
        r"\end{longtable}",
        r"}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(row: Row) -> str:
    shape = shape_of(row.architecture)
    name = f"${shape.text}$" if shape is not None else escape_latex(row.architecture)
    winner = ("Tie: " if len(row.winners) > 1 else "") + "/".join(rf"\texttt{{{mode}}}" for mode in row.winners)
    return " & ".join([name, *(_latex_cell(row, mode) for mode in MODES), winner]) + r" \\"


def _latex_cell(row: Row, mode: str) -> str:
    if mode not in row.modes:
        return "N/A"
    numbers = rf"{row.modes[mode].mean:.2f} \pm {row.modes[mode].sd:.2f}"
    return rf"$\mathbf{{{numbers}}}$" if mode in row.winners else f"${numbers}$"


def analyse(results: Results | None, options: Options, output: Output) -> None:
    """Print and write the table; with ``output`` its LaTeX alone."""
    study = cells.study(results, options)
    found = rows(study, options.metric, options.order)
    if not found:
        raise xfw.UserError(f"{study.origin}: no network has a value of '{options.metric}'")
    caption = options.caption or caption_of(study, found, options.metric)
    latex = to_latex(found, caption, options.label)
    if options.output is not None:
        output.document(f"{NAME}.tex", latex, options.output)
        return
    output.table(NAME, _table(study, found, caption, options.label), latex=latex)


def _table(study: Study, found: Sequence[Row], caption: str, label: str) -> Table:
    pairs = [(Column(f"mean_{mode}", mode, form=".2f"), Column(f"sd_ddof0_{mode}", "SD", form=".2f")) for mode in MODES]
    return Table(
        columns=(Column("architecture", "architecture"), *(each for pair in pairs for each in pair), _WINNER),
        rows=tuple((row.architecture, *_numbers(row), row.winner) for row in found),
        caption=caption,
        label=label,
        notes=(f"Percent; SD with divisor n. Means that differ by at most {TIE} are a tie. {study.origin}.",),
    )


_WINNER = Column("winner", "winner")


def _numbers(row: Row) -> list[Any]:
    found = [row.modes.get(mode) for mode in MODES]
    return [number for each in found for number in ((each.mean, each.sd) if each else (math.nan, math.nan))]


ANALYZER = xfw.Analyzer(
    NAME,
    "mean peak accuracy and deviation of every network and mode, and the winner",
    analyse,
    options=Options,
    available=cells.available,
)
