"""Measure netfragments: a step against one in the original's style, a training, the grid; on a GPU also ten trials.

    python benchmarks/netfragments.py                      a CPU: steps, 100 epochs of one trial, the 252 points
    python benchmarks/netfragments.py --original 1         the same, and one image in the original's style (a minute)
    python benchmarks/netfragments.py --device cuda        ten trials, the autoencoder, and equality with the CPU

The original's style is written from the description of the published code: patches by a convolution with one-hot
kernels, and every quantity as an array of cells × inputs × positions. Axes: C cell, D input, P position.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from xfw.plugins.registry import load_experiment
from xfw.testing.blocks import train_block
from xfw_netfragments import lateral, rasters, s1, sparse
from xfw_netfragments.layer import Dynamics, Layer, Learning, initial_weights
from xfw_netfragments.model import host_kernel

LAYER, LEARNING = Layer(), Learning()
DYNAMICS = Dynamics(0.5, (1.2, 1.4, 1.6, 1.8, 2.0, 2.2))
NO_POINTS = ["evaluate.noise=[]", "evaluate.line_interrupt=[]", "evaluate.samples=1"]
COUNT = 200


def features() -> np.ndarray:
    """Return the features of the training lines."""
    return s1.features(rasters.draw_all(rasters.training_lines(32), 32), "small", "threshold")


# --- the original's style ------------------------------------------------------------------------------------


def one_hot_patches(inputs_IHW: torch.Tensor, one_hot: torch.Tensor) -> torch.Tensor:
    """Copy every patch by a convolution with one-hot kernels."""
    return functional.conv2d(inputs_IHW[None], one_hot, padding=LAYER.locality)[0].flatten(1)


def original_step(weight: torch.Tensor, seen_FHW: torch.Tensor) -> torch.Tensor:
    """Show one image and return the weights after it, with all arrays of cells × inputs × positions."""
    depth = LAYER.inputs * LAYER.area
    one_hot = torch.eye(depth).reshape(depth, LAYER.inputs, LAYER.side, LAYER.side)
    flat = weight.reshape(LAYER.channels, -1)
    z = torch.zeros(LAYER.channels, *seen_FHW.shape[1:])
    mask: torch.Tensor | None = None
    steps = []
    for step in range(DYNAMICS.timesteps):
        patches = one_hot_patches(torch.cat([seen_FHW, z]), one_hot)
        if mask is None:
            mask = winner_mask(flat, patches)
        support = flat @ patches
        attenuated = lateral.attenuated(support, LAYER.limit) * mask
        grouped = attenuated.reshape(4, -1)
        strength = (grouped / (1e-10 + grouped.amax(1, keepdim=True))).reshape_as(support)
        z = lateral.fire(strength, DYNAMICS, step, None).reshape_as(z)
        steps.append(z)
    active = torch.stack(steps).sort(0).values[(DYNAMICS.timesteps - 1) // 2]
    return original_update(flat, active.flatten(1), one_hot_patches(torch.cat([seen_FHW, active]), one_hot)).reshape_as(
        weight
    )


def winner_mask(flat_CD: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Return the winners by the mean of agreement minus disagreement over all inputs."""
    connected = (flat_CD > 0).float()[:, :, None]
    agreement = connected * patches[None]
    disagreement = (connected - patches[None]).abs()
    score = (agreement - disagreement).mean(1).reshape(4, LAYER.alternatives, -1)
    first = score.argmax(1, keepdim=True)
    return torch.zeros_like(score).scatter_(1, first, 1.0).reshape(LAYER.channels, -1)


