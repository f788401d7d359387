"""What only a CUDA device can show: captured steps, side streams, equal bits at an equal width, few waits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import xfw
from xfw import schedules
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


# --- updates ----------------------------------------------------------------------------------------------------------


def in_place(parameter: Any, gradient: Any, state: Any, step: Any, *, lr: Any) -> Any:
    return -lr * state.entry("mean").mul_(0.9).add_(0.1 * gradient) / step.sqrt()


UPDATES: dict[str, Any] = {
    "kernel": lambda config: xfw.AdamW(
        lr=schedules.cosine(config.lr, 15), weight_decay=0.1, clip_norm=0.5, average=0.9,
        groups=[xfw.Group("*.bias", weight_decay=0.0)],
    ),
    "formula": lambda config: xfw.Optimizer("NAdam", lr=schedules.warm_up(config.lr, 5), clip_value=0.1, accumulate=2),
    "momentum": lambda config: xfw.SGD(
        lr=schedules.one_cycle(config.lr, 15), momentum=schedules.one_cycle_momentum(15), dampening=0.1
    ),
    "function": lambda config: xfw.Optimizer(in_place, lr=config.lr),
}  # fmt: skip


def updating(name: str, *, watched: bool) -> Any:
    """Return an experiment with an update; ``watched`` sums all changes within the captured step."""

    def on_start(block: Any, source: Any) -> None:
        block.values["moved"] = torch.zeros(block.size, dtype=torch.float64, device=block.device)

    def before_update(block: Any, update: Any) -> None:
        squares = [change.double().square().flatten(1).sum(1) for change in update.changes.values()]
        block.values["moved"].add_(torch.stack(squares).sum(0))

    hooks = {"before_update": before_update} if watched else {}
    return experiment(train_step=quiet_step, build_optimizer=UPDATES[name], on_start=on_start, **hooks)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("name", UPDATES)
def test_an_update_is_captured_and_agrees_with_the_cpu(name: str, watched: bool) -> None:
    here = train_block(updating(name, watched=watched), SETTINGS, device="cuda", dtype="float64")
    there = train_block(updating(name, watched=watched), SETTINGS, dtype="float64")
    assert not any("not captured" in line for line in here.log)
    for part, expected in there.commit.state.items():
        assert np.abs(here.commit.state[part].astype(float) - expected).max() <= TOLERANCE, part


@pytest.mark.parametrize("name", UPDATES)
def test_neighbours_change_no_bit_of_an_update_at_an_equal_width(name: str) -> None:
    together = train_block(updating(name, watched=True), SETTINGS, device="cuda", trials=3)
    for place in (0, 7, 11):
        alone = train_block(updating(name, watched=True), SETTINGS, device="cuda", trials=3, only=[place], width=12)
        assert np.array_equal(alone.parameters()[0], together.parameters()[place])


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_waits_for_nothing(name: str) -> None:
    session: Any = block_session(updating(name, watched=True), trials=4, device="cuda")
    session.start(None)
    session._count_steps()
    for number in (0, 1):
        session._epoch(number)
        session.position |= {"epoch": number + 1, "step": 0}
        session._read_back()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            session._epoch(2)
            session._read_back()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len([warning for warning in seen if "called a synchronizing" in str(warning.message)]) <= 1
