"""The images of all tasks, rotated once and kept as bytes, and the order in which the tasks are trained.

Axes: N image, P pixel. Images of task t are those of the data set, rotated by its angle; labels stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
import torch
from xfw import Dataset, Pass

from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.rotation import rotated

if TYPE_CHECKING:
    from xfw.data.sources import ImageData, Sources

__all__ = ["SIZES", "Phase", "epochs", "load", "scaled", "train_set"]

SIZES = {"mnist": (60_000, 10_000), "digits": (1_500, 297)}
"""Numbers of training and test images (spec 4.1 and 7.1)."""


@attrs.frozen
class Phase:
    """What a step needs to know of its task: its number, how many there are, and how they are tested."""

    task: int
    tasks: int
    tested: int
    mean_batch: bool

    def label(self) -> str:
        """Return the phase as the label of an epoch."""
        return f"task {self.task} of {self.tasks}, {self.tested} tested, {'mean' if self.mean_batch else 'sum'}"

    @staticmethod
    @lru_cache
    def of(label: str) -> Phase:
        """Return the phase that a label stands for."""
        _, task, _, tasks, tested, _, reduction = label.replace(",", "").split()
        return Phase(int(task), int(tasks), int(tested), reduction == "mean")


def train_set(task: int) -> str:
    """Return the name of the training set of a task, counted from 1."""
    return f"train{task}"


def epochs(config: Config) -> list[Pass]:
    """Return one pass for each task: one order, walked through again from its start until all iterations are done."""
    images, mean_batch = SIZES[config.data][1], config.penalty_reduction == "mean_batch"
    phases = [Phase(task, config.tasks, config.tested(task, images), mean_batch) for task in range(1, config.tasks + 1)]
    return [
        Pass(
            batch_size=config.batch(phase.task),
            dataset=train_set(phase.task),
            steps=config.iterations_per_task,
            label=phase.label(),
            observed=phase.task * phase.tested,
            observe_every=config.eval_every,
        )
        for phase in phases
    ]


def load(config: Config, sources: Sources) -> dict[str, Dataset]:
    """Return the training set of every task as a slice of one storage, and the test sets of all tasks in one."""
    source = _digits(sources) if config.data == "digits" else sources.load("mnist")
    angles = config.rotations or ()
    images, labels = _every_task(source.train_images, source.train_labels, angles)
    count = len(source.train_images)
    sets = {}
    for task in range(1, config.tasks + 1):
        own = slice(0 if config.replay else (task - 1) * count, task * count)
        sets[train_set(task)] = Dataset((images[own], labels[own]), prepare=scaled)
    return sets | {"test": Dataset(_every_task(source.test_images, source.test_labels, angles), prepare=scaled)}


def scaled(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return bytes as numbers from 0 to 1.

    The divisor is a tensor: CUDA divides by a Python number as it multiplies with its reciprocal, which has other bits.
    """
    return torch.div(images, torch.full((), 255.0, device=images.device)), labels


def _every_task(
    images: torch.Tensor, labels_N: torch.Tensor, angles: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    images_NP = images.flatten(1)
    return torch.cat([rotated(images_NP, angle) for angle in angles]), labels_N.repeat(len(angles))


def _digits(sources: Sources) -> ImageData:
    """Return the embedded digits, the first 1500 images for training and the other 297 for testing."""
    whole = sources.load("digits", size=28, scale="bilinear")
    images, labels, count = whole.train_images, whole.train_labels, SIZES["digits"][0]
    return attrs.evolve(
        whole,
        train_images=images[:count],
        train_labels=labels[:count],
        test_images=images[count:],
        test_labels=labels[count:],
    )
