"""Optimizers that a step takes itself: their state as data, put back where it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import xfw
from torch import nn
from xfw.engine.manual import Manual, is_manual

CPU = torch.device("cpu")
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


def row(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_state_goes_on_to_the_same_bits(name: str) -> None:
    model, optimizer, closure = problem(name)
    for _ in range(4):
        optimizer.step(closure)
    saved = Manual([optimizer], CPU).saved()
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    stored = {n: torch.from_numpy(t.numpy().copy()) for n, t in saved.items()}
    for _ in range(4):
        optimizer.step(closure)
    other, fresh, again = problem(name)
    other.load_state_dict(weights)
    Manual([fresh], CPU).load(stored)
    for _ in range(4):
        fresh.step(again)
    assert torch.equal(row(model), row(other))


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_what_is_preserved_is_put_back_into_the_same_tensors(name: str, before: int) -> None:
    model, optimizer, closure = problem(name)
    for _ in range(before):
        optimizer.step(closure)
    held = Manual([{"only": optimizer}], CPU)
    places = [t.data_ptr() for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    weights = {n: t.clone() for n, t in model.state_dict().items()}
    restore = held.preserve()
    ends = []
    for _ in range(2):
        for _ in range(3):
            optimizer.step(closure)
        ends.append(row(model))
        model.load_state_dict(weights)
        restore()
        now = [t.data_ptr() for s in optimizer.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
        if name != "LBFGS":  # it replaces its tensors itself
            assert now == places
    assert torch.equal(ends[0], ends[1])


def test_schedulers_are_saved_with_their_optimizers() -> None:
    def made() -> dict[str, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
        return {"o": optimizer, "s": torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5])}

    first, second = made(), made()
    assert is_manual(first)
    for _ in range(3):
        first["o"].step()
        first["s"].step()
    Manual([second], CPU).load(Manual([first], CPU).saved())
    rates = []
    for parts in (first, second):
        for _ in range(4):
            parts["o"].step()
            parts["s"].step()
            rates.append(parts["o"].param_groups[0]["lr"])
    assert rates[:4] == rates[4:]


def test_a_reset_forgets_the_marked_trials_only() -> None:
    parts = [problem("Adam") for _ in range(2)]
    held = Manual([optimizer for _, optimizer, _ in parts], CPU)
    for _, optimizer, closure in parts:
        optimizer.step(closure)
    held.reset(torch.tensor([True, False]))
    assert [bool(optimizer.state) for _, optimizer, _ in parts] == [False, True]


def test_a_state_that_is_not_data_is_named() -> None:
    _, optimizer, _ = problem("SGD")
    optimizer.param_groups[0]["secret"] = object()
    with pytest.raises(xfw.UserError, match="secret' holds a object"):
        Manual([{"g": optimizer}], CPU).saved()


def test_specifications_are_not_stepped_by_the_step() -> None:
    assert not is_manual(xfw.SGD(lr=0.1))
    assert not is_manual(None)
    assert not is_manual({})
