"""Published results, within the criteria of the comparison: minutes on a CPU, hence marked slow."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from xfw.store.results import Results
from xfw_psa.quantities import METRICS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (Path(os.environ.get("XFW_DATA_DIR", "/nowhere")) / "MNIST" / "raw").is_dir(),
        reason="MNIST is not in XFW_DATA_DIR",
    ),
]
Run = Callable[..., Results]
TRIALS = 10
CLASS_SHARES = (11.02, 10.92, 10.12, 10.10, 10.09, 9.84, 9.81, 9.73, 9.72, 8.65)

# SimpleMLP, corrected code: mean and SD (ddof 0) of the peak of ten trials of 100 loops.
PUBLISHED = {
    "1*8": {"none": (91.14, 0.24), "decay": (91.24, 0.33), "dropout": (90.30, 0.44), "output": (89.07, 0.45)},
    "1*32": {"none": (95.49, 0.20), "full": (93.04, 0.32), "hidden": (93.80, 0.41), "output": (93.00, 0.49)},
    "2*16": {"none": (93.49, 0.32), "full": (91.02, 0.44), "hidden": (91.79, 0.41), "output": (91.17, 0.47)},
    "4*29": {"none": (95.04, 0.43), "full": (93.78, 0.48), "hidden": (93.92, 0.48), "output": (92.77, 0.52)},
}


def peaks(results: Results) -> dict[str, np.ndarray]:
    (peak,) = (metric for metric in METRICS if metric.name == "val_peak")
    values, modes = peak.compute(results), np.array(results.parameters["mode"])
    return {mode: values[modes == mode] for mode in dict.fromkeys(modes.tolist())}


@pytest.mark.parametrize("arch", list(PUBLISHED))
def test_stable_cells_agree_with_the_published_means(run: Run, arch: str) -> None:
    modes = ",".join(PUBLISHED[arch])
    found = peaks(
        run("--preset", "paper", "-s", f"mode={modes}", "--trials", str(TRIALS), arch=arch, loops=100, jobs="2")
    )
    for mode, (mean, sd) in PUBLISHED[arch].items():
        ours = found[mode]
        tolerance = 0.10 + 3 * math.sqrt(sd**2 / 10 + ours.std() ** 2 / TRIALS)
        assert abs(ours.mean() - mean) <= tolerance, (mode, ours.mean(), tolerance)


def test_plain_controls_of_depth_eighteen_stay_at_a_class_share(run: Run) -> None:
    arguments = ("--preset", "paper", "-s", "mode=none,decay,dropout", "--trials", str(TRIALS))
    found = np.concatenate(list(peaks(run(*arguments, arch="18*18", loops=100, jobs="2")).values()))
    assert (found > 11.02 + 1e-9).sum() <= 2
    shares = np.array(CLASS_SHARES)
    assert np.mean([np.isclose(shares, value, atol=0.001).any() for value in found]) >= 0.9


def test_residual_network_of_depth_eighteen_trains(run: Run) -> None:
    arguments = ("--preset", "resmlp", "-s", "mode=none,decay", "--trials", str(TRIALS))
    assert 95 <= peaks(run(*arguments, arch="18*18", loops=100, jobs="2"))["none"].mean() <= 97


@pytest.mark.parametrize(("preset", "low", "high"), [("resmlp", 50.0, 100.0), ("paper", 0.0, 11.02)])
def test_depth_one_hundred_and_fifteen_needs_residual_connections(
    run: Run, preset: str, low: float, high: float
) -> None:
    found = peaks(run("--preset", preset, "-s", "mode=none,decay", "--trials", "3", arch="115*115", loops=10, jobs="2"))
    assert low <= found["none"].min()
    assert found["none"].max() <= high + 1e-9


def test_first_loops_of_the_residual_network_lie_in_the_published_bands(run: Run) -> None:
    results = run("--preset", "resmlp", "-s", "mode=hidden", "--trials", "2", arch="4*119", loops=1, jobs="2")
    first = 100 * results.values("epoch", "val_correct")[:, 0] / 10_000
    assert (first >= 89).all()
    assert (first <= 91.5).all()
