"""How often each class occurs in each split, and what a classifier that ignores its input scores ("ZeroR")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import xfw
from xfw.analysis.tables import Column, Table, columns

from xfw_psa.architecture import CLASSES

if TYPE_CHECKING:
    import torch
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["ANALYZER", "PUBLISHED_Z", "Split", "describe", "zero_r"]

DATA = ("mnist", "digits")
PUBLISHED_Z = 11.02
"""Share of the most frequent class of MNIST's validation images, for results that do not say theirs."""


@attrs.frozen
class Split:
    """The classes of one split: how many images each has, which is the most frequent, and its share."""

    name: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Return the number of images."""
        return sum(self.counts)

    @property
    def percentages(self) -> tuple[float, ...]:
        """Return the share of every class, in percent."""
        return tuple(100.0 * count / self.total for count in self.counts)

    @property
    def zero_r_class(self) -> int:
        """Return the most frequent class, the lowest one on ties."""
        return self.counts.index(max(self.counts))

    @property
    def zero_r_accuracy(self) -> float:
        """Return the accuracy of always predicting the most frequent class, in percent."""
        return self.percentages[self.zero_r_class]


def describe(data: str = "mnist", data_dir: str | None = None) -> tuple[Split, ...]:
    """Return the splits of a data set: everything to train from, test, and the two parts of the former.

    For the embedded digits the test images are a part of the whole set too. Raises ``UserError`` where files
    are missing or damaged.
    """
    from xfw.data.sources import Sources

    from xfw_psa.config import Config
    from xfw_psa.data import load

    sets = load(Config(data=data), Sources(data_dir))
    labels = {name: sets[name].tensors[1] for name in ("train", "validation", "test")}
    parts = ("train", "validation") if data == "mnist" else ("train", "validation", "test")
    whole = sum((_counts(labels[name]) for name in parts[1:]), _counts(labels[parts[0]]))
    first = "full training" if data == "mnist" else "whole set"
    counted = {
        first: whole,
        "test": _counts(labels["test"]),
        "split training": _counts(labels["train"]),
        "split validation": _counts(labels["validation"]),
    }
    return tuple(Split(name, tuple(int(count) for count in counts)) for name, counts in counted.items())


def _counts(labels: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.bincount(labels, minlength=CLASSES)


def zero_r(data_dir: str | None = None) -> float:
    """Return the share of MNIST's most frequent validation class, from its labels; 11.02 where they are not found."""
    from xfw.data.mnist import MNIST, read_idx
    from xfw.data.sources import Sources

    folder = Sources(data_dir).find("mnist")
    if folder is None:
        return PUBLISHED_Z
    import torch

    from xfw_psa.data import SIZES, permutation

    file = next(each for each in MNIST.files if each.path.endswith("train-labels-idx1-ubyte"))
    labels = torch.from_numpy(read_idx(folder / file.path, file.read(folder)))
    chosen = labels[permutation(len(labels))[SIZES["mnist"].train :]]
    return 100.0 * int(_counts(chosen).max()) / len(chosen)


# --- the analyzer ----------------------------------------------------------------------------------------


@attrs.frozen
class Options:
    """Which data set, and where it lies."""

    data: str | None = xfw.key(None, choices=DATA, help="data set; default: that of the run, else mnist")
    data_dir: str | None = xfw.key(None, help="folder with the data set; default: that of the run, else as for run")


def analyse(results: Results | None, options: Options, output: Output) -> None:
    """Print and write the classes of every split, and a summary."""
    data = options.data or (str(results.config.get("data", "mnist")) if results is not None else "mnist")
    stored = str(results.execution.get("data_dir", "")) if results is not None else ""
    splits = describe(data, options.data_dir or stored or None)
    for split in splits:
        output.table(f"dataset-{split.name.replace(' ', '-')}", _classes(data, split))
    output.table("dataset", _summary(data, splits))


def _classes(data: str, split: Split) -> Table:
    described: list[tuple[Any, ...]] = [
        (str(label), count, share, "ZeroR" if label == split.zero_r_class else "")
        for label, (count, share) in enumerate(zip(split.counts, split.percentages, strict=True))
    ]
    return Table(
        columns=columns(
            ("class", "class"), ("count", "count", "", ",d"), ("percentage", "share", "%", ".2f"), ("majority", "")
        ),
        rows=(*described, ("total", split.total, 100.0, "")),
        caption=f"{data}, {split.name}",
        label=f"tab:psa-{data}-{split.name.replace(' ', '-')}",
        notes=(f"ZeroR: always class {split.zero_r_class}, accuracy {split.zero_r_accuracy:.2f} %.",),
    )


def _summary(data: str, splits: tuple[Split, ...]) -> Table:
    return Table(
        columns=(
            Column("dataset", "data set"),
            Column("samples", "samples", form=",d"),
            Column("zeror_class", "ZeroR class", form="d"),
            Column("zeror_accuracy", "ZeroR accuracy", "%", ".2f"),
        ),
        rows=tuple((split.name, split.total, split.zero_r_class, split.zero_r_accuracy) for split in splits),
        caption=f"{data}: accuracy of always predicting the most frequent class",
        label=f"tab:psa-{data}-zeror",
    )


ANALYZER = xfw.Analyzer(
    "dataset",
    "classes of every split, and the accuracy of always predicting the most frequent one",
    analyse,
    options=Options,
    needs_run=False,
)
