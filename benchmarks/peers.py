"""Measure a block of psa's residual MLPs beside the same step in JAX and in a stacked ``torch.compile``, in one run.

    python benchmarks/peers.py --device cuda --data-dir DIR --json peers.json
    python benchmarks/peers.py --device cpu --arch 18*18 --trials 10 --peers jax

A step gathers 256 images for every trial, scales them, and takes a step of AdamW on the cross entropy, in float32
without TF32. JAX: ``vmap`` over trials, ``scan`` over the steps of an epoch, ``jit``, donated state. Each candidate
lives in a process of its own and computes alone; candidates take turns, ``--repeats`` times. Printed: the median, and
its range, in microseconds per trial and step. JAX is optional: it is left out, and said so, where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

ARCHS = ("18*18", "[4*4,2*8,1*16]", "1*1024", "2*512")
BATCH, RATE, MEAN, DEVIATION = 256, 1e-4, 0.1307, 0.3081
CLASSES, INPUTS = 10, 784


class Candidate(Protocol):
    """One way of training: it is made ready for a cell, and then takes whole epochs of steps."""

    def prepare(self, arch: str, trials: int, steps: int) -> None: ...
    def begin(self) -> None: ...
    def train(self) -> None: ...
    def wait(self) -> None: ...


def maps(arch: str) -> list[tuple[str, int, int]]:
    """Return what every linear map is, its outputs and its inputs, in order."""
    layers: list[tuple[str, int, int]] = []
    current = INPUTS
    for count, width in re.findall(r"(\d+)\*(\d+)", arch):
        if int(width) != current:
            layers.append(("transition", int(width), current))
        current = int(width)
        layers += [("inner", current, current), ("outer", current, current)] * int(count)
    return [*layers, ("head", CLASSES, current)]


def training_data(data: str, data_dir: str) -> Any:
    from xfw.config.resolve import resolve
    from xfw.data.sources import Sources
    from xfw.plugins.registry import load_experiment

    experiment = load_experiment("psa")
    config = resolve(experiment, preset=None, overrides=[f"data={data}"]).configs[0]
    return experiment.hooks.load_data(config=config, sources=Sources(data_dir or None))["train"].tensors


class Stacked:
    """A block of xfw, through psa's own hooks."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        self.torch, self.args = torch, args

    def prepare(self, arch: str, trials: int, steps: int) -> None:
        from xfw.plugins.registry import load_experiment
        from xfw.testing.blocks import block_session

        self.session: Any = None
        keys = [f"arch={arch}", "family=resmlp", f"data={self.args.data}", "meta_loops=1", "mode=none"]
        where = {"device": self.args.device, "data_dir": self.args.data_dir}
        self.session = block_session(load_experiment("psa"), keys, trials=trials, **where)
        self.session.start(None)
        self.number, self.count = 0, steps

    def begin(self) -> None:
        self.number += 1
        self.session.trainer.begin(self.session.epochs[0], self.number)

    def train(self) -> None:
        for step in range(self.count):
            self.session.trainer.step(step)

    def wait(self) -> None:
        if self.args.device == "cuda":
            self.torch.cuda.synchronize()


