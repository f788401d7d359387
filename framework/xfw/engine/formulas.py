"""The elementwise optimizers of ``torch.optim``, each as what one update adds to one trial's parameters.

A formula sees a trial's entries ``p`` and their gradients ``g`` as ``[P]``, what it keeps (``s.entry(name)`` is
``[P]``, ``s.number(name)`` 0-d, both zero before the first update and written in place), the number ``t`` of this
update counted from one, and its values as 0-d float64 tensors (or 0.0 where no trial of a block has another value).
Only single operations on single entries occur, so that no bit depends on where an entry lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

__all__ = ["FORMULAS", "Formula", "Kept"]

Tensor = torch.Tensor
Number = torch.Tensor
"""A 0-d float64 tensor; the Python number 0.0 stands for a zero of all trials."""

Pair = tuple[Number, Number]


class Kept(Protocol):
    """What an optimizer keeps of one trial from update to update."""

    def entry(self, name: str) -> Tensor:
        """Return the tensor ``[P]`` of that name, one number for each entry of the parameters."""

    def number(self, name: str) -> Tensor:
        """Return the 0-d float64 tensor of that name."""


Formula = Callable[..., Tensor]


def _absent(value: object) -> bool:
    return isinstance(value, float)


def _average(mean: Tensor, new: Tensor, beta: Number) -> Tensor:
    """Move an exponential moving average, in place."""
    return mean.mul_(beta).add_((1 - beta) * new)


def _regularised(p: Tensor, g: Tensor, weight_decay: Number, maximize: bool) -> Tensor:
    g = -g if maximize else g
    return g if _absent(weight_decay) else g + weight_decay * p


def _decay(
    p: Tensor, g: Tensor, lr: Number, weight_decay: Number, decoupled: bool, maximize: bool
) -> tuple[Tensor, Tensor | float]:
    """Return the gradient with what decay adds to it, and what decay adds to the parameters (Loshchilov & Hutter)."""
    if not decoupled:
        return _regularised(p, g, weight_decay, maximize), 0.0
    return (-g if maximize else g), 0.0 if _absent(weight_decay) else -(lr * weight_decay) * p


def sgd(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *,
    lr: Number, momentum: Number, dampening: Number, weight_decay: Number, nesterov: bool, maximize: bool,
) -> Tensor:  # fmt: skip
    """Sutskever et al. 2013 as torch writes it: the first gradient enters the velocity undamped."""
    g = _regularised(p, g, weight_decay, maximize)
    if _absent(momentum):
        return -lr * g
    velocity = s.entry("momentum_buffer")
    share = torch.where(t == 1, 1.0, 1 - dampening)
    velocity.mul_(momentum).add_(share * g)
    step = g + momentum * velocity if nesterov else velocity
    return -lr * torch.where(momentum == 0, g, step)


def adam(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, betas: Pair, eps: Number,
    weight_decay: Number, amsgrad: bool, maximize: bool, decoupled_weight_decay: bool = False,
) -> Tensor:  # fmt: skip
    """Kingma & Ba 2015, algorithm 1; the greatest second moment so far: Reddi et al. 2018."""
    g, decayed = _decay(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
    first = _average(s.entry("exp_avg"), g, betas[0])
    second = _average(s.entry("exp_avg_sq"), g * g, betas[1])
    if amsgrad:
        greatest = s.entry("max_exp_avg_sq")
        second = greatest.copy_(torch.maximum(greatest, second))
    return decayed - lr / (1 - betas[0] ** t) * (first / (second.sqrt() / (1 - betas[1] ** t).sqrt() + eps))


def adamw(p: Tensor, g: Tensor, s: Kept, t: Tensor, **values: Any) -> Tensor:
    """Loshchilov & Hutter 2019, algorithm 2."""
    return adam(p, g, s, t, **values, decoupled_weight_decay=True)


def nadam(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, betas: Pair, eps: Number,
    weight_decay: Number, momentum_decay: Number, decoupled_weight_decay: bool, maximize: bool,
) -> Tensor:  # fmt: skip
    """Dozat 2016."""
    g, decayed = _decay(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
    mu = betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    following = betas[0] * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    product = s.number("mu_product")
    product.copy_(torch.where(t == 1, 1.0, product) * mu)
    first = _average(s.entry("exp_avg"), g, betas[0])
    second = _average(s.entry("exp_avg_sq"), g * g, betas[1])
    scale = (second / (1 - betas[1] ** t)).sqrt() + eps
    ahead = g * (lr * (1 - mu) / (1 - product)) + first * (lr * following / (1 - product * following))
    return decayed - ahead / scale


def radam(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, betas: Pair, eps: Number,
    weight_decay: Number, decoupled_weight_decay: bool, maximize: bool,
) -> Tensor:  # fmt: skip
    """Liu et al. 2020, algorithm 2."""
    g, decayed = _decay(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
    first = _average(s.entry("exp_avg"), g, betas[0])
    second = _average(s.entry("exp_avg_sq"), g * g, betas[1])
    bias = 1 - betas[1] ** t
    longest = 2 / (1 - betas[1]) - 1
    length = longest - 2 * t * betas[1] ** t / bias
    tractable = length > 5
    safe = torch.where(tractable, length, 6.0)
    rectified = ((safe - 4) * (safe - 2) * longest / ((longest - 4) * (longest - 2) * safe)).sqrt() * bias.sqrt()
    step = lr / (1 - betas[0] ** t) * first
    return decayed - torch.where(tractable, step * rectified / (second.sqrt() + eps), step)


def rmsprop(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, alpha: Number, eps: Number,  # noqa: ARG001
    weight_decay: Number, momentum: Number, centered: bool, maximize: bool,
) -> Tensor:  # fmt: skip
    """Hinton's lecture; centered: Graves 2013."""
    g = _regularised(p, g, weight_decay, maximize)
    second = _average(s.entry("square_avg"), g * g, alpha)
    if centered:
        mean = _average(s.entry("grad_avg"), g, alpha)
        second = second - mean * mean
    step = g / (second.sqrt() + eps)
    return -lr * (step if _absent(momentum) else s.entry("momentum_buffer").mul_(momentum).add_(step))


