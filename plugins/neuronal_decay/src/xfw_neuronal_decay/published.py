"""Read and write the result files that the original project published: one JSON file for each seed.

Layout: an object by experiment number; ``performances`` holds the accuracies of each task from its first iteration on.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from xfw import WrongInput

from xfw_neuronal_decay.sample import Parameters, Sample, Study

__all__ = ["content_of", "read_folder"]

PATTERNS = ("results_*.json", "results_*.json.gz")
CLASSES, CHANNELS, SIDE = 10, 1, 28
Counts = NDArray[np.int64]


@attrs.frozen(eq=False)
class _Entry:
    """One experiment of one file."""

    path: Path
    seed: int
    parameters: Parameters
    correct_GK: Counts
    tested_GK: Counts


def read_folder(folder: Path) -> Study:
    """Return the experiments of all files in a folder, one trial for each; raises WrongInput for a wrong file."""
    paths = sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})
    if not paths:
        raise WrongInput(f"$.published: '{folder}' holds no file named results_SEED.json or results_SEED.json.gz")
    found: dict[int, list[_Entry]] = {}
    for path in paths:
        for number, entry in _read(path).items():
            found.setdefault(number, []).append(entry)
    samples = tuple(_joined(number, found[number]) for number in sorted(found))
    return Study(f"published results ({len(paths)} seeds)", samples)


def _joined(number: int, entries: Sequence[_Entry]) -> Sample:
    """Return the trials of one experiment, by seed; refuse seeds with different parameters."""
    first = entries[0]
    ordered = sorted(entries, key=lambda entry: entry.seed)
    for entry in entries[1:]:
        if entry.parameters != first.parameters:
            ours, theirs = attrs.asdict(first.parameters), attrs.asdict(entry.parameters)
            name = next(key for key in ours if ours[key] != theirs[key])
            raise WrongInput(
                f"experiment {number}: {name} is {ours[name]} in '{first.path}' and {theirs[name]} in '{entry.path}'",
                hint="trials with different parameters are not averaged: put the files into folders of their own",
            )
    seeds = [entry.seed for entry in ordered]
    if len(set(seeds)) < len(seeds):
        raise WrongInput(f"experiment {number}: a seed occurs twice: {', '.join(map(str, seeds))}")
    return Sample(
        number,
        f"{number:02}",
        first.parameters,
        tuple(seeds),
        np.stack([entry.correct_GK for entry in ordered]),
        np.stack([entry.tested_GK for entry in ordered]),
    )


def _read(path: Path) -> dict[int, _Entry]:
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        found = json.loads(text)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise WrongInput(f"'{path}' is no JSON file of results: {error}") from error
    if not isinstance(found, Mapping) or not all(str(key).isdigit() for key in found):
        raise WrongInput(f"'{path}': expected an object by experiment number")
    return {int(key): _entry(path, key, value) for key, value in found.items()}


def _entry(path: Path, key: str, value: Any) -> _Entry:
    where = f"'{path}', experiment {key}"
    try:
        given, domain = value["parameters"], value["domain_variables"]
        parameters = Parameters(
            batch_size=int(given["batch_size"]),
            rotations=tuple(float(angle) for angle in given["rotations"]),
            learning_rate=float(given["learning_rate"]),
            iterations=int(given["n_batches_per_task"]),
            test_size=int(given["test_size"]),
            n_neurons=int(given["n_neurons"]),
            decay_lambda=float(given["decay_lambda"]),
            replay=bool(value["use_perfect_replay"]),
            train_images=int(domain["len(training_data)"]),
            test_images=int(domain["len(test_data)"]),
        )
        series, switches, seed = value["performances"], list(value["switch_indices"]), int(value["seed"])
    except KeyError as error:
        raise WrongInput(f"{where}: key {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise WrongInput(f"{where}: {error}") from error
    _check_lengths(where, parameters, series, switches)
    correct, tested = _counts(where, parameters, series)
    return _Entry(path, seed, parameters, correct, tested)


def _check_lengths(where: str, parameters: Parameters, series: Any, switches: Sequence[int]) -> None:
    expected = parameters.switches
    if list(switches) != expected:
        raise WrongInput(
            f"{where}: 'switch_indices' is {list(switches)}, expected {expected} from 'rotations' and "
            "'n_batches_per_task'"
        )
    lengths = [len(each) if isinstance(each, list) else -1 for each in series] if isinstance(series, list) else []
    wanted = [expected[-1] - start for start in [0, *expected[:-1]]]
    if lengths != wanted:
        raise WrongInput(
            f"{where}: 'performances' has series of lengths {lengths}, expected {wanted} from the switches"
        )


def tested_images(parameters: Parameters, task: int) -> int:
    """Return the number of images of every test during a task, counted from 1 (spec 4.4)."""
    batch = parameters.batch_size * task
    if parameters.test_size == 0:
        return parameters.test_images
    return min(math.ceil(parameters.test_size / batch) * batch, parameters.test_images)


def _counts(where: str, parameters: Parameters, series: Sequence[Sequence[float]]) -> tuple[Counts, Counts]:
    """Return correct answers and tested images, -1 before a task begins; refuse what is no count of images."""
    length, tasks = parameters.iterations, parameters.tasks
    tested_G = np.repeat([tested_images(parameters, task) for task in range(1, tasks + 1)], length).astype(np.int64)
    correct = np.full((length * tasks, tasks), -1, np.int64)
    tested = np.full_like(correct, -1)
    for task, values in enumerate(series):
        own = slice(task * length, None)
        try:
            exact = np.asarray(values, np.float64) * tested_G[own] / 100.0
        except (TypeError, ValueError) as error:
            raise WrongInput(f"{where}: 'performances' of task {task + 1} holds something else than numbers") from error
        rounded = np.rint(exact)
        if not np.isfinite(exact).all() or np.abs(exact - rounded).max() > 1e-6 or rounded.min() < 0:
            images = ", ".join(map(str, sorted(set(tested_G[own].tolist()))))
            raise WrongInput(f"{where}: 'performances' of task {task + 1} are no percentages of {images} tested images")
        correct[own, task], tested[own, task] = rounded.astype(np.int64), tested_G[own]
    return correct, tested


def content_of(samples: Sequence[Sample], trial: int) -> dict[str, Any]:
    """Return the content of the published file of one trial."""
    return {str(sample.number): _published(sample, trial) for sample in samples if trial in sample.trials}


def _published(sample: Sample, trial: int) -> dict[str, Any]:
    given = sample.parameters
    accuracy_GK = sample.only([trial]).accuracies[0]
    return {
        "experiment_no": sample.number,
        "performances": [accuracy_GK[task * given.iterations :, task].tolist() for task in range(given.tasks)],
        "switch_indices": given.switches,
        "parameters": {
            "batch_size": given.batch_size,
            "rotations": [int(angle) if angle.is_integer() else angle for angle in given.rotations],
            "learning_rate": given.learning_rate,
            "n_batches_per_task": given.iterations,
            "test_size": given.test_size,
            "n_neurons": given.n_neurons,
            "decay_lambda": given.decay_lambda,
        },
        "use_perfect_replay": given.replay,
        "domain_variables": {
            "n_tasks": given.tasks,
            "n_classes": CLASSES,
            "img_n_channels": CHANNELS,
            "img_size": SIDE,
            "len(training_data)": given.train_images,
            "len(test_data)": given.test_images,
        },
        "seed": trial,
    }
