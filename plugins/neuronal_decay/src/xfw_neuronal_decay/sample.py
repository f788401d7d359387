"""The accuracies that the analysis works on, condition by condition: from a run, or from published files.

Axes: R trial, G iteration, K task.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray
from xfw import WrongInput

from xfw_neuronal_decay import gap
from xfw_neuronal_decay.config import Config, configs_of
from xfw_neuronal_decay.data import SIZES

if TYPE_CHECKING:
    from xfw.store.results import Results

__all__ = ["Parameters", "Sample", "Study", "accuracy", "from_results", "select"]


@attrs.frozen
class Parameters:
    """What the trials of one sample have in common; ``n_neurons`` is the declared width."""

    batch_size: int
    rotations: tuple[float, ...]
    learning_rate: float
    iterations: int
    test_size: int
    n_neurons: int
    decay_lambda: float
    replay: bool
    train_images: int
    test_images: int
    eval_every: int = 1

    @property
    def tasks(self) -> int:
        """Return the number of tasks."""
        return len(self.rotations)

    @property
    def switches(self) -> list[int]:
        """Return the iteration at which each task ends."""
        return [self.iterations * task for task in range(1, self.tasks + 1)]


@attrs.frozen(eq=False)
class Sample:
    """The trials of one condition. ``trials`` are indices, or published seeds; counts are -1 before a task begins."""

    number: int
    label: str
    parameters: Parameters
    trials: tuple[int, ...]
    correct_RGK: NDArray[np.int64]
    tested_RGK: NDArray[np.int64]

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Return the test accuracies in percent, NaN where a task was not tested."""
        return accuracy(self.correct_RGK, self.tested_RGK)

    @property
    def averages(self) -> NDArray[np.float64]:
        """Return the average accuracy over the tasks that have begun."""
        return gap.average(self.accuracies, self.parameters.iterations)

    def only(self, trials: Sequence[int]) -> Sample:
        """Return the sample with these of its trials."""
        places = [place for place, trial in enumerate(self.trials) if trial in trials]
        return attrs.evolve(
            self,
            trials=tuple(self.trials[place] for place in places),
            correct_RGK=self.correct_RGK[places],
            tested_RGK=self.tested_RGK[places],
        )


@attrs.frozen(eq=False)
class Study:
    """All samples of one run or folder, by experiment number, and what has to be said about them."""

    title: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


def accuracy(correct: NDArray[np.int64], tested: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return percentages of counts, NaN where nothing was tested."""
    whole = np.where(tested > 0, tested, 1)
    return np.where(tested > 0, 100.0 * correct / whole, np.nan)


def parameters_of(config: Config) -> Parameters:
    """Return what is common to the trials of a configuration."""
    train, test = SIZES[config.data]
    return Parameters(
        batch_size=config.batch_size,
        rotations=config.rotations or (),
        learning_rate=config.learning_rate or 0.0,
        iterations=config.iterations_per_task,
        test_size=config.test_size if config.eval_mode == "subset" else 0,
        n_neurons=config.n_neurons or 0,
        decay_lambda=config.strength,
        replay=bool(config.replay),
        train_images=train,
        test_images=test,
        eval_every=config.eval_every,
    )


def from_results(results: Results) -> Study:
    """Return the finished trials of a sealed run; conditions of equal number are named by what they differ in."""
    configs = configs_of(results.config, results.conditions)
    correct, tested = (results.values("iteration", name) for name in ("correct", "tested"))
    done = np.array([status == "done" for status in results.status])
    samples = []
    for index in sorted(range(len(configs)), key=lambda place: configs[place].number):
        config = configs[index]
        rows = np.flatnonzero((results.condition == index) & done)
        if len(rows):
            region = np.ix_(rows, np.arange(config.iterations_per_task * config.tasks), np.arange(config.tasks))
            trials = tuple(int(results.trial[row]) for row in rows)
            label = _label(config, configs, results.axes)
            samples.append(Sample(config.number, label, parameters_of(config), trials, correct[region], tested[region]))
    return Study(results.run, tuple(samples), tuple(_notes(configs, results.status)))


def _label(config: Config, configs: Sequence[Config], axes: Sequence[str]) -> str:
    """Return the number of a condition, and the swept values that tell it from others of that number."""
    same = [each for each in configs if each.number == config.number]
    differing = [name for name in axes if len({getattr(each, name) for each in same}) > 1]
    return ", ".join([f"{config.number:02}", *(f"{name}={getattr(config, name)}" for name in differing)])


def _notes(configs: Sequence[Config], statuses: Sequence[str]) -> list[str]:
    notes = []
    unfinished = [status for status in statuses if status != "done"]
    if unfinished:
        notes.append(f"{len(unfinished)} of {len(statuses)} trials are left out: {', '.join(sorted(set(unfinished)))}")
    if any(config.eval_mode == "full" or config.test_size == 0 for config in configs):
        notes.append(
            "all test images were tested (eval_mode=full): not comparable with the published numbers, which "
            "come from random subsets"
        )
    if any(config.data != "mnist" for config in configs):
        notes.append("trained on the embedded digits: not comparable with the published numbers")
    return notes


def select(study: Study, trials: Sequence[int] | None, numbers: Sequence[int] | None) -> Study:
    """Return the chosen trials and experiments; raises WrongInput for one that is not stored."""
    there = {
        "trial": sorted({trial for sample in study.samples for trial in sample.trials}),
        "experiment": sorted({sample.number for sample in study.samples}),
    }
    for name, wanted in (("trial", trials), ("experiment", numbers)):
        unknown = [each for each in wanted or () if each not in there[name]]
        if unknown:
            found = ", ".join(map(str, there[name])) or "none"
            raise WrongInput(f"no results for {name} {', '.join(map(str, unknown))}; stored: {found}")
    kept = [sample for sample in study.samples if numbers is None or sample.number in numbers]
    chosen = [sample if trials is None else sample.only(trials) for sample in kept]
    return attrs.evolve(study, samples=tuple(sample for sample in chosen if sample.trials))


def folder_of(published: str) -> Path:
    """Return the folder of published files; raises WrongInput where there is none."""
    folder = Path(published).expanduser()
    if not folder.is_dir():
        raise WrongInput(f"$.published: no folder '{published}'")
    return folder
