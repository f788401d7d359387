"""Optimizers that ``train_step`` steps itself: their state is data, their trials are ordinary PyTorch loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import xfw
from torch import nn
from torch.nn import functional
from xfw import seeds
from xfw.engine.manual import Manual, is_manual
from xfw.engine.network import initial_model
from xfw.engine.rng import Rng, key_words, keyed_order
from xfw.engine.session import Interrupted
from xfw.engine.strategy import choose
from xfw.manifest import Execution
from xfw.plan.estimate import OnceOnly, measure
from xfw.store.commit import Committer, load_state
from xfw.testing.blocks import block_session, train_block
from xfw.testing.plugins import make_experiment

MAKERS: dict[str, Any] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.1),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1, history_size=3, line_search_fn="strong_wolfe"),
}


def problem(name: str) -> tuple[nn.Module, Any, Any]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = MAKERS[name](model.parameters())
    x = torch.randn(20, 3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        return loss

    return model, optimizer, closure


def held(*found: Any) -> Manual:
    models = [nn.Identity() for _ in found]
    return Manual(models, found, lambda lane, model: None)


def row(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_state_goes_on_to_the_same_bits(name: str) -> None:
    model, optimizer, closure = problem(name)
    for _ in range(4):
        optimizer.step(closure)
    saved = held(optimizer).saved()
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    stored = {n: torch.from_numpy(t.numpy().copy()) for n, t in saved.items()}
    for _ in range(4):
        optimizer.step(closure)
    other, fresh, again = problem(name)
    other.load_state_dict(weights)
    held(fresh).load(stored)
    for _ in range(4):
        fresh.step(again)
    assert torch.equal(row(model), row(other))


def test_schedulers_are_saved_with_their_optimizers() -> None:
    def made() -> dict[str, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
        return {"o": optimizer, "s": torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5])}

    first, second = made(), made()
    assert is_manual(first)
    for _ in range(3):
        first["o"].step()
        first["s"].step()
    held(second).load(held(first).saved())
    rates = []
    for parts in (first, second):
        for _ in range(4):
            parts["o"].step()
            parts["s"].step()
            rates.append(parts["o"].param_groups[0]["lr"])
    assert rates[:4] == rates[4:]


def test_a_reset_forgets_the_marked_trials_only() -> None:
    parts = [problem("Adam") for _ in range(2)]
    both = held(*(optimizer for _, optimizer, _ in parts))
    for _, optimizer, closure in parts:
        optimizer.step(closure)
    both.reset(torch.tensor([True, False]))
    assert [bool(optimizer.state) for _, optimizer, _ in parts] == [False, True]


def test_a_state_that_is_not_data_is_named() -> None:
    _, optimizer, _ = problem("SGD")
    optimizer.param_groups[0]["secret"] = object()
    with pytest.raises(xfw.UserError, match="secret' holds a object"):
        held({"g": optimizer}).saved()


def test_specifications_are_not_stepped_by_the_step() -> None:
    assert not is_manual(xfw.SGD(lr=0.1))
    assert not is_manual(None)
    assert not is_manual({})


# --- trained in a block -----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Config:
    lr: float = xfw.key(0.02, gt=0, per_trial=True, help="learning rate")


class Pair(nn.Module):
    """A generator and a critic of one-dimensional data."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
        self.critic = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def adversarial(model: Any, batch: tuple[torch.Tensor, ...], noise: torch.Tensor, optimizers: Any) -> Any:
    """Take one step of both players (Goodfellow et al. 2014)."""
    (real,) = batch
    ones, zeros = torch.ones(len(real), 1).to(real), torch.zeros(len(real), 1).to(real)
    bce = functional.binary_cross_entropy_with_logits
    optimizers["critic"].zero_grad()
    fake = model.generator(noise)
    critic_loss = bce(model.critic(real), ones) + bce(model.critic(fake.detach()), zeros)
    critic_loss.backward()
    optimizers["critic"].step()
    optimizers["generator"].zero_grad()
    loss = bce(model.critic(fake), ones)
    loss.backward()
    optimizers["generator"].step()
    return {"loss": loss, "critic": critic_loss}


def two(config: Config, model: Any) -> Any:
    return {
        "generator": torch.optim.Adam(model.generator.parameters(), lr=config.lr, betas=(0.5, 0.999)),
        "critic": torch.optim.RMSprop(model.critic.parameters(), lr=2 * config.lr),
    }


