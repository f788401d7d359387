"""Noisy digits: how much noise on its input a small network can learn through.

Claim (made up for this example): the more noise a network of 32 hidden units sees while it learns, the
worse it reads clean images afterwards.

This module is imported by every command, so it holds what is light: the configuration and what is stored.
``experiment`` has the data, the network and its training.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import xfw

api = 2
hooks = "xfw_noisy_digits.experiment"


@attrs.frozen
class Config:
    """What one condition trains."""

    epochs: int = xfw.key(30, ge=1, help="passes over the training images", unit="epochs")
    lr: float = xfw.key(3e-3, gt=0, per_trial=True, help="learning rate of AdamW")
    noise: float = xfw.key(0.5, ge=0, per_trial=True, help="deviation of the noise; pixels lie between 0 and 1")
    width: int = xfw.key(32, ge=1, help="size of the hidden layer", unit="units")


@xfw.hookimpl
def define_config() -> type:
    return Config


@xfw.hookimpl
def define_presets() -> Mapping[str, xfw.Preset]:
    return {
        "quick": xfw.Preset({}, help="one level of noise"),
        "levels": xfw.Preset({"noise": "0..2..0.5"}, help="five levels of noise", trials=5),
    }


@xfw.hookimpl
def declare_records() -> xfw.Records:
    variables = (
        xfw.Variable("loss", "float32", "mean training loss, in nats"),
        xfw.Variable("correct", "int64", "correct clean test images"),
    )
    return xfw.Records((xfw.Stream("epoch", "epoch", variables, first=1),), default="epoch/correct")
