"""The update of all trials, in groups and with values of each trial's own, against ``torch.optim`` in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import xfw
from torch import nn
from xfw.engine.network import Network
from xfw.engine.optimizer import ArenaOptimizer
from xfw.engine.settings import groups_of
from xfw.testing.blocks import train_block
from xfw.testing.shapes import experiment

STEPS = 50
TOLERANCE = 1e-12
"""Rounding of fifty steps in float64 is far below; a wrong formula is far above."""

TRIALS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01},
        {"lr": 0.02, "momentum": 0.8, "dampening": 0.3},
    ],
    "SGD-nesterov": [{"lr": 0.05, "momentum": m, "nesterov": True, "weight_decay": 0.01} for m in (0.5, 0.9, 0.99)],
    "SGD-maximize": [{"lr": rate, "maximize": True, "weight_decay": 0.1} for rate in (0.1, 0.01, 0.001)],
    "Adam": [{"lr": rate, "weight_decay": 0.1} for rate in (1e-3, 1e-2, 1e-1)],
    "Adam-amsgrad": [{"lr": rate, "betas": (0.8, 0.9), "amsgrad": True} for rate in (1e-3, 1e-2, 1e-1)],
    "Adam-decoupled": [{"lr": 1e-2, "weight_decay": decay, "decoupled_weight_decay": True} for decay in (0, 0.1, 1)],
    "AdamW": [{"lr": 1e-1}, {"lr": 1e-3, "betas": (0.8, 0.9), "weight_decay": 0.1}, {"lr": 1e-2, "eps": 1e-3}],
    "AdamW-amsgrad": [{"lr": rate, "amsgrad": True, "maximize": True} for rate in (1e-3, 1e-2, 1e-1)],
    "NAdam": [{"lr": 1e-2, "momentum_decay": decay, "weight_decay": 0.1} for decay in (4e-3, 1e-2, 0.1)],
    "NAdam-decoupled": [{"lr": 1e-2, "decoupled_weight_decay": True, "weight_decay": 0.1}] * 3,
    "RAdam": [{"lr": 1e-2, "betas": (0.9, beta), "weight_decay": 0.1} for beta in (0.9, 0.99, 0.999)],
    "RAdam-decoupled": [{"lr": 1e-2, "decoupled_weight_decay": True, "weight_decay": decay} for decay in (0, 0.1, 1)],
    "RMSprop": [{"lr": 1e-2}, {"lr": 1e-3, "momentum": 0.9, "weight_decay": 0.1}, {"alpha": 0.9, "eps": 1e-3}],
    "RMSprop-centered": [{"lr": 1e-2, "centered": True, "momentum": momentum} for momentum in (0, 0.5, 0.9)],
    "Adagrad": [{"lr": 0.1}, {"lr_decay": 0.1, "weight_decay": 0.1}, {"initial_accumulator_value": 0.5}],
    "Adadelta": [{"lr": 1.0}, {"rho": 0.5, "weight_decay": 0.1}, {"eps": 1e-3}],
    "Adamax": [{"lr": 1e-2}, {"betas": (0.5, 0.9), "weight_decay": 0.1}, {"eps": 1e-2}],
    "ASGD": [{"lr": 0.1, "t0": 10.0}, {"lr": 0.05, "lambd": 0.1, "alpha": 0.5, "weight_decay": 0.1}, {"t0": 0.0}],
    "Rprop": [{"lr": 1e-2}, {"etas": (0.3, 1.5)}, {"step_sizes": (1e-3, 0.1)}],
}
"""Three trials of a block for each of torch's elementwise optimizers; after a dash: of its switches."""

GROUP = {"lr": 3e-3}
"""What the biases have of their own; with decay off where there is decay."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)


def rows(count: int, dtype: torch.dtype = torch.float64, groups: Mapping[str, int] | None = None) -> Network:
    torch.manual_seed(1)
    return Network([Net() for _ in range(count)], torch.device("cpu"), dtype, groups)


def of_biases(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return GROUP | ({"weight_decay": 0.0} if kind != "Rprop" and values.get("weight_decay") else {})


@pytest.fixture
def torch_in_float64() -> Iterator[None]:
    """Some of torch's optimizers keep numbers in its default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.usefixtures("torch_in_float64")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TRIALS)
