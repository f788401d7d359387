"""How an epoch goes through its data: order, short last batch, wrap-around, metrics of every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import xfw
from torch import nn
from xfw.experiment import Experiment
from xfw.testing.blocks import Trained, block_session, train_block
from xfw.testing.plugins import make_experiment

COUNT = 70


@attrs.frozen(kw_only=True)
class Config:
    batch: int = xfw.key(16, ge=1, help="batch size")


def made(*epochs: xfw.Pass, step: Any = None, **changes: Any) -> Experiment:
    """An experiment whose metric ``sum`` is the sum of the examples' numbers of the batch."""

    def train_step(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
        numbers = batch[0].double()
        return {"sum": numbers.sum(), "squares": numbers.square().sum(), "count": torch.ones_like(numbers).sum()}

    hooks: dict[str, Any] = {
        "load_data": lambda config: {
            "train": xfw.Dataset((torch.arange(COUNT),)),
            "empty": xfw.Dataset((torch.zeros(0),)),
        },
        "build_model": lambda config: nn.Linear(1, 1),
        "plan_passes": lambda config: list(epochs),
        "train_step": step or train_step,
        "declare_records": lambda config: xfw.Records(),
    }
    return make_experiment(Config, "epochs", **(hooks | changes))


def meters(experiment: Experiment, number: int = 0, **how: Any) -> dict[str, np.ndarray]:
    session = block_session(experiment, **how)
    session._count_steps()
    session._epoch(number)
    return {name: value.numpy() for name, value in session.trainer.meters().items()}


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_an_epoch_visits_every_example_once_and_keeps_the_short_last_batch(strategy: str) -> None:
    found = meters(made(xfw.Pass(batch_size=16)), strategy=strategy, trials=3)
    assert found["count"].tolist() == [[16.0] * 3] * 4 + [[6.0] * 3]
    assert found["sum"].sum(0).tolist() == [COUNT * (COUNT - 1) / 2] * 3
    assert found["squares"].sum(0).tolist() == [sum(n * n for n in range(COUNT))] * 3
    assert len({tuple(lane) for lane in found["sum"].T}) == 3


def test_two_epochs_have_different_orders_and_the_same_epoch_the_same() -> None:
    twice = made(*[xfw.Pass(batch_size=16)] * 2)
    first, second = meters(twice), meters(twice, 1)
    assert not np.array_equal(first["sum"], second["sum"])
    assert np.array_equal(first["sum"], meters(twice)["sum"])


def test_a_sequential_epoch_keeps_the_stored_order() -> None:
    found = meters(made(xfw.Pass(batch_size=32, order="sequential")))
    assert found["sum"][:, 0].tolist() == [sum(range(32)), sum(range(32, 64)), sum(range(64, 70))]


def test_a_fixed_number_of_steps_walks_the_same_batches_again() -> None:
    found = meters(made(xfw.Pass(batch_size=32, steps=8)))
    assert np.array_equal(found["sum"][3:6], found["sum"][:3])
    assert np.array_equal(found["sum"][6:], found["sum"][:2])
    assert found["count"][:, 0].tolist() == [32, 32, 6, 32, 32, 6, 32, 32]


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    assert meters(made(xfw.Pass(batch_size=1000)))["count"].tolist() == [[COUNT, COUNT]]


def test_means_weigh_every_example_alike() -> None:
    def step(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
        return {"mean": batch[0].double().mean()}

    seen: list[float] = []
    watching = made(
        xfw.Pass(batch_size=16),
        step=step,
        on_epoch_end=lambda block, metrics: seen.extend(metrics["mean"].tolist()),
    )
    train_block(watching)
    assert seen == pytest.approx([(COUNT - 1) / 2] * 2, rel=1e-12)


def test_bytes_are_stored_as_bytes_and_prepared_by_batch() -> None:
    data = {"train": xfw.Dataset((torch.arange(COUNT, dtype=torch.uint8),), prepare=lambda x: (x.float() / 2,))}
    session = block_session(made(xfw.Pass(batch_size=70), load_data=lambda config: data), dtype="float64")
    assert session.trainer.datasets["train"].tensors[0].dtype == torch.uint8
    session._count_steps()
    session._epoch(0)
    assert session.trainer.meters()["sum"][0, 0] == COUNT * (COUNT - 1) / 4


@pytest.mark.parametrize(
    ("epoch", "message"),
    [
        (xfw.Pass(batch_size=4, dataset="trian"), "unknown data set 'trian'"),
        (xfw.Pass(batch_size=4, dataset="empty"), "data set 'empty' is empty"),
        (xfw.Pass(batch_size=4, order="shufled"), "unknown order 'shufled'"),
        (xfw.Pass(batch_size=0), "batch_size is 0"),
        (xfw.Pass(batch_size=4, steps=0), "steps is 0"),
        (xfw.Pass(batch_size=4, observe_every=0), "observe_every is 0"),
        (xfw.Pass(batch_size=4, order="given"), "`examples` goes with order='given'"),
        (xfw.Pass(batch_size=4, examples=8), "`examples` goes with order='given'"),
        (xfw.Pass(batch_size=4, order="given", examples=8), "no hook sample_order"),
    ],
)
def test_a_wrong_epoch_is_named(epoch: xfw.Pass, message: str) -> None:
    with pytest.raises(xfw.UserError, match=message):
        train_block(made(epoch), strategy="serial")


def test_a_metric_that_is_no_number_is_refused() -> None:
    def step(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
        return {"all": batch[0].double()}

    with pytest.raises(xfw.UserError, match="metric 'all' has shape"):
        train_block(made(xfw.Pass(batch_size=10), step=step))


def test_a_given_order_is_drawn_for_each_trial_and_pass() -> None:
    asked: list[tuple[int, int, int]] = []

    def sample_order(config: Config, trial: int, generator: Any, number: int, count: int) -> np.ndarray:
        asked.append((trial, number, count))
        return np.full(count, 10 * number + trial)

    experiment = made(*[xfw.Pass(batch_size=4, order="given", examples=10)] * 2, sample_order=sample_order)
    found = meters(experiment, 1, trials=3)
    assert asked == [(0, 1, 10), (1, 1, 10), (2, 1, 10)]
    assert found["count"][:, 0].tolist() == [4, 4, 2]
    assert found["sum"].tolist() == [[40, 44, 48], [40, 44, 48], [20, 22, 24]]


def test_the_generator_of_a_given_order_is_keyed_by_trial_and_pass() -> None:
    seen: dict[tuple[int, int], list[int]] = {}

    def sample_order(trial: int, generator: Any, number: int, count: int) -> np.ndarray:
        drawn: np.ndarray = generator.integers(0, COUNT, count)
        seen.setdefault((trial, number), drawn.tolist())
        assert seen[trial, number] == drawn.tolist()
        return drawn

    experiment = made(*[xfw.Pass(batch_size=4, order="given", examples=40)] * 2, sample_order=sample_order)
    for _ in range(2):
        train_block(experiment, strategy="serial")
    assert len({tuple(drawn) for drawn in seen.values()}) == 4


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_step_sees_its_pass_and_the_data_sets(strategy: str) -> None:
    def step(model: Any, batch: Any, rng: Any, pass_: xfw.Pass, data: Any) -> Mapping[str, torch.Tensor]:
        chosen = rng.permutation("subset", len(data["train"]))[:5]
        (numbers,) = data["train"].take(chosen)
        last = 1.0 if pass_.label == "last" else 0.0
        return {"sum": numbers.double().sum(), "expected": chosen.double().sum(), "last": numbers.sum() * 0.0 + last}

    found = meters(
        made(xfw.Pass(batch_size=16), xfw.Pass(batch_size=16, label="last"), step=step),
        1,
        trials=3,
        strategy=strategy,
    )
    assert np.array_equal(found["sum"], found["expected"])
    assert len(np.unique(found["sum"])) > 10
    assert found["last"].min() == 1.0


RIGHT = xfw.Variable("right", "int64", "right answers", axes=("task",))
OBSERVED = xfw.Records((xfw.Stream("step", "step", (RIGHT, xfw.Variable("norm", "float64", "norm")), each="step"),))


def observe_step(model: Any, rng: Any, pass_: xfw.Pass, data: Any) -> Mapping[str, torch.Tensor]:
    assert not torch.is_grad_enabled()
    (numbers,) = data["train"].take(rng.permutation("subset", COUNT)[:5])
    return {"right": torch.stack([numbers.sum(), numbers.max()]), "norm": model.weight.norm().double()}


def observed(strategy: str = "stack", **changes: Any) -> Trained:
    passes = [xfw.Pass(batch_size=8, steps=9, observe_every=3)] * 2
    hooks = {"observe_step": observe_step, "declare_records": lambda config: OBSERVED, **changes}
    return train_block(made(*passes, step=descend, **hooks), strategy=strategy)


def descend(model: Any, batch: Any) -> torch.Tensor:
    return (model(batch[0].float().unsqueeze(1)) ** 2).mean() * 1e-6


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_step_is_observed_in_every_so_many_steps_and_in_the_last(strategy: str) -> None:
    found = observed(strategy, build_optimizer=lambda config: xfw.SGD(lr=1.0))
    due = [place % 9 in (0, 3, 6, 8) for place in range(18)]
    assert (found.record("step", "right")[..., 0] >= 0).all(1).tolist() == due
    assert (found.record("step", "right")[np.logical_not(due)] == -1).all()
    assert np.isfinite(found.record("step", "norm")).all(1).tolist() == due
    assert len({tuple(row) for row in found.record("step", "right")[due].reshape(-1, 2).tolist()}) == 16


def test_an_observation_is_of_the_parameters_before_the_update() -> None:
    session = block_session(
        made(xfw.Pass(batch_size=8), observe_step=observe_step, step=descend, declare_records=lambda config: OBSERVED)
    )
    before = [module.weight.norm().item() for module in session.trainer.network.models]
    session._count_steps()
    session._epoch(0)
    assert session.trainer.meters()["observed/norm"][0].tolist() == pytest.approx(before, rel=1e-6)


def test_an_observation_is_made_in_evaluation_state_and_training_goes_on() -> None:
    states: list[tuple[str, bool]] = []

    def step(model: Any, batch: Any) -> torch.Tensor:
        states.append(("train", model.training))
        return descend(model, batch)

    def observe(model: Any, rng: Any, pass_: xfw.Pass, data: Any) -> Mapping[str, torch.Tensor]:
        states.append(("observe", model.training))
        return observe_step(model, rng, pass_, data)

    passes = [xfw.Pass(batch_size=8, steps=4)]
    hooks = {"observe_step": observe, "declare_records": lambda config: OBSERVED}
    train_block(made(*passes, step=step, **hooks), strategy="serial")
    assert set(states) == {("train", True), ("observe", False)}


def test_what_is_observed_has_no_mean_over_the_pass() -> None:
    names: list[set[str]] = []
    observed(on_epoch_end=lambda block, metrics: names.append(set(metrics)))
    assert names == [{"loss"}, {"loss"}]


def test_an_observation_named_like_a_metric_of_the_step_is_refused() -> None:
    def twice(model: Any, rng: Any, pass_: xfw.Pass, data: Any) -> Mapping[str, torch.Tensor]:
        return {**observe_step(model, rng, pass_, data), "loss": model.weight.sum()}

    with pytest.raises(xfw.UserError, match="observe_step: returned 'loss', as train_step does"):
        observed(observe_step=twice)


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_metrics_that_only_some_steps_return_are_refused_by_name(strategy: str) -> None:
    def step(model: Any, batch: Any) -> Mapping[str, torch.Tensor]:
        total = batch[0].double().sum()
        return {"sum": total, **({"short": total} if len(batch[0]) < 8 else {})}

    with pytest.raises(xfw.UserError, match="metric 'short' in some of its steps only"):
        train_block(made(xfw.Pass(batch_size=8), step=step), strategy=strategy)


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (lambda trial, count: np.arange(count) + 0.5, "float64"),
        (lambda trial, count: np.arange(count - trial), r"\(2,\)"),
        (lambda trial, count: np.arange(count) - 1, "from -1 to 1"),
        (lambda trial, count: np.array([0, 70, 1]), "from 0 to 70"),
    ],
)
def test_a_given_order_that_is_no_list_of_indices_is_refused(order: Any, found: str) -> None:
    epoch = xfw.Pass(batch_size=2, order="given", examples=3)
    with pytest.raises(xfw.UserError, match=f"sample_order.*{found}.*expected 3 whole numbers from 0 to 69"):
        train_block(made(epoch, sample_order=order))
