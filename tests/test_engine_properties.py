"""Whatever a network and its steps look like, every strategy computes what single models compute.

Small networks and steps are drawn at random: axes by position, reductions over the batch, shapes, flags, keywords,
attributes, hooks, buffers, batch norm, paths that depend on the pass, on the size of a batch, on training, evaluation
or observation. ``XFW_DRAWS=5000 python -m pytest tests/test_engine_properties.py`` draws more of them.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import xfw
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from xfw import seeds
from xfw.engine.network import initial_model
from xfw.engine.rng import Rng, key_words, keyed_order
from xfw.testing.blocks import Trained, train_block
from xfw.testing.plugins import make_experiment

DRAWS = int(os.environ.get("XFW_DRAWS", "200"))
TOLERANCE = 1e-11
"""Largest difference in float64, relative to the largest entry: a few steps of rounding, amplified by training."""

INPUTS, CLASSES, EXAMPLES = 6, 3, 23
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # operations that vmap runs in a loop
RUNS = {"cpu": ("stack",), "cuda": ("stack", "streams")}


@attrs.frozen(kw_only=True)
class Config:
    lr: float = xfw.key(0.1, gt=0, per_trial=True, help="learning rate")
    rate: float = xfw.key(0.2, ge=0, lt=1, per_trial=True, help="dropout rate")
    scale: float = xfw.key(0.7, per_trial=True, help="a number that differs between trials")


# --- networks ------------------------------------------------------------------------------------------------

Piece = Callable[[nn.Module, torch.Tensor], torch.Tensor]


class Drawn(nn.Module):
    """A chain of drawn pieces between two linear maps."""

    def __init__(self, names: list[str], width: int, config: Config) -> None:
        super().__init__()
        self.names, self.width = names, width
        self.stem, self.head = nn.Linear(INPUTS, width), nn.Linear(width, CLASSES)
        self.parts = nn.ModuleList(nn.ModuleDict(LAYERS[name](width, config)) for name in names)
        self.register_buffer("scale", torch.tensor(config.scale))
        self.register_buffer("mask", (torch.rand(width) > 0.3).float())
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(width))
        self.gain = nn.Parameter(1 + 0.1 * torch.randn(width)) if "gain" in names else None
        self.calls, self.alpha = 0, config.scale
        if "gradient_hook" in names:
            kept = torch.rand(width) > 0.5
            self.head.weight.register_hook(lambda gradient: gradient * kept.to(gradient.device))
        if "late_hook" in names:
            self.stem.bias.register_post_accumulate_grad_hook(halve)
        if "forward_hook" in names:
            self.stem.register_forward_hook(lambda module, args, output: output + 0.1 * output.mean(0))
        if "backward_hook" in names:
            self.head.register_full_backward_hook(lambda module, inner, outer: (inner[0] * 2,))

    def forward(self, x: torch.Tensor, flag: bool = False) -> torch.Tensor:
        h = self.stem(x)
        for name, part in zip(self.names, self.parts, strict=True):
            h = PIECES[name](self, part, h)
        if flag:
            h = h - h.mean(0)
        logits: torch.Tensor = self.head(h)
        return logits


def halve(parameter: torch.Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.mul_(0.5)


LAYERS: dict[str, Callable[[int, Config], dict[str, nn.Module]]] = {
    name: lambda width, config: {}
    for name in (
        "relu", "tanh", "softmax_last", "softmax_1", "centre", "norm_all", "scale", "mask", "rows", "slice",
        "ellipsis", "gain", "evaluated", "trained", "where", "branch", "counter", "count_in_place", "remember",
        "python_counter", "attribute", "gradient_hook", "late_hook", "forward_hook", "backward_hook", "squeeze",
        "cumsum", "loop", "in_place",
    )
}  # fmt: skip
LAYERS |= {
    "linear": lambda width, config: {"map": nn.Linear(width, width)},
    "relu_": lambda width, config: {"map": nn.Linear(width, width)},
    "nobias": lambda width, config: {"map": nn.Linear(width, width, bias=False)},
    "twice": lambda width, config: {"map": nn.Linear(width, width)},
    "unused": lambda width, config: {"map": nn.Linear(width, width)},
    "frozen": lambda width, config: {"map": nn.Linear(width, width).requires_grad_(False)},
    "residual": lambda width, config: {"inner": nn.Linear(width, 3), "outer": nn.Linear(3, width)},
    "layernorm": lambda width, config: {"norm": nn.LayerNorm(width)},
    "batchnorm": lambda width, config: {"norm": nn.BatchNorm1d(width)},
    "dropout": lambda width, config: {"drop": nn.Dropout(config.rate)},
    "dropout_twice": lambda width, config: {"drop": nn.Dropout(config.rate)},
    "weight_norm": lambda width, config: {"map": parametrizations.weight_norm(nn.Linear(width, width))},
    "spectral_norm": lambda width, config: {"map": parametrizations.spectral_norm(nn.Linear(width, width))},
    "flatten": lambda width, config: {"flat": nn.Flatten()},
    "conv": lambda width, config: {"map": nn.Conv1d(1, 1, 3, padding=1)},
    "bilinear": lambda width, config: {"map": nn.Bilinear(width, width, width)},
}


def counter(model: Any, part: Any, h: torch.Tensor) -> torch.Tensor:
    model.count = model.count + 1
    return h * (1 + 0.1 * model.count)


def count_in_place(model: Any, part: Any, h: torch.Tensor) -> torch.Tensor:
    model.count.add_(1)
    return h * (1 + 0.1 * model.count)


def remember(model: Any, part: Any, h: torch.Tensor) -> torch.Tensor:
    if model.training:
        model.seen.mul_(0.9).add_(0.1 * h.detach().mean(0))
    return h - model.seen


def python_counter(model: Any, part: Any, h: torch.Tensor) -> torch.Tensor:
    model.calls += 1
    return h * (1.0 if model.calls < 4 else 0.5)


def in_place(model: Any, part: Any, h: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(h)
    out[:, 1:] = h[:, :-1]
    return out


PIECES: dict[str, Callable[[Any, Any, torch.Tensor], torch.Tensor]] = {
    "linear": lambda model, part, h: part["map"](h),
    "nobias": lambda model, part, h: part["map"](h),
    "twice": lambda model, part, h: part["map"](torch.tanh(part["map"](h))),
    "unused": lambda model, part, h: h,
    "frozen": lambda model, part, h: part["map"](h),
    "residual": lambda model, part, h: torch.relu(h + part["outer"](torch.relu(part["inner"](h)))),
    "layernorm": lambda model, part, h: part["norm"](h),
    "batchnorm": lambda model, part, h: part["norm"](h),
    "dropout": lambda model, part, h: part["drop"](h),
    "dropout_twice": lambda model, part, h: part["drop"](h) + part["drop"](h),
    "weight_norm": lambda model, part, h: part["map"](h),
    "spectral_norm": lambda model, part, h: part["map"](h),
    "flatten": lambda model, part, h: part["flat"](h),
    "conv": lambda model, part, h: part["map"](h.unsqueeze(1)).squeeze(1),
    "bilinear": lambda model, part, h: part["map"](h, torch.tanh(h)),
    "relu": lambda model, part, h: torch.relu(h),
    "relu_": lambda model, part, h: functional.relu(part["map"](h), inplace=True),
    "tanh": lambda model, part, h: torch.tanh(h),
    "softmax_last": lambda model, part, h: torch.softmax(h, -1),
    "softmax_1": lambda model, part, h: torch.softmax(h, 1),
    "centre": lambda model, part, h: h - h.mean(0),
    "norm_all": lambda model, part, h: h / (1 + h.norm()),
    "scale": lambda model, part, h: h * model.scale,
    "mask": lambda model, part, h: h * model.mask,
    "rows": lambda model, part, h: h * (h.shape[0] / 8),
    "slice": lambda model, part, h: h - h[:, :1],
    "ellipsis": lambda model, part, h: torch.cat([h[..., 1:], h[..., :1]], -1),
    "gain": lambda model, part, h: h * model.gain,
    "evaluated": lambda model, part, h: h if model.training else torch.softmax(h, 1),
    "trained": lambda model, part, h: h - h.mean(0, keepdim=True) if model.training else h,
    "where": lambda model, part, h: torch.where(h > h.mean(), h, 0.5 * h),
    "branch": lambda model, part, h: 2 * h if h.sum() > 0 else h,
    "counter": counter,
    "count_in_place": count_in_place,
    "remember": remember,
    "python_counter": python_counter,
    "attribute": lambda model, part, h: h * model.alpha,
    "squeeze": lambda model, part, h: h.unsqueeze(0).mean(0),
    "cumsum": lambda model, part, h: h + 0.01 * h.cumsum(0),
    "loop": lambda model, part, h: torch.stack([row / (1 + row.abs().sum()) for row in h]),
    "in_place": in_place,
    **{name: (lambda model, part, h: h) for name in ("gradient_hook", "late_hook", "forward_hook", "backward_hook")},
}

# --- steps ---------------------------------------------------------------------------------------------------

CONDITIONS: dict[str, Callable[[int, xfw.Pass], bool]] = {
    "always": lambda size, pass_: True,
    "second pass": lambda size, pass_: pass_.label == "second",
    "short batch": lambda size, pass_: size < 8,
}


def drawn_step(choice: random.Random, kinds: list[str]) -> Callable[..., Any]:
    """Return a training step with two extras, each under a condition of plain values."""
    extras = [(choice.choice(kinds), choice.choice(list(CONDITIONS))) for _ in range(2)]
    form = choice.choice(["loss", "metrics", "metrics", "sum"])

    def train_step(model: Any, batch: tuple[torch.Tensor, ...], rng: Any, pass_: xfw.Pass) -> Any:
        x, y = batch
        active = [name for name, when in extras if CONDITIONS[when](len(x), pass_)]
        if "noise" in active:
            x = x + 0.1 * rng.normal("noise", x.shape).to(x.dtype)
        if "keyword" in active:
            logits = model(x, flag=True)
        elif "positional" in active:
            logits = model(x, True)
        else:
            logits = model(x)
        loss = functional.cross_entropy(logits, y, reduction="sum" if form == "sum" else "mean")
        for name in active:
            if name in PENALTIES:
                loss = loss + 0.01 * PENALTIES[name](model, x, logits)
        if form != "metrics":
            return loss
        with torch.no_grad():
            spread = logits.std(0).mean() if "spread" in active else logits.abs().max()
        return loss, {"right": (logits.argmax(-1) == y).double().mean(), "spread": spread}

    return train_step


PENALTIES: dict[str, Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "weights": lambda model, x, logits: model.head.weight.square().sum(),
    "parameters": lambda model, x, logits: sum(p.abs().sum() for p in model.parameters() if p.requires_grad),  # type: ignore[return-value]
    "buffer": lambda model, x, logits: model.scale * logits.square().sum(),
    "vector": lambda model, x, logits: (model.mask.sum() * logits).mean(),
    "second call": lambda model, x, logits: model(0.5 * x).square().mean(),
    "entropy": lambda model, x, logits: torch.softmax(logits, 0).square().sum(),
    "hidden": lambda model, x, logits: model.stem(x).square().mean(),
    "size": lambda model, x, logits: logits.sum() / x.shape[0] + x.size(1),
}
EXTRAS = ["noise", "keyword", "positional", "spread", "none", *PENALTIES]

PLAIN = ["noise", "spread", "none", "buffer", "entropy", "positional"]

STACKABLE = [
    "relu", "tanh", "linear", "residual", "dropout", "scale", "mask", "ellipsis", "where", "evaluated", "trained",
    "softmax_1", "softmax_last", "centre", "rows", "flatten", "unused", "nobias", "squeeze", "relu_",
]  # fmt: skip
"""Pieces and extras of which many have a stacked twin: half of the draws are made of these alone."""

EVALUATIONS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "plain": lambda model, x: model(x),
    "keyword": lambda model, x: model(x, flag=True),
    "axis": lambda model, x: torch.log_softmax(model(x), dim=0),
    "attribute": lambda model, x: model.head(torch.relu(model.stem(x))),
    "twice": lambda model, x: model(x) + model(-x),
}


def drawn_evaluation(choice: random.Random) -> Callable[..., Any]:
    output = EVALUATIONS[choice.choice(list(EVALUATIONS))]

    def evaluate_step(model: Any, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
        x, y = batch
        logits = output(model, x)
        return {"correct": (logits.argmax(-1) == y).sum(), "total": logits.tanh().sum()}

    return evaluate_step


def drawn_observation(choice: random.Random) -> Callable[..., Any]:
    output = EVALUATIONS[choice.choice(list(EVALUATIONS))]

    def observe_step(model: Any, rng: Any, pass_: xfw.Pass, data: Any) -> Mapping[str, torch.Tensor]:
        x, y = data["test"].take(rng.permutation("seen", EXAMPLES)[:7])
        logits = output(model, x)
        return {"seen": (logits.argmax(-1) == y).sum(), "size": logits.square().mean()}

    return observe_step


def data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(EXAMPLES, INPUTS, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long() + (x[:, 1] * x[:, 2] > 0).long()


def on_epoch_end(block: Any, metrics: Mapping[str, torch.Tensor]) -> None:
    sums = block.evaluate("test")
    steps = block.steps
    observed = steps["seen"].nansum(0) + steps["size"].nansum(0) if "seen" in steps else metrics["loss"]
    block.record("epoch", loss=metrics["loss"], observed=observed, **sums)


def declare_records() -> xfw.Records:
    names = ("loss", "correct", "total", "observed")
    return xfw.Records((xfw.Stream("epoch", "epoch", tuple(xfw.Variable(n, "float64", n) for n in names)),))


PASSES = [xfw.Pass(8, label="first", observe_every=2), xfw.Pass(10, label="second", order="sequential")]


@attrs.frozen(eq=False)
class Draw:
    names: list[str]
    width: int
    train_step: Callable[..., Any]
    hooks: Mapping[str, Any]

    def run(self, strategy: str, device: str = "cpu") -> Trained:
        made = make_experiment(Config, "drawn", **self.hooks)
        overrides = ["lr=0.1,0.05", "rate=0.3,0", "scale=0.7,1.3"]
        return train_block(made, overrides, trials=1, only=[0, 3, 6], strategy=strategy, device=device, dtype="float64")


def draw(seed: int) -> Draw:
    choice = random.Random(seed)
    simple = choice.random() < 0.5
    names = [choice.choice(STACKABLE if simple else list(LAYERS)) for _ in range(choice.randint(0, 4))]
    width = choice.choice([1, 3, 5, 8])
    train_step = drawn_step(choice, PLAIN if simple else EXTRAS)
    hooks = {
        "load_data": lambda config: {"train": xfw.Dataset(data(3)), "test": xfw.Dataset(data(4))},
        "build_model": lambda config: Drawn(names, width, config),
        "build_optimizer": lambda config: xfw.SGD(lr=config.lr, momentum=0.5),
        "plan_passes": lambda: PASSES,
        "train_step": train_step,
        "evaluate_step": drawn_evaluation(choice),
        "on_epoch_end": on_epoch_end,
        "declare_records": declare_records,
    }
    if choice.random() < 0.5:
        hooks["observe_step"] = drawn_observation(choice)
    return Draw(names, width, train_step, hooks)


# --- the comparisons -----------------------------------------------------------------------------------------


def compare(found: Trained, expected: Trained) -> None:
    values = {f"state {name}": (found.commit.state[name], array) for name, array in expected.commit.state.items()}
    for name, array in expected.commit.records["epoch"].items():
        values[f"record {name}"] = (found.commit.records["epoch"][name], array)
    for name, (own, other) in values.items():
        if name == "record wall_time":
            continue
        size = np.abs(np.nan_to_num(other.astype(float), posinf=0, neginf=0)).max(initial=1.0)
        np.testing.assert_allclose(own, other, rtol=0, atol=TOLERANCE * size, err_msg=name)


def check(seed: int, device: str) -> None:
    """Compare every strategy with ``serial``."""
    drawn = draw(seed)
    expected = drawn.run("serial", device)
    for strategy in RUNS[device]:
        compare(drawn.run(strategy, device), expected)


@pytest.mark.parametrize("part", range(10))
def test_every_strategy_equals_single_models(part: int) -> None:
    for seed in range(part, DRAWS, 10):
        with_context(seed, lambda seed=seed: check(seed, "cpu"))


def test_the_draws_reach_every_way() -> None:
    ways: Counter[str] = Counter()
    for seed in range(20):
        ways.update(draw(seed).run("stack").commit.layout["lowering"].split(", "))
    assert set(ways) == {"twin", "vmap", "modules"}


@pytest.mark.gpu
@pytest.mark.parametrize("part", range(10))
def test_every_strategy_equals_single_models_on_a_gpu(part: int) -> None:
    for seed in range(part, DRAWS, 10):
        with_context(seed, lambda seed=seed: check(seed, "cuda"))


def with_context(seed: int, act: Callable[[], Any]) -> None:
    try:
        act()
    except BaseException as error:
        drawn = draw(seed)
        error.add_note(f"draw {seed}: {drawn.names} of width {drawn.width}")
        raise


def plain_loop(drawn: Draw, key: int, config: Config) -> dict[str, np.ndarray]:
    """Train one trial the ordinary way: a model, torch.optim.SGD, keyed orders, as one would write it by hand."""
    words = key_words([key], "cpu")
    model = initial_model(lambda: drawn.hooks["build_model"](config), key).double()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=config.lr, momentum=0.5)
    x, y = data(3)
    for number, pass_ in enumerate(PASSES):
        order = keyed_order(words, number, EXAMPLES)[0] if pass_.order == "shuffled" else torch.arange(EXAMPLES)
        batches = order.split(pass_.batch_size)
        for step, index in enumerate(batches):
            rng = Rng(words[0], torch.tensor(number), torch.tensor(step))
            model.train()
            optimizer.zero_grad(set_to_none=False)
            output = drawn.train_step(model, (x[index].double(), y[index]), rng, pass_)
            (output[0] if isinstance(output, tuple) else output).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            drawn.hooks["evaluate_step"](model, (data(4)[0].double(), data(4)[1]))
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().numpy() for name, tensor in tensors}


@pytest.mark.parametrize("part", range(5))
def test_a_trial_equals_a_plain_loop(part: int) -> None:
    tried = 0
    for seed in range(1000 + part, 1000 + DRAWS // 5, 5):
        drawn = draw(seed)
        if "observe_step" in drawn.hooks or any("dropout" in name for name in drawn.names):
            continue  # the one is not in the plain loop; the numbers of the other are keyed, those of torch are not
        tried += 1
        trained = drawn.run("serial")
        config = Config(lr=0.1, rate=0.3, scale=0.7)
        expected = plain_loop(drawn, seeds.trial_key(1, 0, {}), config)
        row = trained.parameters()[0]
        for name, shape, offset in trained.commit.layout["parameters"]:
            own = row[offset : offset + int(np.prod(shape))].reshape(shape)
            assert np.allclose(own, expected[name], rtol=0, atol=1e-12, equal_nan=True), (seed, drawn.names, name)
        for name, array in trained.commit.state.items():
            if name.startswith("buffers/"):
                own, other = array[0], expected[name.removeprefix("buffers/")]
                assert np.allclose(own, other, rtol=0, atol=1e-12, equal_nan=True), (seed, drawn.names, name)
    assert tried or DRAWS < 200
