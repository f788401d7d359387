"""What docs/training.md shows is Python that works."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import xfw
from torch import nn
from xfw.engine.optimizer import ArenaOptimizer
from xfw.engine.settings import groups_of

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
