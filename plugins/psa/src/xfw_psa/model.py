"""Both families of networks as ordinary modules, named as in the published state files.

Axes: ``x_BI`` batch and input, ``h_BW`` batch and unit.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from xfw_psa.architecture import CLASSES, INPUTS, Stack
from xfw_psa.config import Config, DropoutRates

__all__ = ["Network", "ResidualBlock", "ResidualStack", "build"]


class ResidualBlock(nn.Module):
    """Compute ``h <- ReLU(h + B D_p(ReLU(A h + a)) + b)``; there is no normalisation."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(rate), nn.Linear(width, width))

    def forward(self, h_BW: torch.Tensor) -> torch.Tensor:
        return functional.relu(h_BW + self.layers(h_BW))


class ResidualStack(nn.Module):
    """Apply residual blocks of one width, one after another."""

    def __init__(self, stack: Stack, rate: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(stack.width, rate) for _ in range(stack.count))

    def forward(self, h_BW: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            h_BW = block(h_BW)
        return h_BW


class Network(nn.Module):
    """Classify flattened images by the layers of ``layer_stack``."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layer_stack = nn.Sequential(*layers)

    def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
        logits_BC: torch.Tensor = self.layer_stack(x_BI)
        return logits_BC


def build(config: Config) -> Network:
    """Build the network of a configuration; every linear map has the library's default initialisation."""
    make = _plain_layers if config.family == "simplemlp" else _residual_layers
    return Network(make(config.stacks, config.rates))


def _plain_layers(stacks: tuple[Stack, ...], rates: DropoutRates) -> list[nn.Module]:
    layers: list[nn.Module] = []
    current = INPUTS
    for width in (stack.width for stack in stacks for _ in range(stack.count)):
        layers += [nn.Linear(current, width), nn.ReLU(), nn.Dropout(rates.projection)]
        current = width
    return [*layers, nn.Linear(current, CLASSES)]


def _residual_layers(stacks: tuple[Stack, ...], rates: DropoutRates) -> list[nn.Module]:
    layers: list[nn.Module] = []
    current = INPUTS
    for stack in stacks:
        if stack.width != current:
            layers += [nn.Linear(current, stack.width), nn.ReLU(), nn.Dropout(rates.projection)]
        layers.append(ResidualStack(stack, rates.block))
        current = stack.width
    return [*layers, nn.Linear(current, CLASSES)]
