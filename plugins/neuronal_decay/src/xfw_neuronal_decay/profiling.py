"""The profiled variant (spec 7.2): the time of an iteration as the block ran it, and of one network by itself.

A block trains all trials in one captured step, in which training and evaluation have no times of their own. So at
the end of every task a copy of each trial's network takes ordinary steps and evaluations, on its own and in the
original's way: forward, backward, update by ``torch.optim.Adam``, each evaluation after the step.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.data import Phase, epochs
from xfw_neuronal_decay.model import build, evaluated, loss_terms, products

if TYPE_CHECKING:
    from xfw.engine.block import Block

__all__ = ["REPEATS", "begin", "measure"]

REPEATS = 5
"""Timed repetitions of one network's step and evaluation, after one that is not timed."""

STARTED = "profile/started"
MEASURED = ("training", "training_device", "evaluation", "evaluation_device")


def begin(block: Block) -> None:
    """Take the time at which a task begins, and the process it begins in."""
    now = torch.tensor([time.time_ns(), os.getpid()], dtype=torch.int64, device=block.device)
    block.values[STARTED] = now.repeat(block.size, 1)


def measure(block: Block) -> None:
    """Record the times of the task that has ended, in seconds per iteration and trial."""
    config: Config = block.configs[0]
    total = _total(block) / (config.iterations_per_task * len({*block.members}))
    times = [_network_times(block, lane) for lane in range(block.size)]
    columns = {name: [each[place] for each in times] for place, name in enumerate(MEASURED)}
    block.record(
        "profile",
        wall_time_total=[total] * block.size,
        **{f"wall_time_{name}": values for name, values in columns.items()},
    )
    block.array("multiply_accumulates", [products(each, each.batch_size) for each in block.configs])
    for lane, member in enumerate(block.members):
        known = {name: values[lane] for name, values in columns.items() if math.isfinite(values[lane])}
        own = ", ".join(f"{name.replace('_', ' on the ')} {1e3 * seconds:.3f} ms" for name, seconds in known.items())
        block.log(
            f"profile: experiment {block.configs[lane].number} trial {member.trial} task {block.epoch + 1}: "
            f"total {1e3 * total:.3f} ms, alone: {own}; "
            f"{products(block.configs[lane], config.batch_size)} multiply-accumulates for {config.batch_size} images"
        )


def _total(block: Block) -> float:
    """Return the seconds since the task began; NaN where another process began it."""
    _synchronise(block.device)
    started, process = block.values[STARTED][0].tolist()
    return (time.time_ns() - started) / 1e9 if process == os.getpid() else float("nan")


def _network_times(block: Block, lane: int) -> tuple[float, float, float, float]:
    """Return the seconds of a training step and of an evaluation of one network: host, device; host, device."""
    from xfw.engine.batches import Resident
    from xfw.engine.rng import Rng, key_words

    config: Config = block.configs[lane]
    epoch = epochs(config)[block.epoch]
    phase = Phase.of(epoch.label)
    with torch.random.fork_rng(devices=[]):
        network = build(config).to(block.device, block.dtype)
    network.load_state_dict(block.module(lane).state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate or 0.0)
    sets = {name: Resident(dataset, block.dtype) for name, dataset in block.data.items()}
    size = min(epoch.batch_size, len(sets[epoch.dataset]))
    batch = sets[epoch.dataset].take(torch.arange(size, device=block.device))
    zero = torch.zeros((), dtype=torch.int32, device=block.device)
    rng = Rng(key_words([int(block.members[lane].key, 16)], block.device)[0], zero, zero)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(loss_terms(network, batch, phase)).backward()  # type: ignore[union-attr]
        optimizer.step()

    def test() -> None:
        evaluated(network, phase, rng, sets["test"])

    return (*_timed(train, block.device), *_timed(test, block.device))


def _timed(action: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Return the mean time of an action on the host, waiting for the device, and between events on the device."""
    action()
    _synchronise(device)
    cuda = device.type == "cuda"
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if cuda else []  # type: ignore[no-untyped-call]
    started = time.perf_counter()
    if cuda:
        events[0].record()
    for _ in range(REPEATS):
        action()
    if cuda:
        events[1].record()
    _synchronise(device)
    host = (time.perf_counter() - started) / REPEATS
    return host, events[0].elapsed_time(events[1]) / 1e3 / REPEATS if cuda else float("nan")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
