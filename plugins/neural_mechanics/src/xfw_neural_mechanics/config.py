"""The configuration of neural_mechanics, and its presets: the small reproductions on real images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import xfw

__all__ = ["PRESETS", "Config", "Data", "Model", "Optim", "Record", "Train", "problems"]

LAWS = ("flow", "first_order", "oscillator", "exact", "identity")
"""From the least to the most accurate; ``identity`` is ``exact`` with the measured residual: true of any network."""

KINDS = ("translation", "scale", "rescale", "rescale_affine")
MODELS = {
    "default": ("logistic", "fc", "fc-bn", "conv", "mlp", "cnn"),
    "tinyimagenet": (
        *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "-bn")),
        *(f"{w}resnet{depth}{n}" for w in ("", "wide-") for depth in (18, 34, 50, 101, 152) for n in ("", "-nobn")),
    ),
    "imagenet": (
        *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
        *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)), "wide_resnet50_2", "wide_resnet101_2",
    ),
}  # fmt: skip


@attrs.frozen
class Data:
    """Which images the network learns."""

    name: str = xfw.key("mnist", choices=("mnist", "digits"), help="data set; digits is embedded")


@attrs.frozen
class Model:
    """Which network, and how the small ones are made."""

    family: str = xfw.key(
        "default", choices=tuple(MODELS), alias=("class",), help="class of networks (the paper's word)"
    )
    name: str = xfw.key("logistic", help="network of that class")
    hidden: tuple[int, ...] = xfw.key((32, 32), ge=1, help="widths of mlp", unit="units")
    norm: bool = xfw.key(False, help="batch normalisation in mlp, cnn and conv")
    norm_position: str = xfw.key("post", choices=("post", "pre"), help="of conv: behind or before the activation")
    bn_eps: float = xfw.key(1e-5, gt=0, help="what batch normalisation adds to the variance, in mlp, cnn and conv")
    activation: str = xfw.key(
        "relu", choices=("relu", "leaky_relu", "tanh", "gelu", "silu", "sigmoid"), help="of mlp, cnn and conv"
    )


@attrs.frozen
class Optim:
    """Stochastic gradient descent: heavy ball or Nesterov, with weight decay in the gradient."""

    name: str = xfw.key(
        "custom_sgd", choices=("custom_sgd", "sgd"), help="custom_sgd dampens the first step too; sgd is torch's"
    )
    lr: float = xfw.key(0.001, ge=0, help="learning rate η")
    wd: float = xfw.key(0.0, ge=0, per_trial=True, help="weight decay λ, of every parameter")
    momentum: float = xfw.key(0.0, ge=0, lt=1, per_trial=True, help="momentum β")
    dampening: float = xfw.key(0.0, ge=0, lt=1, per_trial=True, help="dampening α")
    nesterov: bool = xfw.key(False, help="Nesterov's form of momentum")
    lr_drops: tuple[int, ...] = xfw.key((), ge=0, help="updates after which the rate is multiplied by lr_drop_rate")
    lr_drop_rate: float = xfw.key(0.1, gt=0, help="factor of a drop")


@attrs.frozen
class Train:
    """How long, in which batches, on which loss."""

    loss: str = xfw.key(
        "ce", choices=("ce", "mse", "mse-half"), help="ce: softmax cross entropy; mse: of one-hot targets"
    )
    batch_size: int = xfw.key(64, ge=1, help="images of a batch; all of them where there are fewer", unit="images")
    epochs: int = xfw.key(1, ge=1, help="passes over the training images, where steps and time are not given")
    steps: int | None = xfw.key(None, ge=1, help="updates in all")
    time: float | None = xfw.key(None, gt=0, help="time Σ η (1 - α) in all, in place of steps")
    drop_last: bool = xfw.key(False, help="leave a short last batch out")


@attrs.frozen
class Record:
    """Which quantities are measured and predicted, and when they are stored."""

    every: int = xfw.key(10, ge=1, help="store every so many updates", unit="updates")
    dense_until: int = xfw.key(0, ge=0, help="store every update before this one", unit="updates")
    laws: tuple[str, ...] = xfw.key(LAWS, choices=LAWS, help="laws that are evaluated")
    quadrature: str = xfw.key(
        "midpoint", choices=("midpoint", "left"), help="rule of the oscillator; left: as published"
    )
    groups: tuple[str, ...] = xfw.key(("translation", "scale", "rescale"), choices=KINDS, help="kinds of symmetry")
    scope: str = xfw.key("all", choices=("all", "conv"), help="conv: rescale between convolutions alone")
    forced: tuple[str, ...] = xfw.key(
        (), help="KIND:PRODUCER[:CONSUMER] by module path: groups that the network does not have, to see a law fail"
    )


@attrs.frozen
class Config:
    """What one condition trains and measures."""

    data: Data = attrs.field(factory=Data)
    model: Model = attrs.field(factory=Model)
    optim: Optim = attrs.field(factory=Optim)
    train: Train = attrs.field(factory=Train)
    record: Record = attrs.field(factory=Record)

    @property
    def examples(self) -> int:
        """Return the number of training images."""
        return {"digits": 1_500, "mnist": 60_000}[self.data.name]

    @property
    def batch(self) -> int:
        """Return the number of images of a whole batch."""
        return min(self.train.batch_size, self.examples)

    @property
    def steps_per_pass(self) -> int:
        """Return the number of updates of a whole pass."""
        whole, rest = divmod(self.examples, self.batch)
        return whole + (1 if rest and not self.train.drop_last else 0)

    @property
    def steps(self) -> int:
        """Return the number of updates in all."""
        if self.train.time is not None:
            dampened = 1 - self.optim.dampening if self.optim.momentum > 0 else 1.0
            return max(1, round(self.train.time / (self.optim.lr * dampened)))
        return self.train.steps or self.train.epochs * self.steps_per_pass


def problems(config: Config, given: frozenset[str]) -> Sequence[xfw.Problem]:
    """Return what bounds of single keys cannot say."""
    found: list[xfw.Problem] = []
    model, optim, train = config.model, config.optim, config.train
    if model.name not in MODELS[model.family]:
        names = ", ".join(MODELS[model.family])
        found.append(xfw.Problem("$.model.name", f"no network '{model.name}' in class '{model.family}': {names}"))
    if optim.dampening > 0 and optim.momentum == 0:
        found.append(xfw.Problem("$.optim.dampening", "dampening has no effect without momentum"))
    if optim.dampening > 0 and optim.name == "sgd":
        hint = "use optim.name=custom_sgd"
        found.append(xfw.Problem("$.optim.dampening", "torch's sgd does not dampen its first step: no law holds", hint))
    if optim.nesterov and (optim.momentum == 0 or optim.dampening > 0):
        found.append(xfw.Problem("$.optim.nesterov", "Nesterov's form needs momentum above 0 and no dampening"))
    if train.time is not None and (train.steps is not None or optim.lr == 0):
        found.append(xfw.Problem("$.train.time", "takes the place of train.steps, and needs a rate above 0"))
    if "translation" in config.record.groups and train.loss != "ce" and "record.groups" in given:
        found.append(
            xfw.Problem(
                "$.record.groups", "translation needs softmax cross entropy (train.loss=ce): no other loss has it"
            )
        )
    has_norm = model.norm or model.name == "fc-bn" or "bn" in model.name.split("-")
    rest = config.examples % config.batch
    if has_norm and rest == 1 and not train.drop_last:
        found.append(
            xfw.Problem(
                "$.train.batch_size",
                f"the last batch of {config.examples} images in batches of {config.batch} has one image: batch "
                "normalisation needs two",
                "choose another size, or train.drop_last=true",
            )
        )
    return found


DIGITS = {
    "data.name": "digits", "model.name": "mlp", "model.bn_eps": 1e-12, "train.batch_size": 100,
    "train.drop_last": True, "record.every": 10, "record.dense_until": 100,
}  # fmt: skip
"""The set-up of the small reproductions: an MLP 64-32-32-10 on real digits."""

FALLING = "0.2,0.1,0.05,0.025,0.0125"

PRESETS: Mapping[str, xfw.Preset] = {
    "quick": xfw.Preset(
        DIGITS | {"model.norm": "false,true", "optim.lr": 0.1, "optim.wd": 5e-3, "train.steps": 400},
        help="a small network on digits, with and without batch normalisation: measured against all laws",
        dtype="float64",
    ),
    "digits-sgd": xfw.Preset(
        DIGITS | {"model.norm": "false,true", "optim.lr": FALLING, "optim.wd": 5e-3, "train.time": 40.0},
        help="five learning rates at equal time: errors of the laws halve with the rate",
        dtype="float64",
    ),
    "digits-drift": xfw.Preset(
        DIGITS
        | {
            "model.norm": "false,true", "optim.lr": FALLING, "optim.wd": 0.0, "train.time": 20.0,
            "train.batch_size": 1_500, "record.dense_until": 0,
        },
        help="full-batch descent without decay: how far the conserved quantities drift",
        dtype="float64",
    ),
    "digits-momentum": xfw.Preset(
        DIGITS
        | {
            "model.norm": "false,true", "optim.lr": "0.1,0.05,0.025,0.0125", "optim.wd": 2e-3, "optim.momentum": 0.9,
            "train.time": 20.0,
        },
        help="the same with momentum 0.9: a damped, driven oscillator",
        dtype="float64",
    ),
    "mnist-cnn": xfw.Preset(
        {
            "data.name": "mnist", "model.name": "cnn", "model.norm": "false,true", "train.batch_size": 128,
            "train.drop_last": True, "train.epochs": 2, "optim.lr": 0.1, "optim.wd": 5e-4, "record.every": 10,
            "record.dense_until": 100,
        },
        help="a small convolutional network on MNIST, two passes",
    ),
}  # fmt: skip
