"""The networks of the paper and of its small reproductions, built anew from their tables.

Three classes: ``default`` (small networks for any images), ``tinyimagenet`` (VGG and ResNet sized for 32 to 64 pixels)
and ``imagenet`` (torchvision's own). ``build`` returns a network for images of a shape and a number of classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import nn

__all__ = ["VGG", "Residual", "build"]

Shape = tuple[int, int, int]

VGG = {
    11: "64 M 128 M 256 256 M 512 512 M 512 512 M",
    13: "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
ACTIVATIONS = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}  # fmt: skip


def build(
    model_class: str, name: str, shape: Shape, classes: int, *, hidden: Sequence[int] = (32, 32), norm: bool = False,
    eps: float = 1e-5, activation: str = "relu", norm_position: str = "post",
) -> nn.Module:  # fmt: skip
    """Return a network for images of ``shape`` (channels, height, width).

    ``hidden``, ``norm`` (batch normalisation), ``eps`` and ``activation`` shape ``mlp`` and ``cnn``; ``norm`` with its
    ``norm_position`` (``"post"``: behind the ReLU, where no symmetry belongs to it) also ``conv``.
    """
    if model_class == "imagenet":
        from torchvision import models

        return models.get_model(name, weights=None, num_classes=classes)  # type: ignore[no-any-return]
    if model_class == "tinyimagenet":
        if name.startswith("vgg"):
            return vgg(int(re.sub(r"\D", "", name)), shape, classes, norm=name.endswith("-bn"))
        depth = int(re.sub(r"\D", "", name))
        return Residual(depth, shape, classes, wide=name.startswith("wide-"), norm=not name.endswith("-nobn"))
    features, (channels, height, width) = shape[0] * shape[1] * shape[2], shape
    make = ACTIVATIONS[activation]
    if name == "logistic":
        return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))
    if name in ("fc", "fc-bn"):
        return perceptron(features, (100,) * 5, classes, norm=name == "fc-bn", eps=1e-5, make=nn.ReLU)
    if name == "mlp":
        return perceptron(features, hidden, classes, norm=norm, eps=eps, make=make)
    if name == "conv":
        layers: list[nn.Module] = []
        for inputs in (channels, 32):
            after = [nn.BatchNorm2d(32, eps=eps)] if norm else []
            before, behind = (after, []) if norm_position == "pre" else ([], after)
            layers += [nn.Conv2d(inputs, 32, 3, padding=1), *before, make(), *behind]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * height * width, classes))
    layers = []
    for inputs, outputs in ((channels, 8), (8, 16)):
        between = [nn.BatchNorm2d(outputs, eps=eps)] if norm else []
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *between, make(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * (height // 4) * (width // 4), classes))


def perceptron(
    inputs: int, hidden: Sequence[int], classes: int, *, norm: bool, eps: float, make: Callable[[], nn.Module]
) -> nn.Module:
    """Return linear layers, each with an optional batch normalisation and an activation, and a classifier."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in hidden:
        between = [nn.BatchNorm1d(width, eps=eps)] if norm else []
        layers += [nn.Linear(inputs, width), *between, make()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


def vgg(depth: int, shape: Shape, classes: int, *, norm: bool) -> nn.Module:
    """Return a VGG whose classifier follows the size of its last feature map."""
    layers: list[nn.Module] = []
    inputs = shape[0]
    for step in VGG[depth].split():
        if step == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        between = [nn.BatchNorm2d(int(step))] if norm else []
        layers += [nn.Conv2d(inputs, int(step), 3, padding=1), *between, nn.ReLU()]
        inputs = int(step)
    wide = 512 * (shape[1] // 32) * (shape[2] // 32)
    half = wide // 2
    head = [nn.Linear(wide, half), nn.ReLU(), nn.Dropout(), nn.Linear(half, half), nn.ReLU(), nn.Dropout()]
    model = nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(half, classes))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
    _kaiming(model)
    return model


def _kaiming(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Block(nn.Module):
    """Add a branch of convolutions to its input, or to a projection of it, before a ReLU."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.relu(self.branch(x) + self.shortcut(x))
        return y


class Residual(nn.Module):
    """A ResNet for small images: a 3×3 stem without pooling, convolutions without bias."""

    def __init__(self, depth: int, shape: Shape, classes: int, *, wide: bool, norm: bool) -> None:
        super().__init__()
        bottleneck = depth >= 50
        self.norm = norm
        self.stem = nn.Sequential(*self._convolution(shape[0], 64, 3), nn.ReLU())
        blocks: list[nn.Module] = []
        inputs = 64
        for width, count, first in zip((64, 128, 256, 512), BLOCKS[depth], (1, 2, 2, 2), strict=True):
            for number in range(count):
                stride = first if number == 0 else 1
                inner, outputs = width * (2 if wide else 1), width * (4 if bottleneck else 1)
                blocks.append(self._block(inputs, inner, outputs, stride, bottleneck=bottleneck))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.classifier = nn.Linear(inputs, classes)
        _kaiming(self)

    def _convolution(self, inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
        made: list[nn.Module] = [nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)]
        return [*made, nn.BatchNorm2d(outputs)] if self.norm else made

    def _block(self, inputs: int, inner: int, outputs: int, stride: int, *, bottleneck: bool) -> Block:
        if bottleneck:
            branch = [
                *self._convolution(inputs, inner, 1), nn.ReLU(), *self._convolution(inner, inner, 3, stride),
                nn.ReLU(), *self._convolution(inner, outputs, 1),
            ]  # fmt: skip
        else:
            branch = [*self._convolution(inputs, inner, 3, stride), nn.ReLU(), *self._convolution(inner, outputs, 3)]
        changes = stride != 1 or inputs != outputs
        shortcut = nn.Sequential(*self._convolution(inputs, outputs, 1, stride)) if changes else nn.Identity()
        return Block(nn.Sequential(*branch), shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(self.flatten(self.pool(self.blocks(self.stem(x)))))
        return y
