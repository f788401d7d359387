"""Put a block together from its plan: models, data, optimizer, and the way its steps are run.

Axes: T trial (lane) of the block.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch

from xfw.config.resolve import condition_configs
from xfw.data.sources import Sources
from xfw.engine.batches import Draw, Resident, check_epochs, prepared_once, to_device
from xfw.engine.lanes import LaneStepper
from xfw.engine.memory import keep_freed_memory
from xfw.engine.network import Network, initial_model
from xfw.engine.rng import key_words
from xfw.engine.settings import groups_of
from xfw.engine.step import StepCode, step_code
from xfw.engine.strategy import Stepper, make_stepper
from xfw.engine.trainer import Trainer
from xfw.engine.update import Update
from xfw.errors import UserError
from xfw.experiment import Dataset, Pass, Records
from xfw.seeds import generator

if TYPE_CHECKING:
    from xfw.experiment import Experiment
    from xfw.manifest import BlockPlan, Execution, Manifest, Member

__all__ = ["Parts", "assemble", "make_trainer", "set_numerics"]


PREPARED_SHARE = 32
"""The share of a GPU's memory that examples prepared in advance may take: one part in so many."""


@attrs.frozen(eq=False)
class Parts:
    """The parts of a block, before it is decided how its steps are run; one lane per trial, idle ones included."""

    lanes: Sequence[Member]
    configs: Sequence[Any]
    network: Network
    datasets: Mapping[str, Dataset]
    epochs: Sequence[Pass]
    update: Update
    code: StepCode
    words_T2: torch.Tensor
    draw: Draw
    records: Records


def assemble(manifest: Manifest, plan: BlockPlan, experiment: Experiment) -> Parts:
    """Build the models of all lanes under their keys and move everything to the device."""
    set_numerics(manifest.execution)
    hooks = experiment.hooks
    wanted = sorted({member.condition for member in plan.members})
    by_condition = dict(zip(wanted, condition_configs(manifest, experiment.config_class, wanted), strict=True))
    idle = max(0, plan.width - len(plan.members))
    lanes = [*plan.members, *([plan.members[0]] * idle)]
    configs = [by_condition[member.condition] for member in lanes]
    device = torch.device(manifest.execution.device)
    keys = [int(member.key, 16) for member in lanes]
    models = [
        initial_model(lambda config=config: hooks.build_model(config=config), key)  # type: ignore[misc]
        for config, key in zip(configs, keys, strict=True)
    ]
    specs = [hooks.build_optimizer(config=config) for config in configs]
    dtype = getattr(torch, manifest.execution.dtype)
    network = Network(models, device, dtype, groups_of(specs[0], models[0]))
    if device.type == "cuda" and _needs_deterministic_kernels(network.template):
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    loaded = hooks.load_data(config=configs[0], sources=Sources(manifest.execution.data_dir or None))
    epochs = list(hooks.plan_passes(config=configs[0]))
    check_epochs(epochs, {name: len(dataset) for name, dataset in loaded.items()})
    update = Update(network, specs, [hooks.build_schedules(config=config) or {} for config in configs])
    datasets = {name: to_device(dataset, device) for name, dataset in loaded.items()}
    if device.type == "cuda":
        limit = torch.cuda.get_device_properties(device).total_memory // (PREPARED_SHARE * len(datasets))
        how = network.dtype, epochs[0].batch_size, limit
        datasets = {name: prepared_once(dataset, *how) for name, dataset in datasets.items()}
    residents = {name: Resident(dataset, network.dtype) for name, dataset in datasets.items()}
    return Parts(
        lanes=lanes,
        configs=configs,
        network=network,
        datasets=datasets,
        epochs=epochs,
        update=update,
        code=step_code(hooks, residents),
        words_T2=key_words(keys, device),
        draw=_given_orders(hooks, lanes, configs),
        records=hooks.declare_records(config=configs[0]),
    )


def _given_orders(hooks: Any, lanes: Sequence[Member], configs: Sequence[Any]) -> Draw:
    """Return the function that asks the plugin for the order of one pass, for every lane."""

    def drawn(config: Any, member: Member, number: int, count: int) -> np.ndarray:
        keyed = generator(int(member.key, 16), "order", number)
        found = hooks.sample_order(config=config, trial=member.trial, generator=keyed, number=number, count=count)
        if found is None:
            raise UserError("plan_passes: an order is 'given', but the experiment has no hook sample_order")
        return np.asarray(found)

    def draw(number: int, count: int) -> list[np.ndarray]:
        return [drawn(*each, number, count) for each in zip(configs, lanes, strict=True)]

    return draw


def set_numerics(execution: Execution) -> None:
    """Set what fixes this process's numbers and speed; a device with a number becomes the current one.

    Streams, graphs and kernels are made on the current device, whatever the one that the tensors are on.
    """
    torch.set_float32_matmul_precision("high" if execution.allow_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = execution.allow_tf32
    torch.backends.cudnn.benchmark = False
    if execution.device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if (index := torch.device(execution.device).index) is not None:
            torch.cuda.set_device(index)
    keep_freed_memory()


def make_trainer(parts: Parts, strategy: str, log: Callable[[str], None]) -> Trainer:
    """Return a trainer that runs steps by ``strategy``, or by what the model admits of it."""
    network, code, words = parts.network, parts.code, parts.words_T2
    streams = [stream for stream in parts.records.streams if stream.each == "step"]
    step_variables = {variable.name: len(variable.axes) for stream in streams for variable in stream.variables}

    def trainer_with(stepper: Stepper) -> Trainer:
        return Trainer(network, stepper, parts.update, parts.datasets, parts.draw, step_variables, log)

    def rehearse(stepper: Stepper) -> float:
        ends = sorted({0, network.lanes - 1})
        single = LaneStepper(network, code, words, streams=False, lanes=ends)
        return _difference(trainer_with(stepper), trainer_with(single), parts.epochs[0], ends)

    return trainer_with(make_stepper(strategy, network, code, words, rehearse, log))


def _needs_deterministic_kernels(network: torch.nn.Module) -> bool:
    """Tell whether a model has layers whose CUDA gradients use atomic additions."""
    return any(isinstance(m, (torch.nn.modules.conv._ConvNd, torch.nn.Embedding)) for m in network.modules())


def _difference(candidate: Trainer, reference: Trainer, epoch: Pass, lanes: Sequence[int]) -> float:
    """Return the largest relative difference of one step's loss, gradients and in-place changes, over ``lanes``."""
    network = candidate.network
    undo = candidate.preserve()

    def rows_of(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        loss_T = trainer.gradients(epoch).get("loss", torch.zeros(network.lanes, device=network.device))
        rows = torch.cat([network.gradients_TP[lanes], network.arena_TP[lanes]], 1)
        undo()
        network.gradients_TP.zero_()
        return (loss_T if len(loss_T) == len(lanes) else loss_T[lanes]), rows

    found_loss, found = rows_of(candidate)
    loss, rows = rows_of(reference)
    worst = ((found - rows).norm(dim=1) / rows.norm(dim=1).clamp_min(1e-30)).max()
    return float(torch.maximum(worst, ((found_loss - loss).abs() / loss.abs().clamp_min(1e-6)).max()))
