"""The optional feedback layer S3: a restricted Boltzmann machine on the output of S2 (spec 2.7).

Axes: N image, V visible unit (channel and position), J hidden unit, C channel, P position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from xfw_netfragments import lateral
from xfw_netfragments.config import Config
from xfw_netfragments.full import Feedback
from xfw_netfragments.lines import validation_features
from xfw_netfragments.model import Fragments

if TYPE_CHECKING:
    from xfw.engine.block import Block
    from xfw.engine.rng import Rng

__all__ = ["WithFeedback", "adapt", "free_energy", "replace"]

Sampler = Callable[[str, torch.Tensor], torch.Tensor]
"""Draws 0 and 1 with given probabilities, for one purpose."""

BETAS = (0.9, 0.999)
EPSILON = 1e-8
FACTOR, PATIENCE, THRESHOLD, SMALLEST = 0.1, 5, 1e-4, 1e-6
"""The plateau schedule of the learning rate."""

NAMES = ("hidden_weight", "visible_bias", "hidden_bias")


def free_energy(
    visible_NV: torch.Tensor, weight_JV: torch.Tensor, visible_V: torch.Tensor, hidden_J: torch.Tensor
) -> torch.Tensor:
    """Return the mean free energy of a batch."""
    hidden = functional.softplus(visible_NV @ weight_JV.T + hidden_J).sum(1)
    return (-hidden - visible_NV @ visible_V).mean()


def replace(z_NCP: torch.Tensor, imagined_NCP: torch.Tensor, tolerance: float) -> torch.Tensor:
    """Return the imagined output where it is close to the real one, over the cells active in either of them."""
    either = (z_NCP + imagined_NCP) > 0
    count = either.flatten(1).sum(1)
    difference = torch.where(either, (z_NCP - imagined_NCP) ** 2, 0.0).flatten(1).sum(1) / count.clamp_min(1)
    near = (difference < tolerance) & (count > 0)
    return torch.where(near[:, None, None], imagined_NCP, z_NCP)


class WithFeedback(Fragments):
    """S2 with the feedback layer. Its Adam is part of the step: S2 learns by another rule in the same step."""

    acting: torch.Tensor
    learned: torch.Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        visible = config.layer.channels * config.data.size**2
        self.hidden_weight = nn.Parameter(torch.randn(config.s3.hidden, visible), requires_grad=False)
        self.visible_bias = nn.Parameter(torch.randn(visible), requires_grad=False)
        self.hidden_bias = nn.Parameter(torch.randn(config.s3.hidden), requires_grad=False)
        for name in NAMES:
            zeros = torch.zeros_like(getattr(self, name).data)
            self.register_buffer(f"{name}_mean", zeros)
            self.register_buffer(f"{name}_square", zeros.clone())
        self.register_buffer("learned", torch.zeros(()))
        self.register_buffer("learning_rate", torch.tensor(config.s3.learning_rate))
        self.register_buffer("lowest", torch.tensor(torch.inf))
        self.register_buffer("waited", torch.zeros(()))
        self.register_buffer("acting", torch.tensor(float(config.s3.first_epoch <= 1)))

    def imagine(self, visible_NV: torch.Tensor, sample: Sampler, purpose: str) -> torch.Tensor:
        """Return the visible units after k rounds of sampling."""
        for turn in range(self.config.s3.steps):
            hidden = sample(f"{purpose}/h{turn}", self.hidden_probability(visible_NV))
            visible_NV = sample(f"{purpose}/v{turn}", torch.sigmoid(hidden @ self.hidden_weight + self.visible_bias))
        return visible_NV

    def hidden_probability(self, visible_NV: torch.Tensor) -> torch.Tensor:
        """Return p(h | v), (N, J)."""
        return torch.sigmoid(visible_NV @ self.hidden_weight.T + self.hidden_bias)

    def energy_gap(self, visible_NV: torch.Tensor, sample: Sampler, purpose: str) -> torch.Tensor:
        """Return the loss: the free energy of the output less that of its imagined form."""
        imagined = self.imagine(visible_NV, sample, purpose)
        own = (self.hidden_weight, self.visible_bias, self.hidden_bias)
        return free_energy(visible_NV, *own) - free_energy(imagined, *own)

    def feedback(self, rng: Rng) -> Feedback:
        """Return what acts on the output of each time step; nothing before the first epoch of feedback."""
        calls = iter(range(self.config.s2.timesteps))

        def act(z_NCP: torch.Tensor) -> torch.Tensor:
            imagined = self.imagine(z_NCP.flatten(1), sampler(rng), f"s3/{next(calls)}").view_as(z_NCP)
            replaced = replace(z_NCP, imagined, self.config.s3.tolerance)
            return torch.where(self.acting > 0, replaced, z_NCP)

        return act

    def learn(self, active_NCP: torch.Tensor, rng: Rng) -> None:
        """Take one step of Adam on the difference of free energies of the median and its imagined form."""
        visible_NV = active_NCP.flatten(1)
        imagined_NV = self.imagine(visible_NV, sampler(rng), "s3/learn")
        gradients = [a - b for a, b in zip(self._slopes(visible_NV), self._slopes(imagined_NV), strict=True)]
        self.learned.add_(1)
        for name, gradient in zip(NAMES, gradients, strict=True):
            self._adam(name, gradient)

    def _slopes(self, visible_NV: torch.Tensor) -> list[torch.Tensor]:
        """Return the gradients of the free energy in the order of NAMES."""
        p_NJ = self.hidden_probability(visible_NV)
        count = len(visible_NV)
        return [-(p_NJ.T @ visible_NV) / count, -visible_NV.mean(0), -p_NJ.mean(0)]

    def _adam(self, name: str, gradient: torch.Tensor) -> None:
        mean, square = getattr(self, f"{name}_mean"), getattr(self, f"{name}_square")
        mean.mul_(BETAS[0]).add_((1 - BETAS[0]) * gradient)
        square.mul_(BETAS[1]).add_((1 - BETAS[1]) * gradient**2)
        corrected = mean / (1 - BETAS[0] ** self.learned)
        scale = (square / (1 - BETAS[1] ** self.learned)).sqrt() + EPSILON
        getattr(self, name).sub_(self.learning_rate * corrected / scale)


def sampler(rng: Rng) -> Sampler:
    """Return keyed draws of a training step."""
    return lambda purpose, p: rng.bernoulli(purpose, p, p.shape).to(p.dtype)


def adapt(block: Block) -> None:
    """Lower the learning rate where the loss no longer falls, and switch the feedback on when its epoch comes."""
    buffers = block.buffers
    losses = torch.stack([validation_loss(block, lane) for lane in range(block.size)])
    better = losses < buffers["lowest"] * (1 - THRESHOLD)
    buffers["lowest"].copy_(torch.where(better, losses, buffers["lowest"]))
    waited = torch.where(better, 0.0, buffers["waited"] + 1)
    lowered = (buffers["learning_rate"] * FACTOR).clamp_min(SMALLEST)
    buffers["learning_rate"].copy_(torch.where(waited > PATIENCE, lowered, buffers["learning_rate"]))
    buffers["waited"].copy_(torch.where(waited > PATIENCE, 0.0, waited))
    # Epochs count from 1: the one that follows is block.epoch + 2.
    if block.epoch + 2 >= block.configs[0].s3.first_epoch:
        buffers["acting"].fill_(1.0)


def validation_loss(block: Block, lane: int) -> torch.Tensor:
    """Return the loss on the validation images of the epoch."""
    model, config = block.module(lane), block.configs[lane]
    assert isinstance(model, WithFeedback)
    shown = validation_features(block, lane, block.epoch + 1)
    uniform = None if shown.uniform is None else torch.from_numpy(shown.uniform).to(block.device).transpose(0, 1)
    images = torch.from_numpy(shown.features).to(block.device)
    winners = lateral.winners(model.weight, images, config.layer)
    draws = None if uniform is None else uniform.__getitem__
    activity = lateral.settle(model.weight, winners, config.layer, config.dynamics, draws)
    active = lateral.by_channel(lateral.median(activity.z), winners.channel, config.layer)
    generator = block.generator(lane, "validation-s3", block.epoch + 1)

    def sample(_purpose: str, p: torch.Tensor) -> torch.Tensor:
        uniform = generator.random(tuple(p.shape), np.float32)
        return (torch.from_numpy(uniform).to(p.device) < p).to(p.dtype)

    return model.energy_gap(active.flatten(1), sample, "validation")