def adagrad(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, lr_decay: Number, weight_decay: Number,
    initial_accumulator_value: Number, eps: Number, maximize: bool,
) -> Tensor:  # fmt: skip
    """Duchi et al. 2011."""
    g = _regularised(p, g, weight_decay, maximize)
    total = s.entry("sum")
    total.add_(torch.where(t == 1, 1.0, 0.0) * initial_accumulator_value).add_(g * g)
    return -(lr / (1 + (t - 1) * lr_decay)) * (g / (total.sqrt() + eps))


def adadelta(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, rho: Number, eps: Number,  # noqa: ARG001
    weight_decay: Number, maximize: bool,
) -> Tensor:  # fmt: skip
    """Zeiler 2012."""
    g = _regularised(p, g, weight_decay, maximize)
    second = _average(s.entry("square_avg"), g * g, rho)
    moved = s.entry("acc_delta")
    step = (moved + eps).sqrt() / (second + eps).sqrt() * g
    _average(moved, step * step, rho)
    return -lr * step


def adamax(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, betas: Pair, eps: Number,
    weight_decay: Number, maximize: bool,
) -> Tensor:  # fmt: skip
    """Kingma & Ba 2015, algorithm 2."""
    g = _regularised(p, g, weight_decay, maximize)
    first = _average(s.entry("exp_avg"), g, betas[0])
    greatest = s.entry("exp_inf")
    greatest.copy_(torch.maximum(betas[1] * greatest, g.abs() + eps))
    return -(lr / (1 - betas[0] ** t)) * (first / greatest)


def asgd(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, lambd: Number, alpha: Number, t0: Number,
    weight_decay: Number, maximize: bool,
) -> Tensor:  # fmt: skip
    """Polyak & Juditsky 1992; ``ax`` is the average of the parameters from update ``t0`` on."""
    g = _regularised(p, g, weight_decay, maximize)
    eta = lr / (1 + lambd * lr * (t - 1)) ** alpha
    change = -(lambd * eta) * p - eta * g
    average = s.entry("ax")
    average.add_(((p + change) - average) / torch.clamp(t - 1 - t0, min=1.0))
    return change


def rprop(
    p: Tensor, g: Tensor, s: Kept, t: Tensor, *, lr: Number, etas: Pair,  # noqa: ARG001
    step_sizes: Pair, maximize: bool,
) -> Tensor:  # fmt: skip
    """Riedmiller & Braun 1993; no step where the sign of the gradient has turned."""
    g = -g if maximize else g
    before, size = s.entry("prev"), s.entry("step_size")
    agreement = g * before
    size.copy_(torch.where(t == 1, torch.zeros_like(size) + lr, size))
    factor = torch.where(agreement > 0, torch.zeros_like(g) + etas[1], torch.where(agreement < 0, etas[0] + 0 * g, 1.0))
    size.copy_(torch.minimum(torch.maximum(size * factor, step_sizes[0] + 0 * g), step_sizes[1] + 0 * g))
    before.copy_(torch.where(agreement < 0, 0.0, g))
    return -before.sign() * size


FORMULAS: Mapping[str, Formula] = {
    "SGD": sgd, "Adam": adam, "AdamW": adamw, "NAdam": nadam, "RAdam": radam, "RMSprop": rmsprop, "Adagrad": adagrad,
    "Adadelta": adadelta, "Adamax": adamax, "ASGD": asgd, "Rprop": rprop,
}  # fmt: skip
"""The optimizers of ``torch.optim`` that treat every entry by itself."""
