"""The network (spec section 3) and one training step with its evaluation (sections 2.2, 2.3 and 4.4).

Axes: B example of the batch, H hidden unit, K task, N test image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.data import Phase

if TYPE_CHECKING:
    from xfw.engine.batches import Resident
    from xfw.engine.rng import Rng

__all__ = ["CLASSES", "INPUTS", "Network", "activity", "build", "evaluated", "loss_terms", "products"]

INPUTS, CLASSES = 784, 10

ROWS = 4
"""Tested images are filled up to a multiple of this: on a CPU the trials' products of other sizes are taken apart."""


class Network(nn.Module):
    """Two hidden layers of rectified units; ``decay_lambda`` is λ, zero where decay is off."""

    decay_lambda: torch.Tensor

    def __init__(self, width: int, decay_lambda: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, width), nn.Linear(width, width)
        self.head = nn.Linear(width, CLASSES)
        self.register_buffer("decay_lambda", torch.tensor(decay_lambda))

    def forward(self, x_BP: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the logits and the activations of both hidden layers."""
        in_place = not torch.is_grad_enabled()  # an evaluation of all tasks is large: it keeps no second copy
        h1_BH = functional.relu(self.first(x_BP), inplace=in_place)
        h2_BH = functional.relu(self.second(h1_BH), inplace=in_place)
        return self.head(h2_BH), h1_BH, h2_BH


def build(config: Config) -> Network:
    """Return a network with PyTorch's initial weights."""
    return Network(config.width, config.strength)


def activity(h1_BH: torch.Tensor, h2_BH: torch.Tensor) -> torch.Tensor:
    """Return R, the sum of all squared hidden activations: over units, layers and the batch (spec 2.2)."""
    return (h1_BH.square().sum(-1) + h2_BH.square().sum(-1)).sum()


def loss_terms(model: Network, batch: tuple[torch.Tensor, ...], phase: Phase) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cross-entropy of a batch and the decay term, whose sum is the loss (spec 2.2)."""
    images, labels = batch
    logits, h1_BH, h2_BH = model(images)
    penalty = model.decay_lambda * activity(h1_BH, h2_BH)
    return functional.cross_entropy(logits, labels), penalty / len(labels) if phase.mean_batch else penalty


@torch.no_grad()
def evaluated(model: Any, phase: Phase, rng: Rng, test: Resident) -> dict[str, torch.Tensor]:
    """Return the correct answers and the tested images of every task, -1 for tasks that are not seen yet."""
    count = len(test) // phase.tasks
    chosen = [place + task * count for task, place in enumerate(_subsets(rng, phase, count, model.decay_lambda.device))]
    rows = phase.task * phase.tested
    images, labels = test.take(torch.cat([*chosen, chosen[0][: -rows % ROWS]]))
    right_KN = (model(images)[0].argmax(-1) == labels)[:rows].view(phase.task, phase.tested)
    unseen = labels.new_full((phase.tasks - phase.task,), -1)
    tested = labels.new_full((phase.task,), phase.tested)
    return {"correct": torch.cat([right_KN.sum(-1), unseen]), "tested": torch.cat([tested, unseen])}


def _subsets(rng: Rng, phase: Phase, count: int, device: torch.device) -> list[torch.Tensor]:
    """Return a fresh random subset of the test images for each task seen, or all of them in order."""
    if phase.tested == count:
        return [torch.arange(count, device=device)] * phase.task
    return [rng.permutation(f"subset{task + 1}", count)[: phase.tested] for task in range(phase.task)]


def products(config: Config, batch: int) -> int:
    """Return the multiply-accumulates of one forward pass over a batch, the penalty's own included."""
    width = config.width
    one = INPUTS * width + width * width + CLASSES * width + (2 * width if config.decay else 0)
    return one * batch
