"""Stages and streams of steps: what is stored, in which order, and the same after any interruption."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import xfw
from torch import nn
from xfw.engine.session import Interrupted, Session
from xfw.experiment import Experiment
from xfw.store import segments
from xfw.store.commit import Committer, load_state
from xfw.testing.blocks import block_session, train_block
from xfw.testing.plugins import make_experiment

COUNT, BATCH, EPOCHS = 20, 8, 3
STEPS = 3 * EPOCHS
CELLS = 4


@attrs.frozen(kw_only=True)
class Config:
    strength: float = xfw.key(0.5, per_trial=True, help="a number of each trial that the step reads")


class Network(nn.Module):
    def __init__(self, strength: float) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.register_buffer("strength", torch.tensor(strength))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.relu(self.linear(x) * self.strength)
        return h.sum(-1), h


def train_step(model: Any, batch: Any, rng: Any, data: Any) -> Any:
    (x,) = batch
    out, hidden = model(x)
    with torch.no_grad():
        (all_x,) = data["train"].take(rng.permutation("test", COUNT)[:5])
        tested = model(all_x)[0]
    penalty = model.strength * hidden.square().sum()
    loss = (out - 1).square().mean() + penalty
    return loss, {"penalty": penalty, "three": torch.stack([tested.max(), tested.min(), tested.sum()])}


def records(config: Config) -> xfw.Records:
    steps = (
        xfw.Variable("loss", "float64", "loss"),
        xfw.Variable("penalty", "float32", "penalty"),
        xfw.Variable("three", "float64", "three numbers", axes=("which",)),
    )
    cell = (xfw.Variable("norm", "float64", "norm of the weights"), xfw.Variable("cell", "int64", "cell"))
    return xfw.Records(
        (xfw.Stream("step", "step", steps, each="step"), xfw.Stream("probe", "point", cell)),
        (xfw.Array("first", "float64", "first entries"),),
    )


def run_cell(block: Any, stage: str, cell: int) -> None:
    assert (stage, block.stage) == ("probe", "probe")
    norm = block.parameters["linear.weight"].square().sum((1, 2))
    block.record("probe", norm=norm * (cell + 1), cell=[cell] * block.size)


def on_end(block: Any) -> None:
    block.ragged("first", [np.arange(lane + 1.0) for lane in range(block.size)])


def made(**changes: Any) -> Experiment:
    hooks: dict[str, Any] = {
        "load_data": lambda: {"train": xfw.Dataset((torch.linspace(-1, 1, 2 * COUNT).view(COUNT, 2),))},
        "build_model": lambda config: Network(config.strength),
        "build_optimizer": lambda: xfw.Adam(lr=0.01),
        "plan_passes": lambda: [xfw.Pass(batch_size=BATCH)] * EPOCHS,
        "train_step": train_step,
        "declare_records": records,
        "define_stages": lambda: [xfw.Stage("train", "train"), xfw.Stage("probe", "look", cells=CELLS)],
        "run_cell": run_cell,
        "on_end": on_end,
    }
    return make_experiment(Config, "staged", **(hooks | changes))


class StopAfter:
    """Ask to stop when asked for the n-th time; count what is asked."""

    def __init__(self, polls: int) -> None:
        self.left = polls

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left < 0

    def note(self, text: str) -> None:
        """Show nothing."""

    def progress(self, done: int, total: int, epoch: int, epochs: int, headline: Any, stage: str = "") -> None:
        self.told = [*getattr(self, "told", []), (stage, done, total)]


def session(tmp_path: Path, polls: int, **how: Any) -> Session:
    restored = load_state(tmp_path)
    made_session = block_session(made(), ["strength=0.5,2"], trials=2, **how)
    made_session.committer, made_session.control = Committer(tmp_path, restored), StopAfter(polls)
    if restored is None:
        made_session.start(None)
    else:
        made_session.load(restored)
    return made_session


def stored(tmp_path: Path) -> tuple[Mapping[str, Mapping[str, np.ndarray]], Mapping[str, Any], Mapping[str, Any]]:
    last = load_state(tmp_path)
    assert last is not None
    assert last.final
    return segments.read_all(tmp_path, last.segments), last.state, last.arrays


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_stopped_before_every_step_and_cell_stores_what_an_uninterrupted_run_does(
    tmp_path: Path, strategy: str
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = session(tmp_path / "whole", 10**6, strategy=strategy)
    assert whole.run() == ["done"] * 4
    steps = [("", step + 1, STEPS) for step in range(STEPS)]
    assert whole.control.told == steps + [("probe", cell + 1, CELLS) for cell in range(CELLS)]
    stops = 0
    while True:
        try:
            session(tmp_path / "parts", 1, strategy=strategy).run()
            break
        except Interrupted:
            stops += 1
    assert stops >= STEPS + CELLS - 1
    expected_records, expected_state, expected_arrays = stored(tmp_path / "whole")
    found_records, found_state, found_arrays = stored(tmp_path / "parts")
    for stream, variables in expected_records.items():
        for name, values in variables.items():
            assert np.array_equal(found_records[stream][name], values), (stream, name)
    assert all(np.array_equal(found_state[name], value) for name, value in expected_state.items())
    assert [list(a) for a in found_arrays["first"]] == [list(a) for a in expected_arrays["first"]]
    assert expected_records["step"]["three"].shape == (STEPS, 4, 3)
    assert expected_records["probe"]["cell"][:, 0].tolist() == list(range(CELLS))


def test_rows_of_steps_are_what_single_models_compute() -> None:
    """Against a loop over one ordinary network with torch's own optimizer, in float64."""
    trained = train_block(made(), ["strength=2"], trials=1, dtype="float64", strategy="stack")
    start = block_session(made(), ["strength=2"], trials=1, dtype="float64")
    model = start.block.module(0)
    model.strength = torch.tensor(2.0, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for number in range(EPOCHS):
        start.trainer.begin(start.epochs[number], number)
        batches = start.trainer._batches[start.epochs[number]]
        for step in range(3):
            batches.position.fill_(step)
            x = batches.take(batches.size(step))[0][0].double()
            out, hidden = model(x)
            loss = (out - 1).square().mean() + 2.0 * hidden.square().sum()
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert trained.record("step", "loss")[:, 0] == pytest.approx(losses, rel=1e-12)


def test_a_buffer_that_differs_between_trials_acts_alike_in_every_strategy() -> None:
    stacked = train_block(made(), ["strength=0.5,2"], strategy="stack", dtype="float64")
    single = train_block(made(), ["strength=0.5,2"], strategy="serial", dtype="float64")
    assert stacked.commit.layout["lowering"] == "twin"
    for name in ("loss", "penalty", "three"):
        assert stacked.record("step", name) == pytest.approx(single.record("step", name), rel=1e-9, abs=1e-12)
    penalty = stacked.record("step", "penalty")
    assert not np.allclose(penalty[:, 0], penalty[:, 2])


def test_a_metric_that_a_stream_of_steps_needs_is_asked_for() -> None:
    def forgetful(model: Any, batch: Any) -> Any:
        return model(batch[0])[0].mean(), {"penalti": model.strength * 1.0}

    with pytest.raises(xfw.UserError, match="returned no 'penalty'"):
        train_block(made(train_step=forgetful))


def test_a_metric_of_wrong_shape_is_refused() -> None:
    def flat(model: Any, batch: Any) -> Any:
        loss = model(batch[0])[0].mean()
        return loss, {"penalty": loss, "three": loss}

    with pytest.raises(xfw.UserError, match="'three' has shape \\(\\), expected 1 axes"):
        train_block(made(train_step=flat))


def test_stages_must_have_names_of_their_own() -> None:
    twice = [xfw.Stage("train", "a"), xfw.Stage("train", "b", cells=2)]
    with pytest.raises(xfw.UserError, match="'train' is named twice"):
        train_block(made(define_stages=lambda: twice))


def test_only_training_may_leave_out_how_many_cells_it_has() -> None:
    with pytest.raises(xfw.UserError, match="stage 'discover' has no number of cells, which only 'train' may"):
        train_block(made(define_stages=lambda: [xfw.Stage("discover", "a")]))


def test_the_trials_of_a_block_share_their_stages() -> None:
    def stages(config: Config) -> list[xfw.Stage]:
        return [xfw.Stage("train", "train"), xfw.Stage("probe", "look", cells=int(2 * config.strength))]

    with pytest.raises(xfw.UserError, match="differ in the stage 'probe'"):
        train_block(made(define_stages=stages), ["strength=0.5,2"])