def original_update(flat_CD: torch.Tensor, active_CP: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Return the weights after the Hebbian step on arrays of cells × inputs × positions."""
    active, seen = active_CP[:, None, :], patches[None]
    positive = active * seen.clamp_max(1)
    negative = active * (seen == 0).float() + (1 - active) * seen.clamp_max(1)
    delta = (positive - negative).mean(2).clamp_min(0)
    scaled = (delta - delta.min()) / (delta.max() - delta.min() + 1e-10)
    return (flat_CD + LEARNING.rate * scaled).clamp(0, 1)


# --- our own -------------------------------------------------------------------------------------------------


def host_step(kernel: Any, weight: np.ndarray, image: np.ndarray) -> None:
    """Show one image and learn from it, at the cost of its active cells."""
    seen = sparse.look(image, LAYER)
    found = kernel.winners(weight, seen, LAYER)
    activity = kernel.settle(weight, found, LAYER, DYNAMICS)
    sparse.apply(weight, kernel.change(weight, seen, activity.z_TFP, found, LAYER, LEARNING))


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the seconds of the clock and of the processor that a piece of work took, and its result."""
    wall, busy = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - busy, result


def steps_per_kernel(names: list[str]) -> dict[str, dict[str, float]]:
    """Return milliseconds per image of the first steps of a training, for each kernel."""
    images = features()
    found = {}
    for name in names:
        kernel = host_kernel(name)
        host_step(kernel, initial_weights(LAYER), images[0])  # compiles
        weight = initial_weights(LAYER)
        order = np.random.default_rng(0).integers(0, len(images), COUNT)
        wall, busy, _ = timed(lambda k=kernel, w=weight, o=order: [host_step(k, w, images[i]) for i in o])  # type: ignore[misc]
        found[name] = {"wall_ms": 1e3 * wall / COUNT, "cpu_ms": 1e3 * busy / COUNT}
    return found


def original(count: int) -> dict[str, float]:
    """Return seconds per image in the original's style, and whether the weights are ours."""
    images = features()
    weight, own = torch.from_numpy(initial_weights(LAYER)), initial_weights(LAYER)
    wall, busy = 0.0, 0.0
    for image in images[:count]:
        seconds, cpu, weight = timed(lambda w=weight, x=image: original_step(w, torch.from_numpy(x)))  # type: ignore[misc]
        wall, busy = wall + seconds, busy + cpu
        host_step(sparse, own, image)
    equal = bool(np.abs(own - weight.numpy()).max() < 1e-6)
    return {"images": count, "wall_s": wall / count, "cpu_s": busy / count, "same_weights": equal}


def train(
    device: str, preset: str, trials: int, *keys: str, points: bool = False, strategy: str = ""
) -> tuple[float, float, Any]:
    """Train a preset in one block and return its times and what it stored."""
    strategy = strategy or ("pool" if device == "cpu" else "streams" if preset == "autoencoder" else "stack")
    overrides = [*keys, *([] if points else NO_POINTS)]
    experiment = load_experiment("netfragments")
    how = {"preset": preset, "trials": trials, "device": device, "strategy": strategy}
    return timed(lambda: train_block(experiment, overrides, **how))


def on_a_cpu(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure steps, one training, and the points of the grid."""
    names = ["numpy", *(["numba"] if host_kernel("auto") is not sparse else [])]
    found: dict[str, Any] = {"steps": steps_per_kernel(names)}
    if arguments.original:
        found["original"] = original(arguments.original)
        found["ratio"] = {
            name: 1e3 * found["original"]["wall_s"] / own["wall_ms"] for name, own in found["steps"].items()
        }
    for name in names:
        kernel = f"kernel={name}"
        wall, busy, _ = train("cpu", "paper", 1, f"train.epochs={arguments.epochs}", kernel)
        found[f"training, {name}"] = {"epochs": arguments.epochs, "wall_s": wall, "cpu_s": busy}
        one = ["train.epochs=1", "data.train=1", kernel]
        wall, busy, block = train("cpu", "paper", 1, *one, points=True)
        rows = len(block.record("evaluation", "point"))
        found[f"grid, {name}"] = {"points": rows, "wall_s": wall, "cpu_s": busy}
    return found


def on_a_gpu(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure ten trials and the autoencoder, and compare 300 images with a CPU."""
    keys = ["random=published", "train.epochs=1"]
    _, _, host = train("cpu", "net_fragments", 2, *keys)
    _, _, device = train("cuda", "net_fragments", 2, *keys)
    found: dict[str, Any] = {
        "same weights after 300 images": bool(np.array_equal(host.parameters(), device.parameters()))
    }
    for strategy in ("stack", "streams"):
        epochs = f"train.epochs={arguments.epochs}"
        wall, _, block = train("cuda", "paper", arguments.trials, epochs, strategy=strategy)
        nonzero = block.record("epoch", "weights_nonzero")[-1].tolist()
        how = {"trials": arguments.trials, "epochs": arguments.epochs, "lowering": block.commit.layout["lowering"]}
        found[f"training, {strategy}"] = {**how, "wall_s": wall, "nonzero": nonzero}
    wall, _, block = train("cuda", "paper", arguments.trials, "train.epochs=1", "data.train=1", points=True)
    found["grid"] = {"trials": arguments.trials, "points": len(block.record("evaluation", "point")), "wall_s": wall}
    wall, _, block = train("cuda", "autoencoder", 1, f"train.epochs={2 * arguments.epochs}")
    errors = block.record("epoch", "validation_mse")[:, 0]
    first = [round(float(error), 4) for error in errors[:10]]
    found["autoencoder"] = {
        "epochs": 2 * arguments.epochs,
        "wall_s": wall,
        "first errors": first,
        "lowest": float(errors.min()),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--original", type=int, default=0, metavar="N", help="images in the original's style")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (the original's style uses them)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = on_a_gpu(arguments) if arguments.device == "cuda" else on_a_cpu(arguments)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{os.cpu_count()} cores"
    print(json.dumps({"torch": torch.__version__, "device": name, **found}, indent=2))


if __name__ == "__main__":
    main()
