"""The example's own tests: its formula, its claim, and the independence of its trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from xfw.cli.main import invoke
from xfw.plugins.registry import load_experiment
from xfw.store.results import open_run
from xfw.store.rundir import RunDir, find_run
from xfw.testing.blocks import train_block
from xfw_noisy_digits.experiment import last_accuracy, scaled


def trained(results_dir: Path, *arguments: str) -> RunDir:
    """Train in this process with few epochs and return the run."""
    place = ["--results-dir", str(results_dir), "--jobs", "0", "--device", "cpu", "--quiet"]
    assert invoke(["run", "noisy_digits", "-s", "epochs=6", "--seed", "1", *place, *arguments]) == 0
    return find_run(results_dir, "@last")


def test_pixels_are_scaled_to_one() -> None:
    images = torch.arange(128, dtype=torch.uint8).reshape(2, 8, 8) % 17
    flat, labels = scaled(images, torch.tensor([3, 5]))
    assert torch.equal(flat, images.reshape(2, 64) / 16)
    assert labels.tolist() == [3, 5]


def test_noise_costs_accuracy(tmp_path: Path) -> None:
    with open_run(trained(tmp_path, "-s", "noise=0,2", "--trials", "3")) as results:
        noise = np.array(results.parameters["noise"])
        found = last_accuracy(results)
    assert found[noise == 0].mean() > found[noise == 2].mean() + 5


def test_a_trial_alone_has_the_numbers_it_has_among_others() -> None:
    experiment = load_experiment("noisy_digits")
    among = train_block(experiment, ["epochs=3"], trials=3)
    alone = train_block(experiment, ["epochs=3"], trials=3, only=[1])
    assert alone.record("epoch", "loss").ravel().tolist() == among.record("epoch", "loss")[:, 1].tolist()
