"""The analyzer ``design-space``: the networks of the study as rectangles in the depth-width plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import xfw
from xfw.analysis import figures
from xfw.analysis.output import Output

from xfw_psa.analysis import configurations, labels, plane
from xfw_psa.analysis.configurations import Shape
from xfw_psa.analysis.published_files import FAMILY_TITLES
from xfw_psa.config import FAMILIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xfw.store.results import Results

__all__ = ["ANALYZER", "Options", "draw", "run"]

LIMIT = 3000.0


@attrs.frozen
class Options:
    """What is drawn, and how."""

    config_file: str | None = xfw.key(None, help="list of networks, one DEPTH*WIDTH a line; default: the study's 98")
    family: str = xfw.key("simplemlp", choices=FAMILIES, help="family that title and file name speak of")
    legacy_rectangles: bool = xfw.key(False, help="rectangles that end one unit too far, as the published figure's")


def run(results: Results | None, options: Options, output: Output) -> None:  # noqa: ARG001
    """Write the figure; it needs no run."""
    listing = configurations.listing(options.config_file)
    for warning in listing.warnings:
        output.say(warning)
    if not listing.shapes:
        raise xfw.UserError(f"'{options.config_file}' names no network: there is nothing to draw")
    family = FAMILY_TITLES[options.family]
    output.figure(f"{family}_Testing_Design_Space", draw(listing.shapes, family, legacy=options.legacy_rectangles))


def draw(shapes: Sequence[Shape], family: str, *, legacy: bool = False) -> Figure:
    """Draw every network as a rectangle from (1, 1) to (depth, width); ``legacy`` gives the sides these lengths."""
    with figures.styled():
        figure, axes = plane.new_plane(f"{family}: Testing Design Space", limit=LIMIT)
        axes.grid(True, which="both", linestyle="--", alpha=0.5)
        for shape in shapes:
            _draw_rectangle(axes, shape, 0 if legacy else 1)
        labels.draw(axes, labels.place(shapes, labels.BESIDE), labels.BESIDE, zorder=10)
    return figure


def _draw_rectangle(axes: Axes, shape: Shape, less: int) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle(
            (1, 1),
            shape.depth - less,
            shape.width - less,
            facecolor="cyan",
            edgecolor="blue",
            alpha=0.3,
            linewidth=1,
            zorder=3 if shape.depth == shape.width else 2,
        )
    )


ANALYZER = xfw.Analyzer(
    "design-space", "the networks of the study in the depth-width plane", run, options=Options, needs_run=False
)