class Jax:
    """The same step written for one model, ``vmap`` over trials and ``scan`` over steps."""

    def __init__(self, args: argparse.Namespace) -> None:
        import jax
        import numpy as np
        import optax

        jax.config.update("jax_default_matmul_precision", "highest")
        self.jax, self.optimizer = jax, optax.adamw(RATE, weight_decay=0.0)
        images, labels = training_data(args.data, args.data_dir)
        self.images = jax.numpy.asarray(images.numpy().reshape(len(images), -1))
        self.labels = jax.numpy.asarray(labels.numpy().astype(np.int32))
        self.entropy = optax.softmax_cross_entropy_with_integer_labels
        self.apply = optax.apply_updates

    def loss(self, kinds: list[str], weights: Any, index: Any) -> Any:
        relu = self.jax.nn.relu
        h = (self.images[index].astype("float32") / 255 - MEAN) / DEVIATION
        branch = h
        for kind, (w, b) in zip(kinds, weights, strict=True):
            if kind == "inner":
                branch = relu(h @ w + b)
            elif kind == "outer":
                h = relu(h + branch @ w + b)
            else:
                h = relu(h @ w + b) if kind == "transition" else h @ w + b
        return self.entropy(h, self.labels[index]).mean()

    def prepare(self, arch: str, trials: int, steps: int) -> None:
        import numpy as np

        jax, rng = self.jax, np.random.default_rng(1)
        layers = maps(arch)
        kinds = [kind for kind, _, _ in layers]

        def uniform(inputs: int, *shape: int) -> Any:
            return jax.numpy.asarray((rng.random((trials, *shape), np.float32) * 2 - 1) / np.sqrt(inputs), "float32")

        weights = [(uniform(inputs, inputs, outputs), uniform(inputs, outputs)) for _, outputs, inputs in layers]

        def step(state: Any, index: Any) -> Any:
            value, gradients = jax.value_and_grad(lambda w: self.loss(kinds, w, index))(state[0])
            updates, moments = self.optimizer.update(gradients, state[1], state[0])
            return (self.apply(state[0], updates), moments), value

        def order(key: Any) -> Any:
            keys = jax.random.split(key, trials)
            shuffled = jax.vmap(lambda own: jax.random.permutation(own, len(self.labels)))(keys)
            return shuffled[:, : steps * BATCH].reshape(trials, steps, BATCH).swapaxes(0, 1)

        self.state = weights, jax.vmap(self.optimizer.init)(weights)
        self.order = jax.jit(order)
        self.run = jax.jit(lambda state, index: jax.lax.scan(jax.vmap(step), state, index), donate_argnums=0)
        self.key = jax.random.key(1)

    def begin(self) -> None:
        self.key, own = self.jax.random.split(self.key)
        self.index = self.order(own)

    def train(self) -> None:
        self.state, self.losses = self.run(self.state, self.index)

    def wait(self) -> None:
        self.jax.block_until_ready((self.state, self.index))


