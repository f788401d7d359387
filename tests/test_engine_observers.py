"""What observers keep and record: committed whole, put back on resume, and never changed behind their back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import xfw
from torch import nn
from xfw.engine import assembly
from xfw.engine.recorder import Recorder
from xfw.engine.session import Session
from xfw.experiment import Experiment
from xfw.manifest import Execution
from xfw.store.commit import Committer, load_state
from xfw.testing.blocks import block_session, train_block
from xfw.testing.plugins import make_experiment

STREAM = xfw.Stream("step", "step", (xfw.Variable("step", "int64", "step"), xfw.Variable("value", "float32", "value")))
RECORDS = xfw.Records(streams=(STREAM,), arrays=(xfw.Array("best/*", "float32", "weights"),))


@attrs.frozen(kw_only=True)
class Config:
    rate: float = xfw.key(0.1, per_trial=True, help="learning rate")


class Counting(nn.Linear):
    """A linear map with a buffer of its own."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.register_buffer("seen", torch.rand(3))


def experiment(**changes: Any) -> Experiment:
    hooks: dict[str, Any] = {
        "load_data": lambda config: {"train": xfw.Dataset((torch.arange(8.0).view(8, 1),))},
        "build_model": lambda config: Counting(),
        "plan_passes": lambda config: [xfw.Pass(batch_size=4)] * 2,
        "train_step": lambda model, batch: model(batch[0]).square().mean(),
        "build_optimizer": lambda config: xfw.SGD(lr=config.rate),
        "declare_records": lambda config: RECORDS,
    }
    return make_experiment(Config, "observers", **(hooks | changes))


def committed(session: Session, folder: Path) -> Session:
    """Let a session commit to a folder, and return one that goes on from there."""
    session.committer = Committer(folder, shortest=0)
    session._commit()
    restored = load_state(folder)
    assert restored is not None
    resumed = block_session(experiment())
    resumed.load(restored)
    return resumed


def test_a_snapshot_holds_the_buffers_too_and_survives_a_resume(tmp_path: Path) -> None:
    session = block_session(experiment())
    session.start(None)
    session.block.snapshot("best")
    kept = session.block.buffers["seen"].clone()
    session.block.buffers["seen"].zero_()
    resumed = committed(session, tmp_path)
    assert not resumed.block.buffers["seen"].any()
    resumed.block.restore("best")
    assert torch.equal(resumed.block.buffers["seen"], kept)


def test_on_end_sees_the_same_epoch_and_the_same_marks_after_a_resume(tmp_path: Path) -> None:
    seen: list[tuple[int, list[bool]]] = []

    def look(block: Any) -> None:
        seen.append((block.epoch, block.finite.tolist()))

    session = block_session(experiment(on_end=look), ["rate=0.01,1e30"], trials=1)
    session.start(None)
    session.run()
    assert seen == [(1, [True, False])]
    resumed = block_session(experiment(on_end=look), ["rate=0.01,1e30"], trials=1)
    session.committer = Committer(tmp_path, shortest=0)
    session._commit()
    restored = load_state(tmp_path)
    assert restored is not None
    resumed.load(restored)
    resumed.run()
    assert seen == [(1, [True, False])] * 2


def test_an_array_keeps_the_values_that_it_was_set_to() -> None:
    recorder = Recorder(RECORDS, 2, torch.device("cpu"))
    weights = torch.ones(2, 3)
    recorder.array("best/undeclared", weights)
    recorder.array("other", weights)
    weights.zero_()
    _, arrays = recorder.take()
    assert all(array.all() for array in arrays.values())


@pytest.mark.parametrize("value", [3.0, np.zeros(1), torch.zeros(()), torch.zeros(1)])
def test_a_value_that_is_not_one_per_trial_is_named(value: Any) -> None:
    recorder = Recorder(RECORDS, 2, torch.device("cpu"))
    with pytest.raises(xfw.UserError, match="variable 'value' of stream 'step' has shape"):
        recorder.record("step", {"step": np.zeros(2), "value": value})
    with pytest.raises(xfw.UserError, match="array 'best/w' has shape"):
        recorder.array("best/w", value)


def test_the_log_shows_the_recorded_coordinate() -> None:
    def record(block: Any, metrics: Any) -> None:
        for step in (10, 20):
            block.record("step", step=np.full(2, step), value=metrics["loss"])

    log = "\n".join(train_block(experiment(on_epoch_end=record)).log)
    assert log.count("step=10 ") == log.count("step=20 ") == 4


def test_a_numbered_gpu_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for device in ("cuda:1", "cuda", "cpu"):
        assembly.set_numerics(Execution(device, "float32", False, "stack", 1, 1, ""))
    assert chosen == [1]


def test_whoever_puts_a_block_together_sets_the_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    """So `--strategy tune` times what a run will do: it makes trainers, but no session."""
    found: list[Execution] = []
    monkeypatch.setattr(assembly, "set_numerics", found.append)
    block_session(experiment(), allow_tf32=True)
    assert [execution.allow_tf32 for execution in found] == [True]