def test_every_trial_follows_torch_in_groups(name: str, device: str) -> None:
    kind = name.partition("-")[0]
    biases = [of_biases(values, kind) for values in TRIALS[name]]
    specs = [
        xfw.Optimizer(kind, groups=[xfw.Group(("*.bias", "norm.*"), **own)], **values)
        for values, own in zip(TRIALS[name], biases, strict=True)
    ]
    net = rows(3, groups=groups_of(specs[0], Net()))
    parameters_TP, gradients_TP = net.arena_TP.to(device), net.gradients_TP.to(device)
    references = []
    for lane, (values, own) in enumerate(zip(TRIALS[name], biases, strict=True)):
        module = net.module(lane)
        copies = {n: nn.Parameter(p.detach().clone()) for n, p in module.named_parameters()}
        small = [p for n, p in copies.items() if n.endswith("bias") or n.startswith("norm")]
        large = [p for n, p in copies.items() if not (n.endswith("bias") or n.startswith("norm"))]
        made = getattr(torch.optim, kind)([{"params": large}, {"params": small, **own}], **values)
        references.append((copies, made))
    optimizer = ArenaOptimizer(specs, parameters_TP, gradients_TP, net.groups)
    generator = torch.Generator().manual_seed(2)
    for _ in range(STEPS):
        for lane, (copies, made) in enumerate(references):
            for parameter_name, parameter in copies.items():
                parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                net.layout.views(gradients_TP)[parameter_name][lane].copy_(parameter.grad)
            made.step()
        optimizer.step()
    found = net.layout.views(parameters_TP.cpu())
    for lane, (copies, _) in enumerate(references):
        for parameter_name, parameter in copies.items():
            difference = (found[parameter_name][lane] - parameter.detach()).abs().max()
            assert difference <= TOLERANCE, (lane, parameter_name)


def stepped(specs: Sequence[xfw.Optimizer], start: np.ndarray, gradients: np.ndarray, device: str) -> np.ndarray:
    arena = torch.tensor(start, device=device)
    gradient = torch.zeros_like(arena)
    optimizer = ArenaOptimizer(specs, arena, gradient)
    for now in gradients:
        gradient.copy_(torch.tensor(now))
        optimizer.step()
    return arena.cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", TRIALS)
def test_neighbours_change_no_bit(name: str, device: str) -> None:
    rng = np.random.default_rng(2)
    specs = [xfw.Optimizer(name.partition("-")[0], **values) for values in TRIALS[name]]
    for width in (5, 1003):
        start = rng.normal(size=(3, width)).astype(np.float32)
        gradients = rng.normal(size=(10, 3, width)).astype(np.float32)
        together = stepped(specs, start, gradients, device)
        for lane in range(3):
            own = slice(lane, lane + 1)
            alone = stepped(specs[own], start[own], gradients[:, own], device)
            assert np.array_equal(together[lane], alone[0]), (width, lane)


def test_one_trial_that_is_not_finite_leaves_the_others_alone() -> None:
    specs = [xfw.Optimizer("SGD", lr=0.1, momentum=0.9)] * 2
    gradients = np.ones((4, 2, 7))
    together = stepped(specs, np.zeros((2, 7)), np.where([[[True], [False]]], np.nan, gradients), "cpu")
    assert np.isnan(together[0]).all()
    assert np.array_equal(together[1], stepped(specs[:1], np.zeros((1, 7)), gradients[:, :1], "cpu")[0])


# --- optimizers of an author's own --------------------------------------------------------------------------------


def lion(parameter: Any, gradient: Any, state: Any, step: Any, *, lr: Any, betas: Any = (0.9, 0.99), decay: Any = 0.0):  # type: ignore[no-untyped-def]
    """Chen et al. 2023, program 1."""
    momentum = state.entry("momentum")
    update = (betas[0] * momentum + (1 - betas[0]) * gradient).sign() + decay * parameter
    momentum.mul_(betas[1]).add_((1 - betas[1]) * gradient)
    return -lr * update