class Compiled:
    """Trials stacked by hand, forward and backward compiled; on CUDA the whole step in one graph."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        self.torch, self.args = torch, args
        images, labels = training_data(args.data, args.data_dir)
        self.images, self.labels = images.flatten(1).to(args.device), labels.to(args.device)

    def losses(self, kinds: list[str], weights: Any, raw: Any, labels: Any) -> Any:
        torch = self.torch
        h = (raw / 255 - MEAN) / DEVIATION
        branch = h
        for kind, w, b in zip(kinds, weights[::2], weights[1::2], strict=True):
            if kind == "inner":
                branch = torch.relu(torch.baddbmm(b, h, w))
            elif kind == "outer":
                h = torch.relu(h + torch.baddbmm(b, branch, w))
            else:
                h = torch.baddbmm(b, h, w)
                h = torch.relu(h) if kind == "transition" else h
        entropy = torch.nn.functional.cross_entropy(h.flatten(0, 1), labels.flatten(), reduction="none")
        return entropy.view(labels.shape).mean(1)

    def prepare(self, arch: str, trials: int, steps: int) -> None:
        torch, device = self.torch, self.args.device
        layers = maps(arch)
        kinds = [kind for kind, _, _ in layers]
        weights = []
        for _, outputs, inputs in layers:
            for shape in ((trials, inputs, outputs), (trials, 1, outputs)):
                weights.append(((torch.rand(shape, device=device) * 2 - 1) / inputs**0.5).requires_grad_())
        cuda = device == "cuda"
        optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0, fused=True, capturable=cuda)
        compiled = torch.compile(lambda raw, labels: self.losses(kinds, weights, raw, labels).sum(), dynamic=False)
        self.order = torch.zeros(trials, len(self.labels), dtype=torch.int64, device=device)
        self.position = torch.zeros((), dtype=torch.int64, device=device)
        columns = torch.arange(BATCH, device=device)
        self.begin()

        def step() -> None:
            index = self.order.index_select(1, self.position * BATCH + columns).flatten()
            raw = self.images.index_select(0, index).view(trials, BATCH, INPUTS)
            optimizer.zero_grad(set_to_none=True)
            compiled(raw, self.labels.index_select(0, index).view(trials, BATCH)).backward()
            optimizer.step()
            self.position.add_(1)

        self.count, self.step = steps, self.captured(step) if cuda else step

    def captured(self, step: Callable[[], None]) -> Callable[[], None]:
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        replay: Callable[[], None] = graph.replay
        return replay

    def begin(self) -> None:
        self.order.copy_(self.torch.rand(self.order.shape, device=self.args.device).argsort(1))
        self.position.zero_()

    def train(self) -> None:
        for _ in range(self.count):
            self.step()

    def wait(self) -> None:
        if self.args.device == "cuda":
            self.torch.cuda.synchronize()


CANDIDATES: dict[str, Callable[[argparse.Namespace], Candidate]] = {"xfw": Stacked, "jax": Jax, "compile": Compiled}


def serve(args: argparse.Namespace) -> None:
    """Be one candidate: a request a line on standard input, an answer a line on standard output."""
    candidate = CANDIDATES[args.worker](args)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        if request["do"] == "prepare":
            candidate.prepare(request["arch"], request["trials"], request["steps"])
        candidate.begin()
        candidate.wait()
        begun = time.perf_counter()
        candidate.train()
        candidate.wait()
        end = time.perf_counter()
        whole = end - (start if request["do"] == "prepare" else begun)
        print("\n" + json.dumps({"answer": whole}), flush=True)


class Worker:
    """A candidate's process, as the one that asks sees it."""

    def __init__(self, name: str, options: list[str]) -> None:
        command = [sys.executable, __file__, "--worker", name, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith('{"answer"'):
                return float(json.loads(line)["answer"])
        raise SystemExit(f"a candidate ended with {self.process.wait()}")


def cell(workers: dict[str, Worker], arch: str, trials: int, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one network and number of trials; seconds per trial and step, and of the first epoch with its set-up."""
    setups = {
        name: worker.ask(do="prepare", arch=arch, trials=trials, steps=args.steps) for name, worker in workers.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(args.repeats):
        for name, worker in workers.items():
            seconds[name].append(worker.ask(do="train") / (args.steps * trials))
    return {"arch": arch, "trials": trials, "setup": setups, "seconds": seconds}


def show(result: dict[str, Any]) -> None:
    medians = {name: statistics.median(values) for name, values in result["seconds"].items()}
    for name, values in result["seconds"].items():
        spread = f"{min(values) * 1e6:.2f} to {max(values) * 1e6:.2f}"
        print(
            f"{result['arch']:16}{result['trials']:5} {name:8}{medians[name] * 1e6:10.2f} µs  {spread:22}"
            f"{medians[name] / medians['xfw']:8.2f} × xfw   first epoch {result['setup'][name]:6.1f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--arch", action="append", help="residual MLP, may be repeated (default: four)")
    parser.add_argument("--trials", type=lambda text: [int(part) for part in text.split(",")], default=[10, 64, 256])
    parser.add_argument("--peers", type=lambda text: text.split(","), default=["jax", "compile"])
    parser.add_argument("--steps", type=int, default=195, help="steps of an epoch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=CANDIDATES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        serve(args)
        return
    missing = [
        peer for peer in args.peers if peer == "jax" and not all(map(importlib.util.find_spec, ("jax", "optax")))
    ]
    for peer in missing:
        print(f"{peer}: left out, it is not installed (pip install jax optax)")
    options = ["--device", args.device, "--data", args.data, "--data-dir", args.data_dir]
    workers = {name: Worker(name, options) for name in ["xfw", *(p for p in args.peers if p not in missing)]}
    print(f"{platform.processor() or platform.machine()}; {args.device}; {time.strftime('%Y-%m-%d')}")
    results = []
    for trials in args.trials:
        for arch in args.arch or ARCHS:
            results.append(cell(workers, arch, trials, args))
            show(results[-1])
            if args.json:
                args.json.write_text(json.dumps(results, indent=1))
    for worker in workers.values():
        worker.process.stdin.close()  # type: ignore[union-attr]
        worker.process.wait()


if __name__ == "__main__":
    main()
