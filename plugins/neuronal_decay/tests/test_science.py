"""The claims on real data: the quick preset against its measured numbers, and the published protocol (E4)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from xfw.cli.main import invoke
from xfw.store.results import Results, open_run
from xfw.store.rundir import find_run
from xfw_neuronal_decay.analysis.report import _moments_of
from xfw_neuronal_decay.sample import from_results

QUICK = {
    1: {
        "task1_accuracy_s1": (85.4, 1.0),
        "task1_accuracy_s2": (86.9, 1.1),
        "task1_accuracy_s3": (82.6, 1.0),
        "gap_depth_s1": (17.3, 3.7),
        "gap_depth_s2": (12.8, 2.3),
        "average_accuracy_s3": (80.6, 0.9),
    },
    4: {
        "task1_accuracy_s1": (87.5, 1.3),
        "task1_accuracy_s2": (89.3, 1.0),
        "task1_accuracy_s3": (88.6, 1.2),
        "gap_depth_s1": (11.5, 1.8),
        "gap_depth_s2": (5.7, 1.7),
        "average_accuracy_s3": (86.2, 0.9),
    },
}
"""Means and SDs over 10 seeds of an independent eager loop (spec section 7.1)."""


def sealed(place: Path, *arguments: str) -> Results:
    assert invoke(["run", "neuronal_decay", "--seed", "1", "--quiet", "--results-dir", str(place), *arguments]) == 0
    return open_run(find_run(place, "@last"))


def check_quick(results: Results, trials: int) -> None:
    """Compare with the measured numbers: within four standard errors of the difference of two means."""
    depths = {}
    for sample in from_results(results).samples:
        found = _moments_of(sample)
        for name, (mean, sd) in QUICK[sample.number].items():
            tolerance = 4.0 * math.sqrt(sd**2 / 10 + max(sd, found[name].sd) ** 2 / trials)
            assert abs(found[name].mean - mean) <= tolerance, (sample.number, name)
        depths[sample.number] = [found[f"gap_depth_s{k}"].mean for k in (1, 2)]
    assert all(np.array(depths[1]) > np.array(depths[4]))


def test_quick_trials_have_the_measured_gaps(tmp_path: Path) -> None:
    with sealed(tmp_path, "--trials", "3", "--jobs", "0", "--device", "cpu") as results:
        check_quick(results, 3)


@pytest.mark.slow
def test_ten_quick_trials_have_the_measured_gaps(tmp_path: Path) -> None:
    with sealed(tmp_path, "--trials", "10") as results:
        check_quick(results, 10)


@pytest.mark.slow
def test_one_trial_of_the_main_comparison_lies_within_the_published_tolerance(mnist: Path, tmp_path: Path) -> None:
    """Experiments 1 and 4 on MNIST: minutes on a GPU, most of an hour on two cores."""
    sealed(tmp_path, "--preset", "paper", "-s", "number=1,4", "--trials", "1", "--data-dir", str(mnist)).close()
    assert invoke(["verify", "neuronal_decay", "--results-dir", str(tmp_path)]) == 0


@pytest.mark.slow
@pytest.mark.gpu
def test_five_trials_have_the_published_orderings(mnist: Path, tmp_path: Path) -> None:
    """All fourteen experiments, five trials each, on a GPU."""
    sealed(tmp_path, "--preset", "paper", "-s", "number=1..14", "--trials", "5", "--data-dir", str(mnist)).close()
    assert invoke(["verify", "neuronal_decay", "--results-dir", str(tmp_path)]) == 0
