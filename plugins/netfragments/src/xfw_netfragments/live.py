"""Draw validation images and weights while training goes on, into the run's ``report/live`` (spec 6.3).

Axes: N image, T time step, F feature, P position, H row, W column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from xfw.analysis import figures

from xfw_netfragments.config import Config
from xfw_netfragments.layer import FEATURES, median_rank
from xfw_netfragments.lines import drawn_lines, validation_features
from xfw_netfragments.outputs import Output, present
from xfw_netfragments.rasters import draw_all
from xfw_netfragments.s1 import DIVISOR, KERNELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xfw.engine.block import Block

__all__ = ["draw", "draw_kernels"]

OPACITY = 0.7
BINS = 20
INCHES = 2.0


def draw(block: Block, epoch: int) -> None:
    """Draw every trial's validation images and weights."""
    if epoch == 0:
        draw_kernels(block)
    shown = [validation_features(block, lane, epoch) for lane in range(block.size)]
    outputs = present(
        block, [each.features for each in shown], [block.configs[0].dynamics], [each.uniform for each in shown]
    )
    for lane, member in enumerate(block.members):
        name = f"epoch{epoch:04d}_condition{member.condition}_trial{member.trial}"
        config: Config = block.configs[lane]
        images = draw_all(drawn_lines(config.data.lines, config.data.size), config.data.size)[shown[lane].lines]
        for place, image in enumerate(images):
            present_features = shown[lane].features[place] > 0.5
            _save(block, f"{name}_image{place}.png", _activity(image, present_features, outputs[lane][0], place))
        _save(block, f"{name}_weights.png", _weights(block.parameters["weight"][lane].detach().cpu()))


def draw_kernels(block: Block) -> None:
    """Draw the kernels of S1: a histogram of their entries, and the four of them."""
    config: Config = block.configs[0]
    kernels = KERNELS[config.s1.filters] / DIVISOR[config.s1.filters]
    with figures.styled():
        figure, (axes,) = figures.new_panels(INCHES * (1 + FEATURES), INCHES, 1, 1 + FEATURES)
        axes[0].hist(kernels.ravel(), bins=BINS)
        for place, kernel in enumerate(kernels):
            shades = axes[1 + place].imshow(kernel, cmap="gray", vmin=kernels.min(), vmax=kernels.max())
            _bare(axes[1 + place])
        figure.colorbar(shades, ax=axes[1:])
    _save(block, "kernels.png", figure)


def _save(block: Block, name: str, figure: Figure) -> None:
    block.live(name).write_bytes(figures.render(figure, "png"))


def _activity(image: NDArray[np.uint8], features_FHW: NDArray[np.bool_], output: Output, place: int) -> Figure:
    """Return image, features, median output, and the output of each time step."""
    z_TFHW = output.z[place].reshape(-1, *features_FHW.shape)
    median = z_TFHW.sum(0) >= median_rank(len(z_TFHW))
    panels: Sequence[tuple[str, NDArray[np.bool_] | None]] = [
        ("image", None),
        ("features", features_FHW),
        ("median", median),
        *((f"step {step + 1}", z) for step, z in enumerate(z_TFHW)),
    ]
    with figures.styled():
        figure, (axes,) = figures.new_panels(INCHES * len(panels), INCHES + 0.3, 1, len(panels), dpi=100)
        for where, (title, active) in zip(axes, panels, strict=True):
            where.imshow(image, cmap="gray")
            if active is not None:
                where.imshow(_overlay(active), alpha=OPACITY)
            where.set_title(title)
            _bare(where)
    return figure


def _overlay(active_FHW: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the colour of the first active feature at every place, black where there is none, (H, W, 3)."""
    from matplotlib import colormaps

    first = np.where(active_FHW.any(0), active_FHW.argmax(0) + 1, 0)
    colours = colormaps["jet"](first / (FEATURES + 1))[..., :3]
    return np.asarray(np.where(first[..., None] > 0, colours, 0.0))


def _weights(weight: torch.Tensor) -> Figure:
    """Return the weights as grey images, a column for each cell, a row for each input; each has its own range."""
    low, high = weight.amin((2, 3), keepdim=True), weight.amax((2, 3), keepdim=True)
    scaled = (weight - low) / (high - low).clamp_min(1e-12)
    framed = torch.nn.functional.pad(scaled, (0, 1, 0, 1), value=0.5)
    channels, inputs, side, _ = framed.shape
    mosaic = framed.permute(1, 2, 0, 3).reshape(inputs * side, channels * side)
    with figures.styled():
        figure, axes = figures.new_figure(8.0, 8.0 * mosaic.shape[0] / mosaic.shape[1], dpi=100)
        axes.imshow(mosaic.numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_xlabel("cell")
        axes.set_ylabel("input")
        _bare(axes)
    return figure


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
