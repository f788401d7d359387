"""What lies between gradient and parameters, against ordinary PyTorch loops, in company and after a resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import xfw
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler
from xfw import schedules, seeds
from xfw.engine.network import initial_model
from xfw.engine.rng import key_words, keyed_order
from xfw.engine.session import Interrupted
from xfw.experiment import Experiment
from xfw.store.commit import Committer, load_state
from xfw.testing.blocks import Trained, block_session, train_block
from xfw.testing.plugins import make_experiment

TOLERANCE = 1e-10
PASSES, SIZE, COUNT = 4, 16, 70
"""Four passes of 70 examples: five batches each, the last one of six."""


@attrs.frozen(kw_only=True)
class Config:
    lr: float = xfw.key(0.05, gt=0, per_trial=True, help="learning rate")
    norm: float = xfw.key(0.3, gt=0, per_trial=True, help="largest norm")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(x)
        return logits


def load_data(config: Config) -> Mapping[str, xfw.Dataset]:
    x = torch.randn(COUNT, 12, generator=torch.Generator().manual_seed(3))
    return {"train": xfw.Dataset((x, (x[:, 0] > 0).long() + (x[:, 1] * x[:, 2] > 0).long()))}


def train_step(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    x, y = batch
    return functional.cross_entropy(model(x) / model.temperature, y)


def evaluate_step(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    x, y = batch
    return {"loss": functional.cross_entropy(model(x), y, reduction="sum")}


def experiment(optimizer: Any, variables: Sequence[str] = ("loss",), **changes: Any) -> Experiment:
    declared = tuple(xfw.Variable(name, "float64", name) for name in variables)
    hooks = {
        "load_data": load_data,
        "build_model": lambda config: Net(),
        "build_optimizer": optimizer,
        "plan_passes": lambda config: [xfw.Pass(batch_size=SIZE)] * PASSES,
        "train_step": train_step,
        "evaluate_step": evaluate_step,
        "declare_records": lambda config: xfw.Records((xfw.Stream("step", "step", declared, each="step"),)),
    }
    return make_experiment(Config, "updates", **(hooks | changes))


class Loop:
    """One trial the ordinary way: its model, its batches in the keyed order."""

    def __init__(self, trial: int = 0) -> None:
        key = int(f"{seeds.trial_key(1, trial, {}):016x}", 16)
        self.words = key_words([key], "cpu")
        self.model = initial_model(Net, key).double()
        self.x, self.y = load_data(Config())["train"].tensors

    def batches(self, size: int = SIZE) -> Any:
        for number in range(PASSES):
            for index in keyed_order(self.words, number, COUNT)[0].split(size):
                yield self.x[index].double(), self.y[index]

    def row(self) -> np.ndarray:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()]).numpy()


def row_of(trained: Trained, lane: int, state: str = "parameters") -> np.ndarray:
    """Return a trial's parameters without the gaps of the arena, in the model's order."""
    slots = {name: (int(np.prod(shape)), offset) for name, shape, offset in trained.commit.layout["parameters"]}
    arena = trained.commit.state[state][lane]
    return np.concatenate([arena[o : o + n] for n, o in (slots[name] for name, _ in Net().named_parameters())])


def resumed(made: Experiment, folder: Path, overrides: Sequence[str], after: int, **how: Any) -> Trained:
    """Train to a step, commit, and go on in another session."""
    first: Any = block_session(made, overrides, **how)
    first.committer = Committer(folder, None)
    steps = iter(range(10**6))
    first.control.stop_requested = lambda: next(steps) >= after
    first.start(None)
    with pytest.raises(Interrupted):
        first.run()
    log: list[str] = []
    second: Any = block_session(made, overrides, **how)
    restored = load_state(folder)
    assert restored is not None
    assert restored.position["step"] + restored.position["epoch"] > 0
    second.load(restored)
    status = second.run()
    return Trained(second.committer.last, log, status)


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_scheduled_run_equals_a_loop_with_torchs_scheduler(strategy: str) -> None:
    steps = 5 * PASSES

    def optimizer(config: Config) -> xfw.Optimizer:
        momentum = schedules.one_cycle_momentum(steps)
        return xfw.SGD(lr=schedules.one_cycle(config.lr, steps), momentum=momentum, weight_decay=0.01)

    made = experiment(optimizer, ("loss", "lr", "momentum"))
    trained = train_block(made, ["lr=0.5,0.1"], dtype="float64", strategy=strategy)
    for lane, rate in enumerate((0.5, 0.5, 0.1, 0.1)):
        loop = Loop(lane % 2)
        update = torch.optim.SGD(loop.model.parameters(), lr=rate, momentum=0.9, weight_decay=0.01)
        scheduler = lr_scheduler.OneCycleLR(update, rate, total_steps=steps)
        rates, losses = [], []
        for step, batch in enumerate(loop.batches()):
            rates.append(update.param_groups[0]["lr"])
            update.zero_grad()
            loss = train_step(loop.model, batch)
            loss.backward()
            update.step()
            losses.append(loss.item())
            if step + 1 < steps:
                scheduler.step()
        assert np.abs(trained.record("step", "loss")[:, lane] - losses).max() <= TOLERANCE
        assert np.abs(trained.record("step", "lr")[:, lane] - rates).max() <= 1e-12
        assert np.abs(row_of(trained, lane) - loop.row()).max() <= TOLERANCE


def test_a_schedule_by_pass_changes_between_passes() -> None:
    made = experiment(lambda config: xfw.AdamW(lr=schedules.by_pass(schedules.step(0.1, 2))), ("loss", "lr"))
    rates = train_block(made, dtype="float64").record("step", "lr")[:, 0]
    assert rates == pytest.approx([0.1] * 10 + [0.01] * 10)


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_scheduled_buffer_is_what_the_step_reads(strategy: str) -> None:
    made = experiment(
        lambda config: xfw.SGD(lr=0.1),
        ("loss", "temperature"),
        build_schedules=lambda config: {"temperature": schedules.linear(1.0, 3.0, 20)},
    )
    trained = train_block(made, dtype="float64", strategy=strategy)
    loop = Loop()
    update = torch.optim.SGD(loop.model.parameters(), lr=0.1)
    for step, (x, y) in enumerate(loop.batches()):
        update.zero_grad()
        functional.cross_entropy(loop.model(x) / (1 + 2 * step / 20), y).backward()
        update.step()
    assert np.abs(row_of(trained, 0) - loop.row()).max() <= TOLERANCE
    assert trained.record("step", "temperature")[:, 0] == pytest.approx(1 + np.arange(20) / 10)


@pytest.mark.parametrize(
    ("found", "message"),
    [({"temprature": schedules.constant(1.0)}, "no buffer 'temprature'"), ({"body": 1.0}, "no buffer 'body'")],
)
def test_a_schedule_of_an_unknown_buffer_is_refused(found: Any, message: str) -> None:
    with pytest.raises(xfw.UserError, match=message):
        block_session(experiment(lambda config: xfw.SGD(lr=0.1), build_schedules=lambda config: found))


# --- clipping and accumulation ----------------------------------------------------------------------------------------


def clipped_loop(rate: float, norm: float | None, value: float | None, trial: int = 0) -> np.ndarray:
    loop = Loop(trial)
    update = torch.optim.AdamW(loop.model.parameters(), lr=rate, weight_decay=0.0)
    for batch in loop.batches():
        update.zero_grad()
        train_step(loop.model, batch).backward()
        if value is not None:
            nn.utils.clip_grad_value_(loop.model.parameters(), value)
        if norm is not None:
            nn.utils.clip_grad_norm_(loop.model.parameters(), norm)
        update.step()
    return loop.row()


def test_every_trial_is_clipped_by_its_own_norm() -> None:
    made = experiment(lambda config: xfw.AdamW(lr=config.lr, clip_norm=config.norm))
    trained = train_block(made, ["norm=0.05,0.2"], dtype="float64")
    for lane, norm in enumerate((0.05, 0.05, 0.2, 0.2)):
        assert np.abs(row_of(trained, lane) - clipped_loop(0.05, norm, None, lane % 2)).max() <= TOLERANCE


def test_gradients_are_clipped_by_value_and_then_by_norm() -> None:
    trained = train_block(
        experiment(lambda config: xfw.AdamW(lr=0.05, clip_value=0.02, clip_norm=0.1)), dtype="float64"
    )
    assert np.abs(row_of(trained, 0) - clipped_loop(0.05, 0.1, 0.02)).max() <= TOLERANCE


def test_a_trial_that_is_not_clipped_has_neighbours_that_are() -> None:
    made = experiment(lambda config: xfw.AdamW(lr=0.05, clip_norm=None if config.norm > 1 else config.norm))
    trained = train_block(made, ["norm=0.05,2"], dtype="float64", trials=1)
    assert np.abs(row_of(trained, 1) - clipped_loop(0.05, None, None)).max() <= TOLERANCE


def nan_step(model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return train_step(model, batch) / model.alive


class Mortal(Net):
    def __init__(self, alive: float) -> None:
        super().__init__()
        self.register_buffer("alive", torch.tensor(alive))


def test_one_trials_nan_touches_no_other() -> None:
    made = experiment(
        lambda config: xfw.AdamW(lr=0.05, clip_norm=0.1, average=0.9),
        build_model=lambda config: Mortal(0.0 if config.norm > 1 else 1.0),
        train_step=nan_step,
    )
    trained = train_block(made, ["norm=0.05,2,0.1"], trials=1)
    alone = train_block(made, ["norm=0.1"], trials=1)
    assert trained.status == ["done", "diverged", "done"]
    assert np.array_equal(trained.parameters()[2], alone.parameters()[0])
    assert np.array_equal(trained.commit.state["snapshots/average"][2], alone.commit.state["snapshots/average"][0])


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_micro_batches_equal_the_batch_that_they_make_up(strategy: str) -> None:
    small = experiment(
        lambda config: xfw.AdamW(lr=config.lr, accumulate=4),
        plan_passes=lambda config: [xfw.Pass(batch_size=8)] * PASSES,
    )
    trained = train_block(small, ["lr=0.05,0.01"], dtype="float64", strategy=strategy)
    for lane, rate in enumerate((0.05, 0.05, 0.01, 0.01)):
        loop = Loop(lane % 2)
        update = torch.optim.AdamW(loop.model.parameters(), lr=rate, weight_decay=0.0)
        for batch in loop.batches(32):
            update.zero_grad()
            train_step(loop.model, batch).backward()
            update.step()
        assert np.abs(row_of(trained, lane) - loop.row()).max() <= TOLERANCE


# --- hook, fixed entries, average -------------------------------------------------------------------------------------


def test_the_hook_sees_an_update_before_it_happens() -> None:
    rows: list[dict[str, np.ndarray]] = []

    def look(block: Any, update: Any) -> None:
        name = "body.0.weight"
        rows.append({
            "theta": update.parameters[name][1].clone().numpy(),
            "g": update.gradients[name][1].clone().numpy(),
            "change": update.changes[name][1].clone().numpy(),
            "v": update.kept["momentum_buffer"][name][1].clone().numpy(),
            "lr": update.numbers(name)["lr"].clone().numpy(),
            "bias_lr": update.numbers("body.0.bias")["lr"].clone().numpy(),
        })  # fmt: skip

    def optimizer(config: Config) -> xfw.Optimizer:
        rate = schedules.exponential(config.lr, 0.9)
        return xfw.SGD(
            lr=rate, momentum=0.5, dampening=0.1, weight_decay=0.1, groups=[xfw.Group("*.bias", lr=config.norm)]
        )

    made = experiment(optimizer, before_update=look)
    trained = train_block(made, dtype="float64", trials=2)
    del rows[0 : len(rows) - 20]  # what a rehearsal may have seen
    velocity = np.zeros((8, 12))
    for step, row in enumerate(rows):
        gradient = row["g"] + 0.1 * row["theta"]
        velocity = gradient if step == 0 else 0.5 * velocity + 0.9 * gradient
        assert row["lr"] == pytest.approx(0.05 * 0.9**step)
        assert row["bias_lr"] == pytest.approx(0.3)
        assert np.abs(row["v"] - velocity).max() <= 1e-12
        assert np.abs(row["change"] + row["lr"][1] * velocity).max() <= 1e-12
        if step:
            assert np.abs(row["theta"] - rows[step - 1]["theta"] - rows[step - 1]["change"]).max() <= 1e-12
    assert len(trained.record("step", "loss")) == 20


def summing(**more: Any) -> Experiment:
    """Sum the squares of all changes in float64, and stop one unit from moving."""

    def on_start(block: Any, source: Any) -> None:
        block.values["moved"] = torch.zeros(block.size, dtype=torch.float64, device=block.device)
        fixed = torch.zeros(8, 12, dtype=torch.bool)
        fixed[3] = True
        block.fix("body.0.weight", fixed)

    def before_update(block: Any, update: Any) -> None:
        squares = [change.double().square().flatten(1).sum(1) for change in update.changes.values()]
        block.values["moved"].add_(torch.stack(squares).sum(0))

    optimizer = {
        "build_optimizer": lambda config: xfw.Optimizer(
            "NAdam", lr=schedules.cosine(config.lr, 10), weight_decay=0.1, clip_norm=config.norm, accumulate=2,
            average=0.8,
        )
    }  # fmt: skip
    hooks = {"on_start": on_start, "before_update": before_update, **optimizer, **more}
    return experiment(hooks.pop("build_optimizer"), ("loss", "lr"), **hooks)


@pytest.mark.parametrize("after", [1, 2, 8, 12])
def test_everything_resumes_to_the_same_bits(after: int, tmp_path: Path) -> None:
    settings = ["lr=0.05,0.01", "norm=0.1,0.3"]
    whole = train_block(summing(), settings)
    broken = resumed(summing(), tmp_path, settings, after)
    assert whole.commit.state.keys() == broken.commit.state.keys()
    for name, expected in whole.commit.state.items():
        assert np.array_equal(broken.commit.state[name], expected), name


def test_company_changes_no_bit_of_an_update() -> None:
    settings = ["lr=0.05,0.01", "norm=0.1,0.3"]
    together, alone = train_block(summing(), settings), train_block(summing(), settings, only=[5])
    for name in ("parameters", "snapshots/average", "values/moved"):
        assert np.array_equal(together.commit.state[name][5], alone.commit.state[name][0]), name
    assert together.commit.state["values/moved"].dtype == np.float64


@pytest.mark.parametrize(
    "optimizer",
    [
        xfw.AdamW(lr=0.1, weight_decay=0.5),
        xfw.SGD(lr=0.1, momentum=0.9, weight_decay=0.5),
        xfw.Optimizer("RMSprop", lr=0.1, momentum=0.5, weight_decay=0.5),
    ],
)
def test_fixed_entries_keep_their_bits_and_the_others_train_as_without_them(optimizer: xfw.Optimizer) -> None:
    fixed = torch.rand(2, 8, 12, generator=torch.Generator().manual_seed(1)) < 0.5

    def on_start(block: Any, source: Any) -> None:
        block.fix("body.0.weight", fixed)

    made = experiment(lambda config: optimizer, on_start=on_start)
    trained = train_block(made, dtype="float64")
    for lane in range(2):
        loop = Loop(lane)
        first = loop.model.body[0]
        held = first.weight.detach()[fixed[lane]].numpy().copy()
        kind = getattr(torch.optim, str(optimizer.kind))
        update = kind(loop.model.parameters(), **optimizer.values)
        start = first.weight.detach().clone()
        for batch in loop.batches():
            update.zero_grad()
            train_step(loop.model, batch).backward()
            first.weight.grad.masked_fill_(fixed[lane], 0)
            update.step()
            with torch.no_grad():
                first.weight.copy_(torch.where(fixed[lane], start, first.weight))
        found = row_of(trained, lane)
        assert np.array_equal(found[:96].reshape(8, 12)[fixed[lane].numpy()], held)
        assert np.abs(found - loop.row()).max() <= TOLERANCE


def test_an_unknown_parameter_cannot_be_fixed() -> None:
    session = block_session(experiment(lambda config: xfw.SGD(lr=0.1)))
    with pytest.raises(xfw.UserError, match=r"no trained parameter 'body\.0\.wieght'"):
        session.block.fix("body.0.wieght", torch.ones(8, 12, dtype=torch.bool))


def test_a_hook_that_replaces_its_state_is_refused() -> None:
    def replace(block: Any, update: Any) -> None:
        block.values["sum"] = block.values["sum"] + 1

    def on_start(block: Any, source: Any) -> None:
        block.values["sum"] = torch.zeros(block.size)

    made = experiment(lambda config: xfw.SGD(lr=0.1), before_update=replace, on_start=on_start)
    with pytest.raises(xfw.UserError, match="replaced a tensor"):
        train_block(made)


def test_the_average_equals_torchs_and_is_evaluated() -> None:
    seen: list[np.ndarray] = []

    def on_end(block: Any) -> None:
        before = block.parameters["body.0.weight"].clone()
        seen.append(block.evaluate("train", weights="average")["loss"].numpy())
        assert torch.equal(block.parameters["body.0.weight"], before)

    trained = train_block(
        experiment(lambda config: xfw.SGD(lr=0.3, average=0.9), on_end=on_end), dtype="float64", trials=2
    )
    loop = Loop(1)
    update = torch.optim.SGD(loop.model.parameters(), lr=0.3)
    averaged = torch.optim.swa_utils.AveragedModel(
        loop.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    for batch in loop.batches():
        update.zero_grad()
        train_step(loop.model, batch).backward()
        update.step()
        averaged.update_parameters(loop.model)
    expected = torch.cat([p.detach().flatten() for p in averaged.module.parameters()]).numpy()
    assert np.abs(row_of(trained, 1, "snapshots/average") - expected).max() <= TOLERANCE
    loss = evaluate_step(averaged.module, (loop.x.double(), loop.y))["loss"]
    assert seen[0][1] == pytest.approx(loss.item(), rel=1e-10)


def test_the_best_network_so_far_is_kept_trial_by_trial() -> None:
    losses: list[torch.Tensor] = []

    def on_epoch_end(block: Any) -> None:
        loss = block.evaluate("train")["loss"]
        block.keep_best("lowest", loss, lowest=True)
        losses.append(loss.clone())

    def on_end(block: Any) -> None:
        kept = block.evaluate("train", weights="lowest")["loss"]
        best = torch.stack(losses).amin(0)
        assert torch.equal(kept, best)
        assert torch.allclose(block.values["lowest"], best.double())
        assert not torch.equal(best, losses[-1])

    train_block(experiment(lambda config: xfw.SGD(lr=8.0), on_epoch_end=on_epoch_end, on_end=on_end), trials=6)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_a_state_dictionary_of_its_moment(tmp_path: Path) -> None:
    paths: list[Any] = []
    seen: list[torch.Tensor] = []

    def on_epoch_end(block: Any) -> None:
        marked = torch.tensor([block.epoch % 2 == 0, True, True])
        paths.append(block.checkpoint("walk", where=marked))
        seen.append(block.parameters["body.0.weight"].clone())

    made = experiment(lambda config: xfw.SGD(lr=0.1), on_epoch_end=on_epoch_end)
    session = block_session(made, trials=2, width=3)
    session.block._folder = tmp_path
    session.start(None)
    session.run()
    assert [len(found) for found in paths] == [2] * PASSES
    assert [found[0] is None for found in paths] == [False, True, False, True]
    assert len(list((tmp_path / "checkpoints" / "walk").iterdir())) == 6
    for number, found in enumerate(paths):
        tensors, about = xfw.read_checkpoint(found[1])
        assert (about["condition"], about["trial"]) == ("0", "1")
        assert about["pass"] == str(number)
        model = Net()
        model.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
        assert torch.equal(model.body[0].weight, seen[number][1])


def test_a_checkpoint_of_a_snapshot_holds_that(tmp_path: Path) -> None:
    def on_end(block: Any) -> None:
        (path,) = block.checkpoint("end", weights="average")
        found = torch.tensor(xfw.read_checkpoint(path)[0]["body.0.weight"])
        assert torch.equal(found, block.snapshot_views("average")["body.0.weight"][0])
        assert not torch.equal(found, block.parameters["body.0.weight"][0])
        with pytest.raises(xfw.UserError, match="no snapshot 'averge'"):
            block.checkpoint("end", weights="averge")

    session = block_session(experiment(lambda config: xfw.SGD(lr=0.1, average=0.9), on_end=on_end), trials=1)
    session.block._folder = tmp_path
    session.start(None)
    session.run()
