"""Put a block together from its plan: models, data, optimizer, and the way its steps are run.

Axes: T trial (lane) of the block.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch

from xfw.config.resolve import condition_configs
from xfw.data.sources import Sources
from xfw.engine.batches import Draw, Resident, check_epochs, prepared_once, to_device
from xfw.engine.manual import check_steps
from xfw.engine.network import Network, initial_model
from xfw.engine.rehearsal import Rehearsal, fast_ways, make_way
from xfw.engine.rng import key_words
from xfw.engine.settings import groups_of, spec_of
from xfw.engine.step import StepCode, step_code, steps_itself
from xfw.engine.steppers import Stepper
from xfw.engine.trainer import Trainer
from xfw.engine.update import Update
from xfw.errors import UserError
from xfw.experiment import Dataset, Pass, Records
from xfw.seeds import derive, generator

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
    short: bool
    build: Callable[[Sequence[int], Sequence[int], torch.dtype], Network]
    code: Callable[[torch.dtype], StepCode]
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
    optimizer = _optimizers(hooks, configs)

    build = _builder(hooks, configs, optimizer, device)
    short = manifest.execution.dtype == "bfloat16"  # of products only: what is kept stays in float32
    network = build(range(len(lanes)), keys, torch.float32 if short else getattr(torch, manifest.execution.dtype))
    _set_determinism(network)
    loaded = hooks.load_data(config=configs[0], sources=Sources(manifest.execution.data_dir or None))
    epochs = list(hooks.plan_passes(config=configs[0]))
    check_epochs(epochs, {name: len(dataset) for name, dataset in loaded.items()})
    update = Update(network, optimizer, [hooks.build_schedules(config=config) or {} for config in configs])
    datasets = _resident(loaded, epochs, network)

    def code(dtype: torch.dtype) -> StepCode:
        data = {name: Resident(dataset, dtype) for name, dataset in datasets.items()}
        return step_code(hooks, data, update.manual, autocast=device.type if short else "")

    return Parts(
        lanes=lanes,
        configs=configs,
        network=network,
        datasets=datasets,
        epochs=epochs,
        update=update,
        build=build,
        short=short,
        code=code,
        words_T2=key_words(keys, device),
        draw=_given_orders(hooks, lanes, configs),
        records=hooks.declare_records(config=configs[0]),
    )


def _builder(
    hooks: Any, configs: Sequence[Any], optimizer: Callable[[int, torch.nn.Module], Any], device: torch.device
) -> Callable[[Sequence[int], Sequence[int], torch.dtype], Network]:
    """Return the function that builds the network of some lanes under keys of their own."""

    def build(chosen: Sequence[int], with_keys: Sequence[int], dtype: torch.dtype) -> Network:
        models = [
            initial_model(lambda lane=lane: hooks.build_model(config=configs[lane]), key)  # type: ignore[misc]
            for lane, key in zip(chosen, with_keys, strict=True)
        ]
        return Network(models, device, dtype, groups_of(optimizer(chosen[0], models[0]), models[0]))

    return build


def _optimizers(hooks: Any, configs: Sequence[Any]) -> Callable[[int, torch.nn.Module], Any]:
    """Return the function that asks the plugin for a trial's optimizer over a model."""
    manual = steps_itself(hooks)

    def optimizer(lane: int, model: torch.nn.Module) -> Any:
        found = hooks.build_optimizer(config=configs[lane], model=model)
        check_steps(found, manual=manual)
        return found if manual else spec_of(found, model)

    return optimizer


def _resident(loaded: Mapping[str, Dataset], epochs: Sequence[Pass], network: Network) -> dict[str, Dataset]:
    """Return the data sets on the device, prepared in advance where that is possible and pays."""
    device = network.device
    datasets = {name: to_device(dataset, device) for name, dataset in loaded.items()}
    if device.type != "cuda":
        return datasets
    limit = torch.cuda.get_device_properties(device).total_memory // (PREPARED_SHARE * len(datasets))
    how = network.dtype, epochs[0].batch_size, limit
    return {name: prepared_once(dataset, *how) for name, dataset in datasets.items()}


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
    network, words = parts.network, parts.words_T2
    streams = [stream for stream in parts.records.streams if stream.each == "step"]
    step_variables = {variable.name: variable for stream in streams for variable in stream.variables}
    ways = fast_ways(network, strategy, log, short=parts.short) if parts.update.manual is None else []
    if strategy == "stack" and parts.update.manual is not None:
        log("stack: not used (train_step steps its own optimizer); the models run one by one")
    lanes = network.representatives() if ways else [0]
    keys = [derive(index, "rehearsal") for index in range(len(lanes))]

    def stepper(way: str) -> Stepper:
        return make_way(way, network, parts.code(network.dtype), words, streams=strategy in ("stack", "streams"))

    rehearsal = Rehearsal(
        ways,
        lambda dtype: parts.build(lanes, keys, dtype),
        parts.code,
        parts.datasets,
        network.device,
        network.dtype,
        log,
        short=parts.short,
    )
    return Trainer(network, stepper, rehearsal, parts.update, parts.datasets, words, parts.draw, step_variables, log)


def _set_determinism(network: Network) -> None:
    """Ask for deterministic kernels on CUDA where a model has layers whose gradients use atomic additions.

    In both directions: another block of this process may have asked for them.
    """
    if network.device.type == "cuda":
        atomic = (torch.nn.modules.conv._ConvNd, torch.nn.Embedding)
        needed = any(isinstance(module, atomic) for module in network.models[0].modules())
        torch.use_deterministic_algorithms(needed, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library


def keep_freed_memory() -> bool:
    """Tell the GNU C library's malloc to reuse large blocks instead of returning them to the kernel.

    Every step allocates the same temporaries; without this each of them is mapped, zeroed page by page and
    unmapped again. Normalising ten batches of 256 images: 9.2 ms without, 1.7 ms with. Returns False elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    largest = 2**31 - 1
    return bool(library.mallopt(_M_MMAP_THRESHOLD, 2**30) and library.mallopt(_M_TRIM_THRESHOLD, largest))
