"""Schedules against those of ``torch.optim.lr_scheduler``, at every step of a run, and for trials that differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import xfw
from torch import nn
from torch.optim import lr_scheduler
from xfw import schedules
from xfw.engine.settings import Follower
from xfw.schedules import Schedule

TOLERANCE = 1e-7
STEPS = 60
CPU = torch.device("cpu")


def values(schedule: Schedule, steps: int = STEPS) -> list[float]:
    follower = Follower([schedule], CPU)
    found = []
    for step in range(steps):
        follower.follow(torch.tensor([step, 0.0], dtype=torch.float64))
        found.append(follower.now.item())
    return found


def followed(make: Callable[[Any], Any], base: float, field: str = "lr", steps: int = STEPS) -> list[float]:
    """Return what torch's scheduler gives an optimizer in every step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base, momentum=0.9)
    scheduler, found = make(optimizer), []
    for step in range(steps):
        found.append(float(optimizer.param_groups[0][field]))
        optimizer.step()
        if step + 1 < steps:
            scheduler.step()
    return found


def warm_up_then_cosine(optimizer: Any) -> Any:
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=10), lr_scheduler.CosineAnnealingLR(optimizer, 50)]
    return lr_scheduler.SequentialLR(optimizer, parts, [10])


CASES: dict[str, tuple[Schedule, Callable[[Any], Any], float]] = {
    "constant": (schedules.constant(0.3), lambda o: lr_scheduler.ConstantLR(o, factor=1.0), 0.3),
    "linear": (schedules.linear(0.03, 0.3, 25), lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=25), 0.3),
    "warm_up": (schedules.warm_up(0.3, 20, start=0.15), lambda o: lr_scheduler.LinearLR(o, 0.5, total_iters=20), 0.3),
    "to_zero": (schedules.linear(0.3, 0.0, 60), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=60), 0.3),
    "cosine": (
        schedules.cosine(0.3, STEPS, end=0.01),
        lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.01),
        0.3,
    ),
    "cosine_restarts": (
        schedules.cosine_restarts(0.3, 17, end=0.01),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 17, eta_min=0.01),
        0.3,
    ),
    "step": (schedules.step(0.3, 7, gamma=0.5), lambda o: lr_scheduler.StepLR(o, 7, gamma=0.5), 0.3),
    "multi_step": (
        schedules.multi_step(0.3, [5, 30, 31], gamma=0.5),
        lambda o: lr_scheduler.MultiStepLR(o, [5, 30, 31], gamma=0.5),
        0.3,
    ),
    "milestone_twice": (
        schedules.multi_step(0.3, [5, 5], gamma=0.5),
        lambda o: lr_scheduler.MultiStepLR(o, [5, 5], gamma=0.5),
        0.3,
    ),
    "exponential": (schedules.exponential(0.3, 0.97), lambda o: lr_scheduler.ExponentialLR(o, 0.97), 0.3),
    "polynomial": (schedules.polynomial(0.3, 40, power=2), lambda o: lr_scheduler.PolynomialLR(o, 40, power=2.0), 0.3),
    "one_cycle": (schedules.one_cycle(0.3, STEPS), lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=STEPS), 0.3),
    "one_cycle_linear": (
        schedules.one_cycle(0.3, STEPS, pct_start=0.25, div_factor=10, final_div_factor=100, linear=True),
        lambda o: lr_scheduler.OneCycleLR(o, 0.3, STEPS, None, None, 0.25, "linear", True, 0.85, 0.95, 10, 100),
        0.3,
    ),
    "sequence": (
        schedules.sequence([schedules.warm_up(0.3, 10, start=0.03), schedules.cosine(0.3, 50)], [10]),
        warm_up_then_cosine,
        0.3,
    ),
    "product": (
        schedules.linear(0.5, 1.0, 10) * schedules.exponential(0.3, 0.9),
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.LinearLR(o, 0.5, total_iters=10), lr_scheduler.ExponentialLR(o, 0.9)]
        ),
        0.3,
    ),
    "custom": (
        schedules.custom(lambda n, base: base / (1 + n).sqrt(), base=0.3),
        lambda o: lr_scheduler.LambdaLR(o, lambda n: (1 + n) ** -0.5),
        0.3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_schedule_equals_torchs_at_every_step(name: str) -> None:
    schedule, scheduler, base = CASES[name]
    expected = followed(scheduler, base)
    assert values(schedule) == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("linear", [False, True])
def test_the_momentum_of_one_cycle_equals_torchs(linear: bool) -> None:
    def scheduler(optimizer: Any) -> Any:
        strategy = "linear" if linear else "cos"
        return lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=STEPS, anneal_strategy=strategy)

    expected = followed(scheduler, 0.3, "momentum")
    found = values(schedules.one_cycle_momentum(STEPS, linear=linear))
    assert found == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "one_cycle"])
def test_a_schedule_stays_at_its_end(name: str) -> None:
    found = values(CASES[name][0], 2 * STEPS)
    assert found[STEPS:] == pytest.approx([found[STEPS]] * STEPS, abs=1e-12)


def test_trials_differ_in_numbers_and_in_forms() -> None:
    mixed = [
        0.5,
        schedules.cosine(0.3, 10),
        schedules.by_pass(schedules.step(0.2, 1)),
        schedules.cosine(0.1, 20),
        lambda n: 0.1 * n,
        schedules.sequence([schedules.warm_up(1.0, 4), schedules.constant(1.0)], [4]),
        schedules.sequence([schedules.warm_up(2.0, 2), schedules.constant(2.0)], [2]),
    ]
    follower = Follower(mixed, CPU)
    follower.follow(torch.tensor([3.0, 2.0], dtype=torch.float64))
    expected = [0.5, values(mixed[1], 4)[3], 0.002, values(mixed[3], 4)[3], 0.3, 0.75, 2.0]  # type: ignore[arg-type]
    assert follower.now.tolist() == pytest.approx(expected, rel=1e-12)


def test_neighbours_change_no_bit_of_a_schedule() -> None:
    alone = Follower([schedules.one_cycle(0.3, 50)], CPU)
    among = Follower([0.1, schedules.one_cycle(0.7, 40), schedules.one_cycle(0.3, 50), schedules.step(1, 3)], CPU)
    for step in range(50):
        clock = torch.tensor([step, 0.0], dtype=torch.float64)
        alone.follow(clock)
        among.follow(clock)
        assert torch.equal(alone.now[0], among.now[2])


def test_schedules_are_public_and_need_no_torch_to_be_named() -> None:
    assert xfw.schedules is schedules
    assert schedules.cosine(0.1, 10) == schedules.cosine(0.1, 10)