def data(config: Config) -> Any:
    return {"train": xfw.Dataset((torch.randn(40, 3, generator=torch.Generator().manual_seed(2)),))}


def players(**changes: Any) -> Any:
    def train_step(model: Any, batch: Any, rng: Any, optimizers: Any) -> Any:
        return adversarial(model, batch, rng.normal("noise", (len(batch[0]), 2)).to(batch[0].dtype), optimizers)

    variables = (xfw.Variable("loss", "float64", "loss"), xfw.Variable("critic", "float64", "critic"))
    hooks = {
        "load_data": data,
        "build_model": lambda config: Pair(),
        "build_optimizer": two,
        "plan_passes": lambda config: [xfw.Pass(batch_size=16)] * 20,
        "train_step": train_step,
        "declare_records": lambda config: xfw.Records((xfw.Stream("step", "step", variables, each="step"),)),
    }
    return make_experiment(Config, "players", **(hooks | changes))


@pytest.mark.parametrize("strategy", ["serial", "pool", "stack"])
def test_two_players_train_as_in_an_ordinary_loop(strategy: str) -> None:
    trained = train_block(players(), ["lr=0.02,0.005"], dtype="float64", strategy=strategy)
    assert any("steps its own optimizer" in line for line in trained.log) == (strategy == "stack")
    for lane, rate in enumerate((0.02, 0.02, 0.005, 0.005)):
        key = int(f"{seeds.trial_key(1, lane % 2, {}):016x}", 16)
        words = key_words([key], "cpu")
        model = initial_model(Pair, key).double()
        optimizers = two(Config(lr=rate), model)
        (x,) = data(Config())["train"].tensors
        losses = []
        for number in range(20):
            for step, index in enumerate(keyed_order(words, number, 40)[0].split(16)):
                rng = Rng(words[0], torch.tensor(number), torch.tensor(step))
                noise = rng.normal("noise", (len(index), 2)).double()
                losses.append(adversarial(model, (x[index].double(),), noise, optimizers)["loss"].item())
        assert np.abs(trained.record("step", "loss")[:, lane] - losses).max() <= 1e-10


def lbfgs(config: Config, model: Any) -> Any:
    return torch.optim.LBFGS(model.parameters(), lr=0.1, history_size=3)


def closing(model: Any, batch: tuple[torch.Tensor, ...], optimizer: Any) -> Any:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = (model.critic(batch[0]) - batch[0].sum(1, keepdim=True)).square().mean()
        loss.backward()
        return loss

    return {"loss": optimizer.step(closure), "critic": torch.zeros(())}


class Sharpness(torch.optim.Optimizer):
    """Sharpness-aware minimisation around a base optimizer (Foret et al. 2021): two gradients, one norm over all."""

    def __init__(self, params: Any, lr: float, rho: float = 0.05) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})
        self.base = torch.optim.SGD(self.param_groups, lr=lr, momentum=0.9)
        self.state = self.base.state

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        self.base.param_groups, self.base.state = self.param_groups, self.state

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure()
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        moves = [self.param_groups[0]["rho"] * p.grad / norm for p in parameters]
        torch._foreach_add_(parameters, moves)
        with torch.enable_grad():
            closure()
        torch._foreach_sub_(parameters, moves)
        self.base.step()
        return loss


MIXING: dict[str, dict[str, Any]] = {
    "players": {},
    "lbfgs": {"build_optimizer": lbfgs, "train_step": closing},
    "sharpness": {
        "build_optimizer": lambda config, model: Sharpness(model.parameters(), lr=config.lr),
        "train_step": closing,
    },
}


@pytest.mark.parametrize("after", [4, 9])
@pytest.mark.parametrize("name", MIXING)
def test_a_resumed_block_goes_on_to_the_same_bits(name: str, after: int, tmp_path: Path) -> None:
    how: dict[str, Any] = {"strategy": "serial"}
    whole = train_block(players(**MIXING[name]), **how)
    first: Any = block_session(players(**MIXING[name]), **how)
    first.committer = Committer(tmp_path, None)
    steps = iter(range(10**6))
    first.control.stop_requested = lambda: next(steps) >= after
    first.start(None)
    with pytest.raises(Interrupted):
        first.run()
    second: Any = block_session(players(**MIXING[name]), **how)
    restored = load_state(tmp_path)
    assert restored is not None
    second.load(restored)
    second.run()
    assert np.array_equal(second.committer.last.state["parameters"], whole.parameters())
    assert np.isfinite(whole.parameters()).all()


