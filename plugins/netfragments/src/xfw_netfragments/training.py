"""Start trials, look at them after every epoch, and keep their weights (spec 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
import xfw
from numpy.typing import NDArray

from xfw_netfragments import autoencoder, connections, full, lateral, sparse, supports
from xfw_netfragments.config import Config
from xfw_netfragments.lines import Shown, drawn_lines, validation_features
from xfw_netfragments.model import host_kernel, on_host, require_float32
from xfw_netfragments.outputs import images_at_once, over_trials
from xfw_netfragments.rasters import draw_all
from xfw_netfragments.records import GROUPS, WEIGHTS
from xfw_netfragments.s1 import features

if TYPE_CHECKING:
    from xfw.engine.block import Block
    from xfw.store.results import TrialSource

__all__ = ["finish", "finish_epoch", "keep_weights", "line_set", "start"]

Floats = NDArray[np.float32]
Metrics = Mapping[str, torch.Tensor]


def line_set(config: Config) -> dict[str, xfw.Dataset]:
    """Return the features of all lines that training may show (for Bernoulli features: probabilities), numbered."""
    images = draw_all(drawn_lines(config.data.lines, config.data.size), config.data.size)
    extracted = features(images, config.s1.filters, config.s1.activation)
    return {"lines": xfw.Dataset((torch.from_numpy(extracted), torch.arange(len(images))))}


# --- start ---------------------------------------------------------------------------------------------------


def start(block: Block, source: Sequence[TrialSource] | None) -> None:
    """Give the trials the weights they start from, and look at them before the first epoch."""
    config: Config = block.configs[0]
    if config.model == "autoencoder":
        autoencoder.start(block, source)
    else:
        _start(block, config, source)
    done = torch.full((block.size,), block.done_epochs, dtype=torch.int64, device=block.device)
    block.values["epochs_done"] = done


def _start(block: Block, config: Config, source: Sequence[TrialSource] | None) -> None:
    require_float32(block.dtype)
    if source is not None:
        block.done_epochs = _load_source(block, source)
    elif config.weights is not None:
        weight = connections.fitting(connections.read_file(Path(config.weights)), config.layer, config.weights)
        block.parameters["weight"].copy_(torch.from_numpy(weight))
        block.done_epochs = config.train.start_epoch
    elif config.train.epochs == 0:
        raise xfw.WrongInput(
            "netfragments: there are no weights to evaluate: train.epochs=0, and none are given",
            hint="give -s weights=FILE or --from RUN, or train: -s train.epochs=5",
        )
    if block.done_epochs >= config.train.epochs > 0:
        block.warn(
            f"nothing to train: the weights have {block.done_epochs} epochs behind them, "
            f"train.epochs={config.train.epochs}"
        )
    if block.done_epochs == 0:
        _record(block, 0, None)
        if config.plot.live and not config.plot.last_only:
            from xfw_netfragments import live

            live.draw(block, 0)


def _load_source(block: Block, source: Sequence[TrialSource]) -> int:
    """Load what another run stored; return how many epochs it had."""
    epochs = {int(each.arrays.get("epochs_done", 0)) for each in source}
    if len(epochs) > 1:
        raise xfw.WrongInput(
            f"--from: the trials of run {source[0].run} have {sorted(epochs)} epochs, expected equal ones"
        )
    for lane, each in enumerate(source):
        config: Config = block.configs[lane]
        there = each.config.get("s2", {})
        default = attrs.fields_dict(type(config.s2))
        stored = attrs.evolve(
            config.layer,
            alternatives=int(there.get("alternatives", default["alternatives"].default)),
            locality=int(there.get("locality", default["locality"].default)),
        )
        weight = connections.of_trial(each.arrays, stored.shape)
        if weight is None:
            raise xfw.WrongInput(f"--from: run {each.run} holds no weights for trial {each.trial}")
        block.parameters["weight"][lane].copy_(torch.from_numpy(connections.fitting(weight, config.layer, each.run)))
    return epochs.pop()


# --- every epoch ---------------------------------------------------------------------------------------------


def finish_epoch(block: Block, metrics: Metrics) -> None:
    """Look at the validation images, and record the epoch."""
    config: Config = block.configs[0]
    epoch = block.epoch + 1
    block.values["epochs_done"].fill_(epoch)
    if config.model == "autoencoder":
        autoencoder.finish_epoch(block, metrics)
        return
    _record(block, epoch, metrics)
    if config.s3.enabled:
        from xfw_netfragments import feedback

        feedback.adapt(block)
    if epoch in config.store.weights_at:
        _keep(block, f"_e{epoch}")
    if config.plot.live and (not config.plot.last_only or epoch == config.train.epochs):
        from xfw_netfragments import live

        live.draw(block, epoch)


def finish(block: Block) -> None:
    """Keep the weights."""
    if block.configs[0].model == "autoencoder":
        autoencoder.finish(block)
    keep_weights(block)


def keep_weights(block: Block) -> None:
    """Store the weights as they are now, and how many epochs they have behind them."""
    block.array("epochs_done", block.values["epochs_done"])
    if block.configs[0].model == "autoencoder":
        autoencoder.keep(block)
    else:
        _keep(block, "")


def _keep(block: Block, suffix: str) -> None:
    stored = [connections.sparse(weight) for weight in block.parameters["weight"].detach().cpu().numpy()]
    block.ragged(f"w_index{suffix}", [index for index, _ in stored])
    block.ragged(f"w_value{suffix}", [value for _, value in stored])


def _record(block: Block, epoch: int, metrics: Metrics | None) -> None:
    """Record the row of an epoch; row 0 is that of the start."""
    config: Config = block.configs[0]
    looked = epoch > 0 or config.train.initial_validation
    trained = _training_sums(metrics, config.data.train, block.size)
    validated = validate(block, epoch) if looked else [Sums() for _ in trained]
    rows = [_row(*both) for both in zip(trained, validated, strict=True)]
    changing = np.zeros(block.size) if metrics is None else metrics["changed"].cpu().numpy() * config.data.train
    block.record(
        "epoch",
        epoch=np.full(block.size, epoch),
        changing_steps=np.rint(changing).astype(np.int64),
        **weight_statistics(block.parameters["weight"]),
        **{name: np.array([row[name] for row in rows]) for name in rows[0]},
    )


Sums = dict[str, NDArray[np.float64]]


def _training_sums(metrics: Metrics | None, images: int, lanes: int) -> list[Sums]:
    """Return the sums over the training images of the epoch, for every lane."""
    if metrics is None:
        return [{} for _ in range(lanes)]
    groups = {"active": supports.SUMS, "inactive": supports.INACTIVE}
    stacked = {
        group: torch.stack([metrics[name] for name in names], 1).cpu().numpy() * images
        for group, names in groups.items()
        if names[0] in metrics
    }
    return [{group: values[lane] for group, values in stacked.items()} for lane in range(lanes)]


def _row(trained: Sums, validated: Sums) -> dict[str, float]:
    """Return the statistics of training, validation and both together."""
    empty = {"active": np.zeros(len(supports.SUMS)), "inactive": np.zeros(len(supports.INACTIVE))}
    parts = {"train_": {**empty, **trained}, "validation_": {**empty, **validated}}
    parts[""] = {group: sum((part[group] for part in parts.values()), np.zeros(())) for group in empty}
    return {f"{prefix}{name}": value for prefix in GROUPS for name, value in supports.averages(parts[prefix]).items()}


def validate(block: Block, epoch: int) -> list[Sums]:
    """Return every trial's sums over its validation images after an epoch, without learning."""
    config: Config = block.configs[0]
    shown = [validation_features(block, lane, epoch) for lane in range(block.size)]
    weights = block.parameters["weight"].detach()
    if on_host(weights, config) and not config.s3.enabled:
        return [_validate_on_host(config, *each) for each in zip(weights.numpy(), shown, strict=True)]
    features, uniform = [each.features for each in shown], [each.uniform for each in shown]
    at_once = images_at_once(config, weights, features[0][0, 0].size, statistics=True)
    found = over_trials(partial(_validate_densely, config), at_once, weights, features, uniform).cpu().numpy()
    active = len(supports.SUMS)
    return [{"active": own[:active], "inactive": own[active:]} for own in found]


