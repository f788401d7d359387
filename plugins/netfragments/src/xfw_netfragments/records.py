"""What a run stores (spec 4.3, 5.2, 7), and the line of the log that tells of one epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xfw import Array, Records, Stream, Variable

from xfw_netfragments.config import Config
from xfw_netfragments.layer import FEATURES
from xfw_netfragments.supports import QUANTITIES

__all__ = ["AUTOENCODER_WIDTHS", "GROUPS", "LOWEST_ERROR", "MEASURES", "WEIGHTS", "declare", "epoch_line"]

AUTOENCODER_WIDTHS = (FEATURES, 32, 64, 128, 256)

GROUPS = {"": "training and validation", "train_": "training", "validation_": "validation"}
KIND_NAMES = {"mean": "mean", "std": "standard deviation", "min": "minimum", "max": "maximum"}

WEIGHTS = {
    "weight_mean": "mean of all weights",
    "weight_std": "standard deviation of all weights",
    "weight_min": "smallest weight",
    "weight_max": "largest weight",
    "weight_mean_nonzero": "mean of the weights that are not 0",
    "weight_ge_0.9": "share of weights of at least 0.9",
    "weight_le_0.1": "share of weights of at most 0.1",
    "weight_sum": "sum of all weights",
}

MEASURES = {
    "noise_reduction": "share of flipped features that are not what the noise made them",
    "noise_reduction_silent": "noise reduction of a network that is always silent",
    "false_removed": "share of features switched on by noise that are off",
    "lost_recovered": "share of features switched off by noise that are on",
    "accuracy": "share of cells that are as in the baseline",
    "recall": "share of the baseline's active cells that are active",
    "precision": "share of active cells that are active in the baseline",
    "line_reconstruction": "share of the baseline's active cells at removed pixels that are active",
    "active_cells": "active cells of an image",
    "inactive_cells": "inactive cells of an image",
    "overlap_mean": "mean overlap of two outputs",
    "overlap_max_mean": "mean over the outputs of the largest overlap with another one",
}
COUNTS = {
    "recall_images": "images whose recall is defined",
    "precision_images": "images whose precision is defined",
    "lost_images": "images in which noise switched features off",
}


def _epoch_stream() -> Stream:
    variables = [
        Variable("epoch", "int64", "epoch, counted over all runs of the network; 0: before training"),
        Variable("support_active_mean", "float64", "mean support of active cells, training and validation"),
        Variable("weights_nonzero", "int64", "weights that are not 0"),
        Variable("weights_one", "int64", "weights that are 1"),
        Variable("changing_steps", "int64", "training steps of the epoch that changed a weight"),
        *(Variable(name, "float64", text) for name, text in WEIGHTS.items()),
    ]
    for prefix, where in GROUPS.items():
        for name in QUANTITIES:
            _, group, kind = name.split("_")
            text = f"{KIND_NAMES[kind]} of the support of {group} cells, {where}"
            if prefix + name != "support_active_mean":
                variables.append(Variable(prefix + name, "float64", text))
        variables.append(Variable(f"{prefix}norm_factor", "float64", f"mean support over v̂ of winners, {where}"))
    variables.append(Variable("wall_time", "float64", "time of the block's epoch divided by its trials", "s"))
    return Stream("epoch", coordinate="epoch", variables=tuple(variables))


AUTOENCODER_EPOCH = Stream(
    "epoch",
    coordinate="epoch",
    first=1,
    variables=(
        Variable("epoch", "int64", "epoch, counted over all runs of the network"),
        Variable("validation_mse", "float64", "mean squared error on the validation images"),
        Variable("train_mse", "float64", "mean squared error on the training images"),
        Variable("validation_mae", "float64", "mean absolute error on the validation images"),
        Variable("validation_mse_binary", "float64", "mean squared error after the threshold 0.5"),
        Variable("validation_mae_binary", "float64", "mean absolute error after the threshold 0.5"),
        Variable("best", "bool", "lowest validation error so far; this state is kept"),
        Variable("wall_time", "float64", "time of the block's epoch divided by its trials", "s"),
    ),
)

EVALUATION = Stream(
    "evaluation",
    coordinate="point",
    variables=(
        Variable("point", "int64", "number of the point"),
        Variable("theta", "float64", "threshold of firing; NaN: Bernoulli cells, or the autoencoder"),
        Variable("bernoulli", "bool", "cells fire at random"),
        Variable("activation", "text", "threshold of firing as given, or bernoulli"),
        Variable("image_set", "text", "image set"),
        Variable("gamma_start", "float64", "power factor of the first time step; NaN: none"),
        Variable("gamma_step", "float64", "growth of the power factor in a step; NaN: not linear"),
        Variable("setting", "int64", "number of the threshold and schedule: index of its baseline"),
        Variable("noise", "float64", "share of flipped features"),
        Variable("line_interrupt", "int64", "removed pixels"),
        Variable("samples", "int64", "images"),
        Variable("repeat", "int64", "number of the repeat"),
        *(Variable(name, "float64", text) for name, text in MEASURES.items()),
        *(Variable(name, "int64", text) for name, text in COUNTS.items()),
    ),
)

ARRAYS = (
    Array("w_index", "int64", "place (c, i, dy, dx) of every weight that is not 0", axes=("entry", "place")),
    Array("w_value", "float32", "weights that are not 0", axes=("entry",)),
    Array("w_index_e*", "int64", "place of every weight that is not 0, after an epoch", axes=("entry", "place")),
    Array("w_value_e*", "float32", "weights that are not 0, after an epoch", axes=("entry",)),
)
LOWEST_ERROR = Array("lowest_error", "float64", "mean squared validation error of the best state")
OUTPUT_AXES = ("image", "step", "feature", "y", "x")
SHARED_ARRAYS = (
    Array("epochs_done", "int64", "epochs of the network, over all runs"),
    Array("baseline_weights", "int64", "SHA-256 of the weights the baseline belongs to", axes=("word",)),
    Array("baseline/*", "bool", "merged output for the clean images", axes=OUTPUT_AXES),
    Array("baseline_images", "bool", "clean images", axes=("image", "y", "x")),
)
ACTIVITY_ARRAYS = (
    Array("activity/*/z", "bool", "merged output of a point", axes=OUTPUT_AXES),
    Array("activity/*/strength", "float32", "normalised support v̂ of a point", axes=OUTPUT_AXES),
    Array("activity/*/features", "bool", "features as corrupted", axes=("image", "feature", "y", "x")),
    Array("activity/*/images", "bool", "images as corrupted", axes=("image", "y", "x")),
)


def _autoencoder_arrays() -> tuple[Array, ...]:
    found = []
    for number in range(2 * (len(AUTOENCODER_WIDTHS) - 1)):
        name = f"best/layers.{number}"
        axes = (f"layer{number}.a", f"layer{number}.b", f"layer{number}.y", f"layer{number}.x")
        output = axes[0] if number < len(AUTOENCODER_WIDTHS) - 1 else axes[1]
        found.append(Array(f"{name}.weight", "float32", f"weights of layer {number}, best state", axes=axes))
        found.append(Array(f"{name}.bias", "float32", f"biases of layer {number}, best state", axes=(output,)))
    return (*found, LOWEST_ERROR)


def declare(config: Config) -> Records:
    """Return the streams and arrays of a run with this configuration."""
    kept = ACTIVITY_ARRAYS if config.evaluate.store_activity else ()
    if config.model == "autoencoder":
        streams = (AUTOENCODER_EPOCH, EVALUATION)
        return Records(streams, (*_autoencoder_arrays(), *SHARED_ARRAYS, *kept), default="epoch/validation_mse")
    streams = (_epoch_stream(), EVALUATION)
    return Records(streams, (*ARRAYS, *SHARED_ARRAYS, *kept), default="epoch/support_active_mean")


def epoch_line(config: Config, trial: int, row: Mapping[str, Any]) -> str:
    """Return the log's line of one epoch."""
    start = f"trial {trial}: epoch {int(row['epoch'])}/{config.train.epochs}"
    if config.model == "autoencoder":
        return f"{start}, validation error {float(row['validation_mse']):.4f}"
    return (
        f"{start}, {int(row['weights_nonzero'])} connections, {int(row['changing_steps'])} steps changed them, "
        f"support of active cells {float(row['support_active_mean']):.2f}"
    )