class Lion(torch.optim.Optimizer):
    """The same as an ordinary optimizer, with a Python counter and a state that is bound anew."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99), decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            a, b = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["count"], state["momentum"] = 0, torch.zeros_like(p)
                state["count"] += 1
                update = (a * state["momentum"] + (1 - a) * p.grad).sign() + group["decay"] * p
                p.sub_(group["lr"] * update)
                state["momentum"] = b * state["momentum"] + (1 - b) * p.grad


def lion_by_hand(p: np.ndarray, gradients: np.ndarray, lr: float, betas: tuple[float, float], decay: float) -> Any:
    m = np.zeros_like(p)
    for g in gradients:
        p = p - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + decay * p)
        m = betas[1] * m + (1 - betas[1]) * g
    return p


@pytest.mark.parametrize("kind", [lion, Lion])
def test_an_optimizer_of_the_authors_own_runs_with_values_of_each_trial(kind: Any) -> None:
    rng = np.random.default_rng(3)
    start, gradients = rng.normal(size=(2, 40)), rng.normal(size=(STEPS, 2, 40))
    values = [{"lr": 0.01, "betas": (0.9, 0.99), "decay": 0.1}, {"lr": 0.1, "betas": (0.5, 0.9), "decay": 0.0}]
    found = stepped([xfw.Optimizer(kind, **own) for own in values], start, gradients, "cpu")
    for lane, own in enumerate(values):
        assert np.abs(found[lane] - lion_by_hand(start[lane], gradients[:, lane], **own)).max() <= TOLERANCE


def test_the_state_of_an_authors_class_is_kept_in_the_arena() -> None:
    arena, gradient = torch.zeros(2, 4), torch.ones(2, 4)
    optimizer = ArenaOptimizer([xfw.Optimizer(Lion, lr=0.1)] * 2, arena, gradient)
    for _ in range(3):
        optimizer.step()
    assert optimizer.state["count"].tolist() == [[3.0], [3.0]]
    assert torch.allclose(optimizer.state["momentum"], torch.full((2, 4), 1 - 0.99**3))


class Normed(torch.optim.SGD):
    """Divides by the norm of each gradient."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = p.grad / p.grad.norm()
        super().step(closure)


def centred(parameter: Any, gradient: Any, state: Any, step: Any, *, lr: Any) -> Any:
    return -lr * (gradient - gradient.mean())