@pytest.mark.parametrize("name", MIXING)
def test_company_changes_no_bit(name: str) -> None:
    settings = ["lr=0.02,0.005"]
    together = train_block(players(**MIXING[name]), settings, strategy="serial")
    alone = train_block(players(**MIXING[name]), settings, strategy="serial", only=[3])
    assert np.array_equal(together.parameters()[3], alone.parameters()[0])


def test_a_reset_of_marked_trials_reaches_their_optimizers() -> None:
    counts: list[list[int]] = []

    def on_epoch_end(block: Any) -> None:
        found = [block.trainer.update.manual.of(block.module(lane))["generator"] for lane in range(2)]
        if block.epoch == 0:
            block.reset_optimizer(torch.tensor([True, False]))
        counts.append([len(optimizer.state) for optimizer in found])

    train_block(players(on_epoch_end=on_epoch_end), strategy="serial")
    assert counts[0] == [0, 4]
    assert counts[1] == [4, 4]


def ordinary(config: Config, model: Any) -> Any:
    decayed = [p for n, p in model.named_parameters() if n.endswith("weight")]
    rest = [p for n, p in model.named_parameters() if not n.endswith("weight")]
    groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=0.1)


def by_name(config: Config) -> Any:
    return xfw.AdamW(lr=config.lr, weight_decay=0.1, groups=[xfw.Group("*.bias", weight_decay=0.0)])


def test_an_ordinary_optimizer_is_taken_over_by_the_core() -> None:
    def train_step(model: Any, batch: Any) -> Any:
        return model.critic(model.generator(batch[0][:, :2])).square().mean(), {"critic": batch[0].sum()}

    one, other = (
        train_block(players(build_optimizer=make, train_step=train_step), ["lr=0.02,0.005"], dtype="float64")
        for make in (ordinary, by_name)
    )
    assert "modules" not in one.commit.layout["lowering"]
    assert np.abs(one.record("step", "loss") - other.record("step", "loss")).max() <= 1e-12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"build_optimizer": lambda config: xfw.SGD(lr=0.1)}, "names an optimizer, but build_optimizer returned a SGD"),
        ({"build_optimizer": lambda config: None}, "returned a NoneType"),
        ({"train_step": lambda model, batch: batch[0].sum()}, "several optimizers, which train_step does not step"),
    ],
)
def test_hooks_that_disagree_on_who_steps_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(xfw.UserError, match=message):
        block_session(players(**changes))


def test_a_rule_for_such_code_is_never_to_stack() -> None:
    model = nn.Linear(2, 2)
    assert [choose(model, device, alone=True) for device in ("cpu", "cuda", "cuda:1", "mps")] == [
        "pool", "streams", "streams", "serial",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"build_optimizer": lambda config: xfw.Optimizer("Adan", lr=0.1)}, "no 'Adan'"),
        ({"build_optimizer": lambda config: xfw.SGD(lr=0.1, momentun=0.9)}, "no argument 'momentun'"),
        ({"build_optimizer": lambda config: xfw.SGD(lr=0.1, groups=[xfw.Group("x", lr=1)])}, "no parameter of its own"),
        ({"build_optimizer": lambda config: "SGD"}, "returned a str"),
        ({"build_optimizer": two}, "several optimizers"),
    ],
)
def test_a_wrong_optimizer_is_named_while_the_run_is_planned(changes: Any, message: str) -> None:
    made = players(train_step=lambda model, batch: model.critic(batch[0]).sum(), **changes)
    execution = Execution("cpu", "float32", False, "auto", 1, 1, "")
    with pytest.raises(xfw.UserError, match=message):
        measure(made, Config(), execution, OnceOnly(None))


def test_a_step_that_steps_itself_is_planned_for_a_pool() -> None:
    execution = Execution("cpu", "float32", False, "auto", 1, 1, "")
    assert measure(players(), Config(), execution, OnceOnly(None)).strategy == "pool"
