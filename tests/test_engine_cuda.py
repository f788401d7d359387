"""What only a CUDA device can show: captured steps, side streams, equal bits at an equal width, few waits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from xfw.testing.blocks import block_session, train_block
from xfw.testing.shapes import LOWERINGS, experiment, python_branch, run

pytestmark = pytest.mark.gpu

TOLERANCE = 1e-10
"""Largest difference in float64: the same formulas in other kernels, over fifteen steps of Adam."""
SETTINGS = ["lr=0.05,0.01", "rate=0,0.3"]


def quiet_step(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, y = batch
    return torch.nn.functional.cross_entropy(model(x), y)


@pytest.mark.parametrize("model", LOWERINGS)
def test_streams_equal_the_serial_graph_bit_for_bit(model: str) -> None:
    streams = run(model, "streams", overrides=SETTINGS, device="cuda", trials=5)
    serial = run(model, "serial", overrides=SETTINGS, device="cuda", trials=5)
    assert np.array_equal(streams.parameters(), serial.parameters())
    assert np.array_equal(streams.record("epoch", "loss"), serial.record("epoch", "loss"))


@pytest.mark.parametrize("model", LOWERINGS)
def test_a_trial_keeps_its_bits_at_an_equal_width(model: str) -> None:
    together = run(model, "stack", overrides=SETTINGS, device="cuda", trials=3)
    for place in (0, 7, 11):
        alone = run(model, "stack", overrides=SETTINGS, device="cuda", trials=3, only=[place], width=12)
        assert np.array_equal(alone.parameters()[0], together.parameters()[place])
        assert np.array_equal(alone.record("epoch", "loss")[:, 0], together.record("epoch", "loss")[:, place])


@pytest.mark.parametrize("model", LOWERINGS)
def test_stacked_trials_equal_single_ones_in_float64(model: str) -> None:
    stacked = run(model, "stack", overrides=SETTINGS, device="cuda", dtype="float64")
    single = run(model, "serial", overrides=SETTINGS, device="cuda", dtype="float64")
    assert np.abs(stacked.parameters() - single.parameters()).max() <= TOLERANCE
    assert np.array_equal(stacked.record("epoch", "correct"), single.record("epoch", "correct"))


@pytest.mark.parametrize("model", ["mlp", "residual"])
def test_the_device_agrees_with_the_cpu_in_float64(model: str) -> None:
    # Without the noise of the other tests: its logarithms and cosines are float32, and differ between devices.
    keys = [f"model={model}", *SETTINGS]
    here = train_block(experiment(train_step=quiet_step), keys, device="cuda", dtype="float64")
    there = train_block(experiment(train_step=quiet_step), keys, dtype="float64")
    assert np.abs(here.parameters() - there.parameters()).max() <= TOLERANCE


@pytest.mark.parametrize("strategy", ["stack", "streams", "serial"])
def test_every_strategy_is_captured(strategy: str) -> None:
    trained = run("mlp", strategy, device="cuda")
    assert not any("not captured" in line for line in trained.log)


def test_what_cannot_be_captured_runs_eagerly_and_says_why() -> None:
    trained = train_block(experiment(train_step=python_branch), strategy="streams", device="cuda")
    assert any("not captured in a CUDA graph" in line for line in trained.log)
    assert np.isfinite(trained.parameters()).all()


def test_an_epoch_waits_for_the_device_at_most_once() -> None:
    session: Any = block_session(experiment(), trials=4, device="cuda")
    session.start(None)
    session._count_steps()
    for number in (0, 1):
        session._epoch(number)
        session.position |= {"epoch": number + 1, "step": 0}
        session._read_back()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")  # the mode itself warns that it is a prototype
        torch.cuda.set_sync_debug_mode("warn")
        try:
            session._epoch(2)
            session._read_back()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len([each for each in seen if "called a synchronizing" in str(each.message)]) <= 1
