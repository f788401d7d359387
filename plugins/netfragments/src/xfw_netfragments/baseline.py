"""Store what the network makes of the clean images, or take it from another run (spec 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xfw
from numpy.typing import NDArray
from xfw.config.structure import structure

from xfw_netfragments import connections
from xfw_netfragments.config import Config
from xfw_netfragments.points import sample_count, settings

if TYPE_CHECKING:
    from xfw.engine.block import Block
    from xfw.store.results import TrialSource

    from xfw_netfragments.imagery import Scene
    from xfw_netfragments.outputs import Output

__all__ = ["store"]


def store(block: Block, shown: Sequence[Sequence[tuple[Scene, Output]]]) -> None:
    """Keep the activity of every setting for the comparisons, and all time steps of it in the run."""
    config: Config = block.configs[0]
    last = np.stack([np.stack([output.last for _, output in own]) for own in shown])
    if config.evaluate.baseline is not None:
        last = _of_run(block, config.evaluate.baseline)
    block.values["baseline"] = torch.from_numpy(last).to(block.device)
    images = np.stack([own[0][0].images for own in shown])
    for place in range(len(settings(config))):
        z = np.stack([own[place][1].z for own in shown])
        block.array(f"baseline/{place}", z.reshape(*z.shape[:4], *images.shape[-2:]))
    block.array("baseline_images", images.astype(bool))
    block.array("baseline_weights", np.stack([_identity(block, lane) for lane in range(block.size)]))


def _identity(block: Block, lane: int) -> NDArray[np.int64]:
    """Return the hash of a trial's weights."""
    parameters = [tensor[lane].detach().cpu().numpy().reshape(-1) for tensor in block.parameters.values()]
    return connections.digest(np.concatenate(parameters))


def _of_run(block: Block, reference: str) -> NDArray[np.bool_]:
    """Return the stored activity of another run, (T, settings, N, X), after making sure that it belongs to these."""
    found = []
    for lane, trial in enumerate(block.stored_trials(reference)):
        config: Config = block.configs[lane]
        if problems := list(differences(config, _identity(block, lane), trial)):
            raise xfw.WrongInput(
                f"evaluate.baseline: the baseline of run {trial.run} does not fit trial {block.members[lane].trial}",
                [xfw.Problem(path, text) for path, text in problems],
            )
        found.append(np.stack([_stored(trial, place) for place in range(len(settings(config)))]))
    return np.stack(found)


def _stored(trial: TrialSource, setting: int) -> NDArray[np.bool_]:
    z = np.asarray(trial.arrays[f"baseline/{setting}"])[:, -1]
    return z.reshape(len(z), -1).astype(bool)


def differences(config: Config, identity: NDArray[np.int64], trial: TrialSource) -> list[tuple[str, str]]:
    """Return in what a stored baseline differs from the one that is needed: weights, settings, images."""
    if "baseline_weights" not in trial.arrays:
        return [("$.evaluate.baseline", "the run stored no baseline: its stage evaluate was not run")]
    other = structure(Config, _plain(trial.config))
    pairs: list[tuple[str, Any, Any]] = [
        ("weights (hash)", _hex(identity), _hex(np.asarray(trial.arrays["baseline_weights"]))),
        ("evaluate.images", config.evaluate.images, other.evaluate.images),
        ("evaluate.samples", sample_count(config), sample_count(other)),
        ("data.size", config.data.size, other.data.size),
        ("s1", (config.s1.filters, config.s1.activation), (other.s1.filters, other.s1.activation)),
        ("random", config.random, other.random),
        ("settings", _names(config), _names(other)),
    ]
    return [(f"$.{name}", f"the baseline has {there}, expected {here}") for name, here, there in pairs if here != there]


def _plain(values: Any) -> Any:
    return {name: _plain(value) for name, value in values.items()} if hasattr(values, "items") else values


def _names(config: Config) -> str:
    return "; ".join(setting.name for setting in settings(config))


def _hex(words: NDArray[np.int64]) -> str:
    return np.asarray(words, np.int64).tobytes().hex()[:12]