def _validate_on_host(config: Config, weight: Floats, shown: Shown) -> Sums:
    kernel, layer = host_kernel(config.kernel), config.layer
    active, inactive = np.zeros(len(supports.SUMS)), np.zeros(len(supports.INACTIVE))
    for place, image in enumerate(shown.features):
        seen = sparse.look(image, layer)
        winners = kernel.winners(weight, seen, layer)
        uniform = None if shown.uniform is None else shown.uniform[place]
        activity = kernel.settle(weight, winners, layer, config.dynamics, uniform)
        active += supports.host_sums(activity.z_TFP, activity.support_TFP, activity.strength_TFP)
        everything = sparse.settle_all(weight, seen, winners, activity, layer)
        inactive += supports.host_inactive(activity.z_TFP, winners.channel_FP, everything)
    return {"active": active, "inactive": inactive}


def _validate_densely(
    config: Config, weight: torch.Tensor, features_NFHW: torch.Tensor, uniform_NTFP: torch.Tensor | None
) -> torch.Tensor:
    """Return one trial's sums, those of active cells first."""
    layer, dynamics = config.layer, config.dynamics
    winners = lateral.winners(weight, features_NFHW, layer)
    draws = None if uniform_NTFP is None else uniform_NTFP.transpose(0, 1).__getitem__
    older = config.s2.variant == "2023"
    found = full.settle_all(weight, features_NFHW, winners, layer, dynamics, draws, older=older)
    own = winners.channel.expand(dynamics.timesteps, -1, -1, -1)
    active = supports.sums(found.z.gather(2, own), found.support.gather(2, own), found.strength)
    inactive = supports.inactive(found.z, found.support)
    return torch.stack([value.double() for value in (*active, *inactive)])


def weight_statistics(weight: torch.Tensor) -> dict[str, NDArray[Any]]:
    """Return the statistics of every trial's weights, ``[T, …]`` to ``[T]`` (spec 4.3)."""
    # Trial by trial: the last bits of a sum over many rows depend on how many there are.
    rows = [_weight_statistics(own.flatten().double()) for own in weight.detach()]
    found = torch.stack(rows, 1).cpu().numpy()
    counts = {name: found[place].astype(np.int64) for place, name in enumerate(("weights_nonzero", "weights_one"))}
    return {**counts, **dict(zip(WEIGHTS, found[len(counts) :], strict=True))}


def _weight_statistics(flat: torch.Tensor) -> torch.Tensor:
    """Return the two counts, then the quantities of WEIGHTS in their order."""
    nonzero = (flat != 0).sum()
    values = (
        nonzero,
        (flat == 1).sum(),
        flat.mean(),
        flat.std(),
        flat.amin(),
        flat.amax(),
        flat.sum() / nonzero.clamp_min(1),
        (flat >= 0.9).double().mean(),
        (flat <= 0.1).double().mean(),
        flat.sum(),
    )
    return torch.stack([value.double() for value in values])
