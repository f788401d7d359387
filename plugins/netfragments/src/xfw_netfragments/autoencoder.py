"""The baseline: a convolutional autoencoder of the features of lines (spec 2.6).

Axes: T trial, N line, B draw of a batch, F feature, H row, W column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import xfw
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from xfw_netfragments.config import Config
from xfw_netfragments.lines import validation_order
from xfw_netfragments.records import AUTOENCODER_WIDTHS, LOWEST_ERROR

if TYPE_CHECKING:
    from xfw.engine.batches import Resident
    from xfw.engine.block import Block
    from xfw.store.results import TrialSource

__all__ = ["Autoencoder", "finish", "finish_epoch", "keep", "reconstruction", "start"]

SIDE = 3
LIMIT = 0.5


class Autoencoder(nn.Module):
    """Four convolutions of stride 2 and four transposed ones, with ReLU between them."""

    def __init__(self) -> None:
        super().__init__()
        widths = AUTOENCODER_WIDTHS
        down = [nn.Conv2d(a, b, SIDE, stride=2, padding=1) for a, b in pairwise(widths)]
        up = [nn.ConvTranspose2d(a, b, SIDE, stride=2, padding=1, output_padding=1) for a, b in pairwise(widths[::-1])]
        self.layers = nn.ModuleList([*down, *up])

    def forward(self, features_NFHW: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction, (N, F, H, W); not limited to [0, 1]."""
        hidden = features_NFHW
        for layer in self.layers[:-1]:
            hidden = functional.relu(layer(hidden))
        return torch.as_tensor(self.layers[-1](hidden))


def reconstruction(model: Autoencoder, batch: tuple[torch.Tensor, ...], lines: Resident) -> torch.Tensor:
    """Return the mean squared error of a batch of draws.

    There are 58 lines only: each is passed through the network once, and counts as often as it was drawn.
    """
    number_N = torch.arange(len(lines), device=batch[1].device)
    features_NFHW = lines.take(number_N)[0]
    drawn_N = (batch[1][:, None] == number_N).sum(0)
    error_N = ((model(features_NFHW) - features_NFHW) ** 2).mean((1, 2, 3))
    return torch.as_tensor((error_N * drawn_N).sum() / batch[1].shape[0])


def output(model: Autoencoder, features_NFHW: torch.Tensor) -> torch.Tensor:
    """Return the output limited to [0, 1], without gradients."""
    with torch.no_grad():
        return torch.as_tensor(model(features_NFHW)).clamp(0, 1)


def errors(model: Autoencoder, features_NFHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the four errors of every line, each (N,)."""
    with torch.no_grad():
        found = model(features_NFHW)
    difference = found - features_NFHW
    binary = (found > LIMIT).to(found.dtype) - (features_NFHW > LIMIT).to(found.dtype)
    return {
        "validation_mse": (difference**2).mean((1, 2, 3)),
        "validation_mae": difference.abs().mean((1, 2, 3)),
        "validation_mse_binary": (binary**2).mean((1, 2, 3)),
        "validation_mae_binary": binary.abs().mean((1, 2, 3)),
    }


def start(block: Block, source: Sequence[TrialSource] | None) -> None:
    """Take over the best state of another run, if there is one."""
    block.values["lowest"] = torch.full((block.size,), torch.inf, dtype=torch.float64, device=block.device)
    block.snapshot("best")
    if source is None:
        return
    for lane, each in enumerate(source):
        stored = each.weights("best")
        if stored is None:
            raise xfw.UserError(f"--from: run {each.run} holds no autoencoder for trial {each.trial}", exit_code=2)
        block.load_snapshot("best", lane, stored)
        block.values["lowest"][lane] = float(each.arrays.get(LOWEST_ERROR.name, np.inf))
    block.restore("best")
    block.done_epochs = int(source[0].arrays.get("epochs_done", 0))


def finish_epoch(block: Block, metrics: Mapping[str, torch.Tensor]) -> None:
    """Measure the errors on the validation lines, and keep the state with the lowest one."""
    features = block.data["lines"].tensors[0]
    found = []
    for lane in range(block.size):
        config: Config = block.configs[lane]
        draws = _counts(block, config, lane, len(features))
        weights_N = torch.from_numpy(draws / draws.sum()).to(block.device)
        by_line = errors(block.module(lane), features.to(block.dtype))  # type: ignore[arg-type]
        found.append({name: (values.double() * weights_N).sum() for name, values in by_line.items()})
    stacked = {name: torch.stack([each[name] for each in found]) for name in found[0]}
    best = stacked["validation_mse"] < block.values["lowest"]
    block.values["lowest"] = torch.where(best, stacked["validation_mse"], block.values["lowest"])
    block.snapshot("best", best)
    epoch = np.full(block.size, block.epoch + 1)
    block.record("epoch", epoch=epoch, train_mse=metrics["loss"], best=best, **stacked)


def _counts(block: Block, config: Config, lane: int, lines: int) -> NDArray[np.int64]:
    order = validation_order(
        config,
        block.members[lane].trial,
        lambda purpose, counter: block.generator(lane, purpose, counter),
        block.epoch + 1,
    )
    return np.bincount(order, minlength=lines)


def finish(block: Block) -> None:
    """Go on with the best state."""
    block.restore("best")


def keep(block: Block) -> None:
    """Store the best state."""
    block.array(LOWEST_ERROR.name, block.values["lowest"])
    for name, values in block.snapshot_views("best").items():
        block.array(f"best/{name}", values)
