"""The table of all networks with their numbers of parameters, and which have a partner of equal size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import xfw
from xfw.analysis.tables import Table, columns

from xfw_psa.analysis.configurations import FORMULAS, asymmetric, listing, parameters
from xfw_psa.config import FAMILIES

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["ANALYZER", "rows", "to_latex"]

CAPTION = "Parameters for Network Architectures"
LABEL = "tab:architecture_parameters"
NAME = "architecture-table"


@attrs.frozen
class Options:
    """Which networks, and how their parameters are counted."""

    param_formula: str = xfw.key(
        "actual", choices=FORMULAS, help="the network that is built, or (as published) the plain one for both families"
    )
    family: str = xfw.key("resmlp", choices=FAMILIES, help="the family whose parameters are counted")
    config_file: str | None = xfw.key(None, help="list of networks; default: the 98 of the study")
    asymmetric_file: str | None = xfw.key(None, help="list of networks without a partner; default: the study's 30")
    output: str | None = xfw.key(None, help="file for the LaTeX alone; - is standard output")


Row = tuple[str, int, str]


def rows(options: Options) -> list[Row]:
    """Return network, parameters and ``Matched`` or ``Asymmetric``, in the order of the list."""
    unmatched = asymmetric(options.asymmetric_file)
    return [
        (
            shape.text,
            parameters(shape, options.param_formula, options.family),
            "Asymmetric" if shape in unmatched else "Matched",
        )
        for shape in listing(options.config_file).shapes
    ]


def to_latex(found: list[Row]) -> str:
    """Return the ``table`` environment of the paper; it needs the package booktabs."""
    titles = " & ".join(rf"\textbf{{{title}}}" for title in ("Architecture", "Parameters", "Parameter Matching"))
    lines = [
        r"\begin{table}[htbp]",
        r"  \centering",
        rf"  \caption{{{CAPTION}}}",
        rf"  \label{{{LABEL}}}",
        r"  \begin{tabular}{lcl}",
        r"    \toprule",
        rf"    {titles} \\",
        r"    \midrule",
        *(rf"    {name} & {count:,} & {matching} \\" for name, count, matching in found),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def analyse(_: Results | None, options: Options, output: Output) -> None:
    """Print and write the table; with ``output`` its LaTeX alone."""
    for text in listing(options.config_file).warnings:
        output.warn(text)
    found = rows(options)
    if options.output is not None:
        output.document(f"{NAME}.tex", to_latex(found), options.output)
        return
    table = Table(
        columns=columns(
            ("architecture", "architecture"), ("parameters", "parameters", "", ",d"), ("matching", "parameter matching")
        ),
        rows=tuple(found),
        caption=CAPTION,
        label=LABEL,
    )
    output.table(NAME, table, latex=to_latex(found))


ANALYZER = xfw.Analyzer(
    NAME, "parameters of all networks, and which have a partner", analyse, options=Options, needs_run=False
)
