"""The named configurations: the rows of the published configuration files (spec 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xfw import Preset

__all__ = ["GRID", "INTERRUPTS", "NOISES", "PRESETS"]

NOISES = tuple(round(0.01 * step, 2) for step in range(21))
INTERRUPTS = tuple(range(1, 8))
GRID: Mapping[str, Any] = {
    "evaluate.theta": ("0.3", "0.5", "0.7"),
    "evaluate.power": ("0.6+0.2t", "1.2+0.2t", "1.8+0.1t"),
    "evaluate.noise": NOISES,
    "evaluate.line_interrupt": INTERRUPTS,
}
"""The 252 points of the published evaluation (spec 5.3)."""

POINTS = {"evaluate.theta": ("0.5",), "evaluate.noise": (0.0, 0.1, 0.2), "evaluate.line_interrupt": (2, 4, 6)}
FROM_1, FROM_1_2 = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0), (1.2, 1.4, 1.6, 1.8, 2.0, 2.2)


def _preset(epochs: int, timesteps: int, activation: str, power: tuple[float, ...], **others: Any) -> dict[str, Any]:
    values = {
        "train.epochs": epochs,
        "s2.timesteps": timesteps,
        "s2.activation": activation,
        "s2.power": power,
    }
    return {**values, **POINTS, **{name.replace("__", "."): value for name, value in others.items()}}


_PUBLISHED = {**_preset(100, 6, "0.5", FROM_1_2, random="published"), **GRID}
_QUICK = {
    "train.epochs": 5,
    "evaluate.noise": (0.0, 0.05, 0.1, 0.2),
    "evaluate.line_interrupt": (2, 4, 6),
}
_AUTOENCODER = {
    "model": "autoencoder",
    "data.train": 10_000,
    "data.validation": 1_000,
    "train.epochs": 200,
    "train.batch_size": 512,
    "s2.timesteps": 1,
    "evaluate.noise": NOISES,
    "evaluate.line_interrupt": INTERRUPTS,
}

PRESETS: Mapping[str, Preset] = {
    "quick": Preset(_QUICK, help="five epochs, evaluated at a few points"),
    "paper": Preset(_PUBLISHED, help="net_fragments_published: the published weights and their 252 points"),
    "net_fragments_published": Preset(_PUBLISHED, help="the published weights and their 252 points"),
    "net_fragments": Preset(_preset(101, 6, "0.5", FROM_1_2), help="the released configuration (101 epochs)"),
    "train_v1": Preset(_preset(50, 2, "0.5", FROM_1_2), help="version 1: two time steps"),
    "train_v2": Preset(_preset(50, 6, "0.5", FROM_1), help="version 2: lower power factors"),
    "train_v3": Preset(_preset(100, 6, "bernoulli", FROM_1), help="version 3: Bernoulli cells"),
    "train_v4": Preset(
        _preset(50, 6, "bernoulli", FROM_1, s1__filters="large", s1__activation="bernoulli"),
        help="version 4: large filters, Bernoulli features and cells",
    ),
    "train_v5": Preset(
        _preset(50, 6, "bernoulli", FROM_1, s1__filters="large", s1__activation="clip"),
        help="version 5: large filters, graded features, Bernoulli cells",
    ),
    "autoencoder": Preset(_AUTOENCODER, help="the baseline: a convolutional autoencoder on the same lines"),
    "train": Preset(_preset(100, 6, "bernoulli", FROM_1_2), help="historical: Bernoulli cells"),
    "base_config": Preset(_preset(100, 2, "bernoulli", FROM_1_2), help="historical: Bernoulli cells, two time steps"),
    "base_ccc": Preset(_preset(100, 5, "0.5", FROM_1_2), help="historical: five time steps"),
    "net_fragments_2": Preset(_preset(30, 2, "0.5", FROM_1_2), help="historical: 30 epochs, two time steps"),
    "net_fragments_3": Preset(
        _preset(30, 6, "0.5", FROM_1_2, s2__support_factor=1.2), help="historical: 30 epochs, support factor 1.2"
    ),
    "thesis_baseline": Preset(
        _preset(
            30,
            6,
            "0.5",
            (3.0,) * 6,
            data__lines="four",
            train__batch_size=32,
            s2__alternatives=1,
            s2__negative_correlation=False,
            s2__variant="2023",
        ),
        help="thesis of 2023: one cell a feature, four lines",
    ),
    "thesis_alternatives": Preset(
        _preset(15, 6, "0.5", (1.2,) * 6, s2__variant="2023"), help="thesis of 2023: ten alternative cells"
    ),
}
