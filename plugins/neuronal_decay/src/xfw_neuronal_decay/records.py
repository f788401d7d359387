"""What a run stores (spec section 7.3)."""

from __future__ import annotations

from xfw import Array, Records, Stream, Variable

from xfw_neuronal_decay.config import Config

__all__ = ["ITERATION", "declare"]

ITERATION = Stream(
    "iteration",
    coordinate="iteration",
    each="step",
    variables=(
        Variable("loss", "float64", "training loss in nats, penalty included"),
        Variable("loss_ce", "float64", "mean cross-entropy of the batch, in nats"),
        Variable("penalty", "float64", "decay term of the loss, in nats"),
        Variable("correct", "int64", "correct answers before the update, -1: not begun", axes=("task",)),
        Variable("tested", "int64", "tested images, -1: not begun", axes=("task",)),
    ),
)

PROFILE = Stream(
    "profile",
    coordinate="task",
    first=1,
    variables=(
        Variable("wall_time_total", "float64", "iteration as run, divided by the trials of the block", "s"),
        Variable("wall_time_training", "float64", "training step of the network alone, host", "s"),
        Variable("wall_time_training_device", "float64", "training step of the network alone, device", "s"),
        Variable("wall_time_evaluation", "float64", "evaluation of the network alone, host", "s"),
        Variable("wall_time_evaluation_device", "float64", "evaluation of the network alone, device", "s"),
    ),
)

ARRAYS = (
    Array("switch_indices", "int64", "iteration at which each task has ended", axes=("task",)),
    Array("n_neurons_declared", "int64", "width of the hidden layers as declared"),
    Array("n_neurons_used", "int64", "width of the hidden layers as built"),
)
COUNTED = Array("multiply_accumulates", "int64", "multiply-accumulates of a forward pass over the first batch")


def declare(config: Config) -> Records:
    """Return the streams and arrays of a run with this configuration."""
    if not config.profile:
        return Records((ITERATION,), ARRAYS, default="iteration/loss")
    return Records((ITERATION, PROFILE), (*ARRAYS, COUNTED), default="iteration/loss")