class FirstGradient(torch.optim.Optimizer):
    """Begins with something else than zeros."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                first = self.state[p].setdefault("first", p.grad.clone())
                p.sub_(group["lr"] * first)


@pytest.mark.parametrize("kind", ["Muon", "LBFGS", "Adafactor", "SparseAdam", Normed, FirstGradient, centred])
def test_an_optimizer_that_mixes_entries_is_refused_with_the_way_out(kind: Any) -> None:
    with pytest.raises(xfw.UserError, match="mixes the entries") as refused:
        ArenaOptimizer([xfw.Optimizer(kind, lr=0.1)], torch.zeros(1, 3), torch.zeros(1, 3))
    assert "train_step" in str(refused.value.hint)


# --- what is wrong is said before anything is computed --------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (xfw.Optimizer("Adan", lr=0.1), "has no 'Adan'"),
        (xfw.Optimizer("SGD", lr=0.1, momentun=0.9), "no argument 'momentun'"),
        (xfw.SGD(lr=-0.1), "Invalid learning rate"),
        (xfw.SGD(lr=0.1, nesterov=True), "Nesterov momentum requires"),
        (xfw.Adam(lr=0.1, fused=True), "'fused' says how to compute"),
        (xfw.Optimizer(lion), "needs a value for 'lr'"),
    ],
)
def test_a_wrong_value_is_refused(spec: xfw.Optimizer, message: str) -> None:
    with pytest.raises(xfw.UserError, match=message):
        ArenaOptimizer([spec], torch.zeros(1, 3), torch.zeros(1, 3))


def test_different_optimizers_in_one_block_are_refused() -> None:
    with pytest.raises(xfw.UserError, match="different optimizers: Adam, SGD"):
        ArenaOptimizer([xfw.Adam(lr=0.1), xfw.SGD(lr=0.1)], torch.zeros(2, 3), torch.zeros(2, 3))


def test_a_switch_that_differs_between_trials_is_refused() -> None:
    specs = [xfw.Adam(lr=0.1), xfw.Adam(lr=0.1, amsgrad=True)]
    with pytest.raises(xfw.UserError, match="differ in 'amsgrad'"):
        ArenaOptimizer(specs, torch.zeros(2, 3), torch.zeros(2, 3))


def scaled(scale: float) -> Any:
    def plain(parameter: Any, gradient: Any, state: Any, step: Any, *, lr: Any) -> Any:
        return -lr * scale * gradient

    return plain


def test_a_function_made_for_each_trial_must_not_enclose_what_differs() -> None:
    start, gradients = np.zeros((2, 3)), np.ones((1, 2, 3))
    alike = [xfw.Optimizer(scaled(2.0), lr=rate) for rate in (0.1, 0.2)]
    assert np.allclose(stepped(alike, start, gradients, "cpu"), [[-0.2], [-0.4]])
    with pytest.raises(xfw.UserError, match="different optimizers") as refused:
        stepped([xfw.Optimizer(scaled(scale), lr=0.1) for scale in (1.0, 2.0)], start, gradients, "cpu")
    assert "takes it as an argument" in str(refused.value.hint)


def test_a_group_chosen_by_a_function_made_for_each_trial_is_one_group() -> None:
    def specs(*prefixes: str) -> list[xfw.Optimizer]:
        def chosen(prefix: str) -> Any:
            return lambda name, module: name.startswith(prefix)

        return [xfw.SGD(lr=0.1, groups=[xfw.Group(chosen(prefix), lr=1.0)]) for prefix in prefixes]

    columns = [slice(0, 1), slice(1, 3)]
    ArenaOptimizer(specs("a", "a"), torch.zeros(2, 3), torch.zeros(2, 3), columns)
    with pytest.raises(xfw.UserError, match="different groups"):
        ArenaOptimizer(specs("a", "b"), torch.zeros(2, 3), torch.zeros(2, 3), columns)


# --- groups -----------------------------------------------------------------------------------------------------------


def test_groups_are_chosen_by_pattern_or_by_name_and_module() -> None:
    def of_norms(name: str, module: nn.Module) -> bool:
        return name.endswith("weight") and isinstance(module, nn.LayerNorm)

    spec = xfw.SGD(lr=0.1, groups=[xfw.Group("b.*", lr=1.0), xfw.Group(of_norms, lr=2.0), xfw.Group("*", lr=3.0)])
    assert groups_of(spec, Net()) == {
        "a.weight": 3, "a.bias": 3, "norm.weight": 2, "norm.bias": 3, "b.weight": 1, "b.bias": 1,
    }  # fmt: skip


def test_a_group_without_parameters_is_refused() -> None:
    with pytest.raises(xfw.UserError, match=r"group 1 \('\*.bais'\) has no parameter"):
        groups_of(xfw.SGD(lr=0.1, groups=[xfw.Group("*.bais", lr=1.0)]), Net())


def test_frozen_parameters_and_groups_share_a_row() -> None:
    model = Net()
    model.b.weight.requires_grad_(False)
    spec = xfw.SGD(lr=1.0, groups=[xfw.Group("*.bias", lr=2.0)])
    net = Network([model], torch.device("cpu"), torch.float32, groups_of(spec, model))
    before = {name: view.clone() for name, view in net.parameters.items()}
    net.gradients_TP.fill_(1.0)
    ArenaOptimizer([spec], net.arena_TP, net.gradients_TP, net.groups).step()
    moved = {name: (before[name] - view).unique().tolist() for name, view in net.parameters.items()}
    assert moved["b.weight"] == [0.0]
    assert np.allclose(moved["a.bias"] + moved["norm.bias"] + moved["b.bias"], 2.0)
    assert np.allclose(moved["a.weight"] + moved["norm.weight"], 1.0)


def test_conditions_with_other_rates_and_decays_train_in_one_block() -> None:
    made = experiment(
        build_optimizer=lambda config: xfw.Optimizer(
            "RMSprop", lr=config.lr, groups=[xfw.Group("*.bias", lr=2 * config.lr)]
        )
    )
    together = train_block(made, ["lr=0.02,0.01"], trials=2, dtype="float64")
    alone = train_block(made, ["lr=0.02,0.01"], trials=2, dtype="float64", only=[3])
    assert np.array_equal(together.parameters()[3], alone.parameters()[0])


# --- reset ------------------------------------------------------------------------------------------------------------


def test_reset_forgets_the_marked_trials_only() -> None:
    arena, gradient = torch.zeros(2, 4), torch.ones(2, 4)
    optimizer = ArenaOptimizer([xfw.AdamW(lr=0.1)] * 2, arena, gradient)
    optimizer.step()
    optimizer.reset(torch.tensor([True, False]))
    assert optimizer.state["step"].tolist() == [0, 1]
    assert not optimizer.state["exp_avg"][0].any()
    assert optimizer.state["exp_avg"][1].all()


def test_the_first_step_after_a_reset_is_a_first_step() -> None:
    arena, gradient = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[0.5, -2.0, 1e-9]], dtype=torch.float64)
    optimizer = ArenaOptimizer([xfw.AdamW(lr=0.1)], arena, gradient)
    optimizer.step()
    optimizer.reset()
    before = arena.clone()
    optimizer.step()
    moved = (before - arena)[0].tolist()
    for step, g in zip(moved, gradient[0].tolist(), strict=True):
        assert math.isclose(step, 0.1 * g / (abs(g) + 1e-8), rel_tol=1e-9)


def test_the_first_gradient_after_a_reset_is_not_dampened() -> None:
    arena, gradient = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    optimizer = ArenaOptimizer([xfw.SGD(lr=1.0, momentum=0.5, dampening=0.5)], arena, gradient)
    positions = []
    for step in range(4):
        if step == 2:
            optimizer.reset()
        optimizer.step()
        positions.append(-arena.item())
    assert positions == [1.0, 2.0, 3.0, 4.0]
