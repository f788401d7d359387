"""Laws against real training on digits, and a tracker that touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from xfw.plugins.registry import load_experiment
from xfw.testing.blocks import Trained, train_block
from xfw_neural_mechanics import models
from xfw_neural_mechanics.groups import find_groups
from xfw_neural_mechanics.laws import LAWS
from xfw_neural_mechanics.tracker import Tracker

SMALL = (
    "data.name=digits", "model.name=mlp", "model.bn_eps=1e-12", "train.batch_size=100", "train.drop_last=true",
    "model.norm=false", "optim.lr=0.1", "optim.wd=5e-3", "train.steps=60", "record.every=7",
)  # fmt: skip


@cache
def trained(*overrides: str, trials: int = 1, dtype: str = "float64", strategy: str = "serial") -> Trained:
    experiment = load_experiment("neural_mechanics")
    values = dict(text.split("=", 1) for text in (*SMALL, *overrides))
    assignments = [f"{path}={value}" for path, value in values.items()]
    return train_block(experiment, assignments, trials=trials, dtype=dtype, strategy=strategy)


def error(run: Trained, group: str, law: str) -> float:
    measured, predicted = run.record("record", f"{group}/q"), run.record("record", f"{group}/law/{law}")
    if group.startswith("translation"):
        scale = np.abs(measured[0]).max()
    else:
        scale = measured if group.startswith("scale") else run.record("record", f"{group}/mag")
    return float((np.abs(predicted - measured) / scale).max())


def groups(run: Trained) -> list[str]:
    return [name.removesuffix("/q") for name in run.commit.records["record"] if name.endswith("/q")]


CASES = [
    (),
    ("model.norm=true",),
    ("optim.momentum=0.9",),
    ("optim.momentum=0.9", "optim.dampening=0.1"),
    ("optim.momentum=0.9", "optim.nesterov=true", "model.norm=true"),
    ("optim.lr_drops=[20,40]",),
    ("train.loss=mse",),
    ("optim.name=sgd", "optim.momentum=0.9"),
    ("optim.name=sgd",),
]


@pytest.mark.parametrize("how", CASES)
def test_identity_and_exact_laws_hold_to_rounding(how: Sequence[str]) -> None:
    run = trained(*how)
    assert groups(run)
    for group in groups(run):
        assert error(run, group, "identity") < 1e-12, group
        assert error(run, group, "exact") < (1e-8 if group.startswith("scale") else 1e-12), group


def test_in_single_precision_the_identity_holds_to_its_rounding() -> None:
    run = trained("model.norm=true", dtype="float32")
    assert all(error(run, group, "identity") < 1e-5 for group in groups(run))


def test_the_published_laws_are_close_where_gradient_flow_is_not() -> None:
    plain, normed = trained("train.steps=200"), trained("train.steps=200", "model.norm=true")
    assert error(normed, "scale/fc1", "flow") > 20 * error(normed, "scale/fc1", "first_order")
    assert error(plain, "rescale/fc2", "flow") > 20 * error(plain, "rescale/fc2", "first_order")


def test_dampening_enters_the_force() -> None:
    """Without 1/(1 - alpha)^2 the error would be a hundred times as large."""
    run = trained("model.norm=true", "optim.lr=0.05", "optim.wd=2e-3", "optim.momentum=0.9", "optim.dampening=0.5",
                  "train.steps=400")  # fmt: skip
    assert error(run, "scale/fc1", "oscillator") < 3 * 4.7e-4


def test_wrong_groups_are_visible() -> None:
    run = trained("record.forced=[scale:1]", "record.every=20")
    residual = run.record("record", "scale/forced-1/sym_rms")[1:]
    assert residual.max() > 1e-2
    assert run.record("record", "rescale/fc2/sym_rms").max() < 1e-12


def test_rows_are_stored_where_the_configuration_says() -> None:
    run = trained("record.dense_until=4")
    steps = run.record("record", "step")[:, 0].tolist()
    assert steps == sorted({*range(0, 61, 7), 1, 2, 3, 15, 30, 45, 60})
    assert run.record("record", "time")[:, 0] == pytest.approx([0.1 * step for step in steps])
    assert run.record("performance", "step")[:, 0].tolist() == [0, 15, 30, 45, 60]


def test_a_later_pass_may_store_more_rows_than_the_first() -> None:
    run = trained(
        "train.batch_size=88", "train.steps=60", "record.dense_until=0"
    )  # 17 updates a pass: 7 and 14, later 35, 42 and 49
    assert run.record("record", "step")[:, 0].tolist() == sorted({*range(0, 61, 7), 17, 34, 51, 60})


def test_the_tracker_is_passive() -> None:
    with_all, with_little = trained(), trained("record.laws=[flow]", "record.groups=[translation]", "record.every=60")
    assert np.array_equal(with_all.parameters(), with_little.parameters())


def test_our_optimizer_is_torchs_without_dampening() -> None:
    for how in ((), ("optim.momentum=0.9",), ("optim.momentum=0.9", "optim.nesterov=true")):
        own, library = trained(*how), trained(*how, "optim.name=sgd")
        np.testing.assert_allclose(own.parameters(), library.parameters(), rtol=0, atol=1e-15)


def test_trials_do_not_see_each_other() -> None:
    together, alone = trained("model.norm=true", trials=3), trained("model.norm=true", trials=1)
    for group in groups(alone):
        assert np.array_equal(together.record("record", f"{group}/q")[:, :1], alone.record("record", f"{group}/q"))


def test_the_tracker_follows_a_training_that_is_not_xfws() -> None:
    """A plain PyTorch loop with a tracker beside it: the library's use outside of the plugin."""
    torch.manual_seed(0)
    model = models.build("default", "mlp", (1, 8, 8), 10).double()
    tracker = Tracker(find_groups(model), LAWS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    named = dict(model.named_parameters())
    start = {name: value.detach().unsqueeze(0) for name, value in named.items()}
    state = tracker.start(start)
    from xfw_neural_mechanics.laws import Hyper
    from xfw_neural_mechanics.tracker import Step

    def column(value: float) -> torch.Tensor:
        return torch.full((1, 1), value, dtype=torch.float64)

    hyper = Hyper(column(0.05), column(1e-3), column(0.9), column(0.0))
    velocity = {name: torch.zeros_like(value) for name, value in named.items()}
    for _ in range(50):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.randn(20, 1, 8, 8).double()), torch.randint(0, 10, (20,)))
        loss.backward()
        before = {name: value.detach().clone().unsqueeze(0) for name, value in named.items()}
        gradients = {name: value.grad.clone().unsqueeze(0) for name, value in named.items() if value.grad is not None}
        for name, value in named.items():
            velocity[name] = 0.9 * velocity[name] + gradients[name][0] + 1e-3 * value.detach()
        moved = {name: value.unsqueeze(0) for name, value in velocity.items()}
        tracker.before_update(state, Step(before, gradients, moved, moved, hyper))
        optimizer.step()
    record = tracker.snapshot(state, {name: value.detach().unsqueeze(0) for name, value in named.items()})
    for group in tracker.groups:
        name = f"{group.kind}/{group.layer}"
        assert (record[f"{name}/law/identity"] - record[f"{name}/q"]).abs().max() < 1e-12
