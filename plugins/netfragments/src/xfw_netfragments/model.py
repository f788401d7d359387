"""The modules whose tensors the framework trains, and the code that runs S2's steps on a device."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import torch
import xfw
from torch import nn

from xfw_netfragments import sparse
from xfw_netfragments.config import Config
from xfw_netfragments.layer import initial_weights

__all__ = ["Fragments", "host_kernel", "on_host"]


class Fragments(nn.Module):
    """S2: its lateral weights W (C, F+C, K, K), and what fixes its rule."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        start = initial_weights(config.layer, config.s2.alternatives > 1 or config.s2.self_connection)
        self.weight = nn.Parameter(torch.from_numpy(start), requires_grad=False)
        self.config = config
        self.recall: Any = None

    @property
    def host(self) -> bool:
        """Whether a step costs what its active cells cost: on a CPU, for the rule of the paper."""
        return on_host(self.weight, self.config) and not self.config.s3.enabled


def on_host(weight: torch.Tensor, config: Config) -> bool:
    """Tell whether a CPU runs S2 at the cost of its active cells: with several alternatives, in the paper's form."""
    return weight.device.type == "cpu" and config.s2.alternatives > 1 and config.s2.variant == "2024"


def host_kernel(choice: str) -> ModuleType:
    """Return the code of a CPU's steps; compiled where numba is installed. Both give the same numbers."""
    if choice == "numpy" or (choice == "auto" and importlib.util.find_spec("numba") is None):
        return sparse
    from xfw_netfragments import compiled

    return compiled


def host_weight(model: Fragments) -> np.ndarray:
    """Return the weights as an array that shares the memory of the parameter."""
    return model.weight.detach().numpy()


def require_float32(dtype: torch.dtype) -> None:
    """Refuse numbers in which a comparison of supports could flip (spec 9.3)."""
    if dtype != torch.float32:
        raise xfw.WrongInput(
            f"netfragments: S2 is computed in float32, found --dtype {str(dtype).removeprefix('torch.')}",
            hint="leave --dtype out: its sums are exact as they are",
        )
    if torch.get_float32_matmul_precision() != "highest":
        raise xfw.WrongInput(
            "netfragments: --allow-tf32 is refused: a flipped comparison changes the course of training",
            hint="leave --allow-tf32 out",
        )
