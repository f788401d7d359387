"""What docs/training.md shows is Python that works."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import torch
import xfw
from torch import nn
from xfw.engine.optimizer import ArenaOptimizer
from xfw.engine.settings import groups_of
from xfw.testing.blocks import train_block
from xfw.testing.plugins import make_experiment

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def shown(title: str) -> list[dict[str, Any]]:
    """Return what every block of Python below a heading defines."""
    text = re.split(r"^#{2,3} ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (part,) = [part for part in text if part.startswith(title + "\n")]
    spaces = []
    for code in re.findall(r"^```python\n(.*?)^```", part, re.MULTILINE | re.DOTALL):
        space: dict[str, Any] = {"xfw": xfw, "torch": torch}
        exec(compile(code, title, "exec"), space)
        spaces.append(space)
    return spaces


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)


@attrs.frozen(kw_only=True)
class Rate:
    lr: float = xfw.key(0.1, help="learning rate")


CONFIG = SimpleNamespace(lr=0.01)


def test_the_shown_optimizers_step() -> None:
    spaces = [*shown("Optimizers"), *shown("Groups"), *shown("One of your own")]
    hooks = [space[name] for space in spaces for name in ("build_optimizer", "with_a_faster_head") if name in space]
    assert len(hooks) == 4
    for hook in hooks:
        spec = hook(CONFIG)
        assert set(groups_of(spec, Network()).values()) <= {0, 1}
        arena = torch.zeros(2, 8)
        columns = [slice(0, 4), slice(4, 8)][: 1 + len(spec.groups)]
        ArenaOptimizer([spec, spec], arena, torch.ones(2, 8), columns).step()
        assert (arena[:, : columns[-1].stop] < 0).all()


def test_the_shown_ordinary_optimizers_train() -> None:
    (ordinary,), (mixing,) = shown("As in ordinary PyTorch"), shown("Stepped by the step")
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))

    def own_step(model: Any, batch: Any) -> Any:
        return nn.functional.cross_entropy(model.head(model.norm(model.body(batch[0]))), batch[1])

    for hooks in ({**ordinary, "train_step": own_step}, mixing):
        made = make_experiment(
            Rate,
            load_data=lambda config: {"train": xfw.Dataset((x, (x[:, 0] > 0).long()))},
            build_model=lambda config: Network(),
            build_optimizer=hooks["build_optimizer"],
            train_step=hooks["train_step"],
            plan_passes=lambda config: [xfw.Pass(batch_size=5)] * 10,
            declare_records=lambda config: xfw.Records(
                (xfw.Stream("step", "step", (xfw.Variable("loss", "float64", "loss"),), each="step"),)
            ),
        )
        losses = train_block(made).record("step", "loss")
        assert (losses[-4:].mean(0) < 0.7 * losses[:4].mean(0)).all()


def test_the_shown_groups_leave_biases_and_norms_undecayed() -> None:
    no_decay = shown("Groups")[0]["no_decay"]
    named = Network().named_modules()
    chosen = [
        name
        for name, module in named
        for name, _ in module.named_parameters(name, recurse=False)
        if no_decay(name, module)
    ]
    assert chosen == ["body.bias", "norm.weight", "norm.bias", "head.bias"]


def test_the_shown_schedules_and_hooks_run() -> None:
    scheduled, scalars = shown("Schedules")
    fixing, summing = shown("Gradients")
    weights, loading = shown("Weights")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(4, 3)
            self.register_buffer("temperature", torch.tensor(1.0))

    def on_start(block: Any, source: Any) -> None:
        fixing["on_start"](block, source)
        summing["on_start"](block, source)

    def on_end(block: Any) -> None:
        weights["on_end"](block)
        model = Model()
        loading["load_into"](model, block.checkpoint("end")[1])
        assert torch.equal(model.body.weight, block.parameters["body.weight"][1])

    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    variables = (xfw.Variable("lr", "float64", "rate"), xfw.Variable("temperature", "float64", "temperature"))
    made = make_experiment(
        Rate,
        load_data=lambda config: {name: xfw.Dataset((x, (x[:, 0] > 0).long())) for name in ("train", "test")},
        build_model=lambda config: Model(),
        build_optimizer=scheduled["build_optimizer"],
        build_schedules=scalars["build_schedules"],
        plan_passes=lambda config: [xfw.Pass(batch_size=5)] * 3,
        train_step=lambda model, batch: nn.functional.cross_entropy(model.body(batch[0]) / model.temperature, batch[1]),
        evaluate_step=lambda model, batch: {"correct": (model.body(batch[0]).argmax(-1) == batch[1]).sum()},
        declare_records=lambda config: xfw.Records((xfw.Stream("step", "step", variables, each="step"),)),
        on_start=on_start,
        before_update=summing["before_update"],
        on_epoch_end=weights["on_epoch_end"],
        on_end=on_end,
    )
    trained = train_block(made)
    assert (trained.commit.state["values/path"] > 0).all()
    assert np.allclose(trained.record("step", "lr")[:, 0], 0.1 * np.arange(12) / 100)
    assert np.allclose(trained.record("step", "temperature")[:, 0], np.repeat([1, 1.1, 1.21], 4))
