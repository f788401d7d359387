"""Train a network by stochastic gradient descent, and follow its conserved quantities through every update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import xfw
from torch.nn import functional

from xfw_neural_mechanics import laws, records
from xfw_neural_mechanics.config import Config
from xfw_neural_mechanics.records import CLASSES, plan_of, rows_of_pass
from xfw_neural_mechanics.tracker import Step

TRAIN_DIGITS = 1_500
MNIST_MEAN, MNIST_SD = 0.1307, 0.3081


@xfw.hookimpl
def load_data(config: Config, sources: xfw.Sources) -> Mapping[str, xfw.Dataset]:
    images = sources.load(config.data.name)
    if config.data.name == "mnist":
        prepare = scaled(255, MNIST_MEAN, MNIST_SD)
        return {
            "train": xfw.Dataset((images.train_images, images.train_labels), prepare),
            "test": xfw.Dataset((images.test_images, images.test_labels), prepare),
        }
    pixels, labels = images.train_images, images.train_labels
    unit = pixels.double() / 16
    prepare = scaled(16, unit.mean().item(), unit.std().item())
    return {
        "train": xfw.Dataset((pixels[:TRAIN_DIGITS], labels[:TRAIN_DIGITS]), prepare),
        "test": xfw.Dataset((pixels[TRAIN_DIGITS:], labels[TRAIN_DIGITS:]), prepare),
    }


class scaled:  # noqa: N801 - used as a function
    """Turn stored pixels into normalised images with a channel axis."""

    def __init__(self, white: float, mean: float, sd: float) -> None:
        self.white, self.mean, self.sd = white, mean, sd

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ((images.unsqueeze(1).double() / self.white - self.mean) / self.sd), labels


build_model = xfw.hookimpl(records.network_of)


@xfw.hookimpl
def build_optimizer(config: Config) -> xfw.Optimizer:
    optim = config.optim
    rate: float | xfw.Schedule = optim.lr
    if optim.lr_drops:
        rate = xfw.schedules.multi_step(optim.lr, milestones=optim.lr_drops, gamma=optim.lr_drop_rate)
    if optim.name == "sgd":
        return xfw.SGD(lr=rate, momentum=optim.momentum, nesterov=optim.nesterov, weight_decay=optim.wd)
    if optim.nesterov:
        return xfw.Optimizer(nesterov_sgd, lr=rate, decay=optim.wd, momentum=optim.momentum)
    return xfw.Optimizer(heavy_ball, lr=rate, decay=optim.wd, momentum=optim.momentum, dampening=optim.dampening)


def heavy_ball(parameter, gradient, state, _step, *, lr, decay, momentum, dampening):  # type: ignore[no-untyped-def]
    """v <- beta v + (1 - alpha)(G + lambda theta), theta <- theta - eta v; the first step is dampened too."""
    velocity = state.entry("velocity")
    velocity.mul_(momentum).add_((1 - dampening) * (gradient + decay * parameter))
    return -lr * velocity


def nesterov_sgd(parameter, gradient, state, _step, *, lr, decay, momentum):  # type: ignore[no-untyped-def]
    """v <- beta v + d, theta <- theta - eta (d + beta v), with d = G + lambda theta."""
    velocity, pull = state.entry("velocity"), gradient + decay * parameter
    velocity.mul_(momentum).add_(pull)
    return -lr * (pull + momentum * velocity)


@xfw.hookimpl
def plan_passes(config: Config) -> Sequence[xfw.Pass]:
    whole, rest = divmod(config.steps, config.steps_per_pass)
    lengths = [config.steps_per_pass] * whole + ([rest] if rest else [])
    return [xfw.Pass(batch_size=config.batch, steps=steps, label=config.train.loss) for steps in lengths]


@xfw.hookimpl
def train_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...], pass_: xfw.Pass) -> torch.Tensor:
    images, labels = batch
    logits = model(images)
    if pass_.label == "ce":
        return functional.cross_entropy(logits, labels)
    squares: torch.Tensor = (logits - functional.one_hot(labels, CLASSES).to(logits.dtype)) ** 2
    return squares.mean() if pass_.label == "mse" else 0.5 * squares.sum(1).mean()


@xfw.hookimpl
def evaluate_step(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> Mapping[str, torch.Tensor]:
    images, labels = batch
    logits = model(images)
    best = logits.topk(5, dim=-1).indices
    right = best == labels.unsqueeze(-1)
    return {
        "loss": functional.cross_entropy(logits, labels, reduction="sum"),
        "top1": right[:, :1].sum(),
        "top5": right.sum(),
    }


@xfw.hookimpl
def on_start(block: xfw.Block) -> None:
    plan = plan_of(block.configs[0])
    tracked = plan.tracker.start(block.parameters)
    block.values.update(tracked)
    block.values["step"] = torch.zeros(block.size, dtype=torch.int64, device=block.device)
    block.values["row"] = torch.zeros_like(block.values["step"])
    snapshot = plan.tracker.snapshot(tracked, block.parameters)
    config = block.configs[0]
    # Multiples of `every` may be one more in a later pass than in the first; the last place is always free.
    rows = max(len(rows_of_pass(config, 0, plan.longest)), plan.longest // config.record.every + 1) + 1
    for name, value in {**snapshot, "lr": snapshot["time"]}.items():
        block.values[f"rows/{name}"] = value.new_zeros(block.size, rows, *value.shape[1:])
    _record(block, 0, snapshot | {"lr": block.numbers()["lr"]})
    _evaluate(block, torch.full((block.size,), torch.nan, device=block.device))


@xfw.hookimpl
def before_update(block: xfw.Block, update: xfw.Updating) -> None:
    """Store the row of this step where it is one to be stored, then take the update in."""
    config, plan, state = block.configs[0], plan_of(block.configs[0]), block.values
    optim, first = config.optim, next(iter(update.parameters))
    numbers = update.numbers(first)
    step, row = state["step"], state["row"]
    rate = numbers["lr"]
    inside = step[0] % config.steps_per_pass != 0  # the first step of a pass is stored at the end of the last one
    due = inside & ((step[0] % config.record.every == 0) | (step[0] < config.record.dense_until))
    for name, value in {**plan.tracker.snapshot(state, update.parameters), "lr": rate}.items():
        state[f"rows/{name}"].index_copy_(1, row[:1], value.unsqueeze(1))
    row.add_(due.to(row.dtype))
    plan.tracker.clear(state, where=due)

    def number(name: str, other: float) -> torch.Tensor:
        return numbers[name].unsqueeze(1) if name in numbers else torch.full_like(rate, other).unsqueeze(1)

    torch_sgd = optim.name == "sgd"
    hyper = laws.Hyper(
        rate.unsqueeze(1), number("weight_decay" if torch_sgd else "decay", 0.0), number("momentum", 0.0),
        number("dampening", 0.0), optim.nesterov,
    )  # fmt: skip
    velocities = update.kept.get("momentum_buffer" if torch_sgd else "velocity")
    directions, velocities = _directions(update, hyper, velocities)
    plan.tracker.before_update(state, Step(update.parameters, update.gradients, directions, velocities, hyper))
    step.add_(1)


def _directions(
    update: xfw.Updating, hyper: laws.Hyper, velocities: Mapping[str, torch.Tensor] | None
) -> tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]:
    """Return the applied directions u and the new velocities v by parameter."""

    def pulled(name: str) -> torch.Tensor:
        value = update.parameters[name]
        decay = hyper.decay.to(value.dtype).view(-1, *(1,) * (value.dim() - 1))
        return update.gradients[name] + decay * value

    if velocities is None:  # torch keeps none without momentum
        directions = {name: pulled(name) for name in update.parameters}
        return directions, directions
    if not hyper.nesterov:
        return velocities, velocities
    beta = hyper.beta[:, 0]
    return {
        name: pulled(name) + beta.to(v.dtype).view(-1, *(1,) * (v.dim() - 1)) * v for name, v in velocities.items()
    }, velocities


@xfw.hookimpl
def on_epoch_end(block: xfw.Block, metrics: Mapping[str, torch.Tensor]) -> None:
    config, plan, state = block.configs[0], plan_of(block.configs[0]), block.values
    first = (block.epoch - block.first_epoch) * config.steps_per_pass
    steps = min(config.steps_per_pass, config.steps - first)
    for row, step in enumerate(rows_of_pass(config, first, steps)):
        names = [name for name in state if name.startswith("rows/")]
        _record(block, step, {name.removeprefix("rows/"): state[name][:, row] for name in names})
    snapshot = plan.tracker.snapshot(state, block.parameters)
    _record(block, first + steps, snapshot | {"lr": block.numbers()["lr"]})
    plan.tracker.clear(state)
    state["row"].zero_()
    _evaluate(block, metrics["loss"])


def _record(block: xfw.Block, step: int, values: Mapping[str, torch.Tensor]) -> None:
    at = torch.full((block.size,), step, dtype=torch.int64, device=block.device)
    block.record("record", step=at, **{name: value.clone() for name, value in values.items()})


def _evaluate(block: xfw.Block, loss: torch.Tensor) -> None:
    test = block.evaluate("test")
    count = len(block.data["test"])
    shares = {f"accuracy{k}": 100.0 * test[f"top{k}"].double() / count for k in (1, 5)}
    step = block.values["step"].clone()
    block.record("performance", step=step, train_loss=loss, test_loss=test["loss"].double() / count, **shares)
