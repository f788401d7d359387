"""What a run stores: a row of every quantity at the steps that are recorded, and the performance of every pass."""

from __future__ import annotations

import functools

import attrs
import torch
from xfw import Records, Stream, Variable

from xfw_neural_mechanics import models
from xfw_neural_mechanics.config import Config
from xfw_neural_mechanics.groups import Groups, NoGroups, find_groups, forced_group
from xfw_neural_mechanics.tracker import SUMS, Tracker

__all__ = ["CLASSES", "Plan", "declare", "network_of", "plan_of", "rows_of_pass"]

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28)}
CLASSES = 10

MEANING = {
    "q": "conserved quantity of each channel",
    "mag": "sum of squares over both sides",
    "usq": "sum of B(u, u) since the last record",
    "gsq": "sum of B(G, G) since the last record",
    "res": "sum of the symmetry residual since the last record",
    "uv": "sum of B(u, v) since the last record",
    "sym": "largest symmetry residual since the last record",
    "sym_norm": "largest residual over the norms of its sides, since the last record",
    "sym_rms": "root mean square of the same",
}


@attrs.frozen(eq=False)
class Plan:
    """The groups of a configuration, their tracker, and the longest pass in steps."""

    groups: tuple[Groups, ...]
    tracker: Tracker
    longest: int


def network_of(config: Config) -> torch.nn.Module:
    """Build one trial's network."""
    model = config.model
    return models.build(
        model.family, model.name, SHAPES[config.data.name], CLASSES, hidden=model.hidden, norm=model.norm,
        eps=model.bn_eps, activation=model.activation, norm_position=model.norm_position,
    )  # fmt: skip


@functools.cache
def plan_of(config: Config) -> Plan:
    """Find the groups of a configuration's network; a pure function, so that it is made once."""
    with torch.device("meta"):
        network = network_of(config)
    wanted = config.record.groups
    found = find_groups(network, config.train.loss, scope=config.record.scope, affine="rescale_affine" in wanted)
    groups = [group for group in found if group.kind in wanted]
    groups += [forced_group(network, text) for text in config.record.forced]
    if not groups:
        raise NoGroups(f"network '{config.model.name}' has no groups of the kinds {', '.join(wanted)}")
    return Plan(
        tuple(groups), Tracker(groups, config.record.laws, config.record.quadrature),
        min(config.steps_per_pass, config.steps),
    )  # fmt: skip


def rows_of_pass(config: Config, first: int, steps: int) -> list[int]:
    """Return the steps within a pass that are recorded, without its first and its end, which always are."""
    record = config.record
    inside = range(first + 1, first + steps)
    return [step for step in inside if step % record.every == 0 or step < record.dense_until]


def declare(config: Config) -> Records:
    """Return the streams of a run with this configuration."""
    variables = [
        Variable("step", "int64", "updates before the record"),
        Variable("time", "float64", "sum of the learning rates, dampened, of the updates before"),
        Variable("lr", "float64", "learning rate at the record"),
    ]
    for groups in plan_of(config).groups:
        name, axes = f"{groups.kind}/{groups.layer}", (f"{groups.kind}/{groups.layer}/channel",)
        of = f"of the {groups.kind} groups of {groups.layer} ({', '.join(groups.parameters())})"
        kept = ["q", *(["mag"] if groups.minus else []), *(SUMS if groups.order == 2 else ("res",))]
        for part in (*kept, "sym", "sym_norm", "sym_rms"):
            variables.append(Variable(f"{name}/{part}", "float64", f"{MEANING[part]}, {of}", axes=axes))
        for law in config.record.laws:
            variables.append(Variable(f"{name}/law/{law}", "float64", f"prediction of law {law}, {of}", axes=axes))
    performance = (
        Variable("step", "int64", "updates before"),
        Variable("train_loss", "float64", "mean training loss of the pass, NaN before the first"),
        Variable("test_loss", "float64", "mean test loss"),
        Variable("accuracy1", "float64", "test images whose class is the first guess", "%"),
        Variable("accuracy5", "float64", "test images whose class is among five guesses", "%"),
    )
    return Records(
        (Stream("record", "record", tuple(variables)), Stream("performance", "pass", performance)),
        default="performance/accuracy1",
    )
