"""Measure neuronal_decay beside a plain loop in the original's style, in one run.

    python benchmarks/neuronal_decay.py --device cpu
    python benchmarks/neuronal_decay.py --device cuda --size full --trials 90 --data-dir DIR --json decay.json

The plain loop trains one seed after another: images rotated once, a list of batches and a fresh random test subset from
``DataLoader``s of float images, one count read back from the device for each batch. It follows the paper's protocol
(evaluation of every task seen before every update), and so does xfw. Slices of iterations are taken from each task, in
turn, ``--repeats`` times; figures are medians, in milliseconds per trial and iteration, with the smallest and largest
repeat, and the ratio to the plain loop of the first experiment. On a CPU two numbers are given: CPU time of one
thread, and wall time of two single-threaded processes that share the trials against the loop with two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from xfw.engine.session import Session
from xfw.plugins.registry import load_experiment
from xfw.testing.blocks import block_session
from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.data import SIZES, train_set
from xfw_neuronal_decay.model import activity, build

PRESETS = {"small": "quick", "full": "paper"}

Times = dict[str, list[float]]
Runs = dict[str, tuple[Any, int]]


class Plain:
    """One seed in plain PyTorch: batches and test subsets through data loaders, a count read back for each batch."""

    def __init__(self, config: Config, sets: dict[str, Any], device: torch.device) -> None:
        self.config, self.device = config, device
        floats = {name: TensorDataset(*each.prepare(*each.tensors)) for name, each in sets.items()}
        count = SIZES[config.data][1]
        self.train: list[Dataset[Any]] = [floats[train_set(task)] for task in range(1, config.tasks + 1)]
        self.test = [Subset(floats["test"], range(task * count, (task + 1) * count)) for task in range(config.tasks)]
        self.model = build(config).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate or 0.0)
        self._batches: dict[int, list[Any]] = {}

    def batches(self, task: int) -> list[Any]:
        """Return the list of a task's batches, which the original makes once at its start."""
        if task not in self._batches:
            loader = DataLoader(self.train[task - 1], batch_size=self.config.batch(task), shuffle=True)
            self._batches = {task: list(loader)}
        return self._batches[task]

    def accuracy(self, task: int, current: int) -> float:
        """Return the accuracy on a fresh subset of a task's test images."""
        batch = self.config.batch(current)
        wanted = self.config.tested(current, SIZES[self.config.data][1])
        correct, tested = 0, 0
        with torch.no_grad():
            for images, labels in DataLoader(self.test[task], batch_size=batch, shuffle=True):
                found = self.model(images.to(self.device))[0].argmax(1)
                correct += int((found == labels.to(self.device)).sum().item())
                tested += len(labels)
                if tested >= wanted:
                    break
        return 100.0 * correct / tested

    def run(self, task: int, iterations: int) -> None:
        """Take iterations of a task: forward, evaluation of every task seen, backward, update."""
        batches = self.batches(task)
        for iteration in range(iterations):
            images, labels = (part.to(self.device) for part in batches[iteration % len(batches)])
            logits, h1, h2 = self.model(images)
            loss = functional.cross_entropy(logits, labels)
            if self.config.decay:
                loss = loss + self.config.strength * activity(h1, h2)
            for seen in range(task):
                self.accuracy(seen, task)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


class Block:
    """The trials of a block through the plugin's own hooks; its steps are taken as a run takes them."""

    def __init__(self, trials: int, args: argparse.Namespace) -> None:
        self.session: Session = block_session(
            load_experiment("neuronal_decay"),
            [f"number={args.numbers}", f"iterations_per_task={max(100, args.iterations)}"],
            preset=PRESETS[args.size],
            trials=trials,
            strategy=args.strategy,
            device=args.device,
            data_dir=args.data_dir or "",
            allow_tf32=args.allow_tf32,
        )
        self.session.start(None)
        self._task, self._next = 0, 0

    def run(self, task: int, iterations: int) -> None:
        """Take iterations of a task, those of whole batches, from its first one on again when they end."""
        trainer, spec = self.session.trainer, self.session.epochs[task - 1]
        if task != self._task:
            trainer.begin(spec, task - 1)
            self._task, self._next = task, 0
        for _ in range(iterations):
            trainer.step(self._next)
            self._next = (self._next + 1) % trainer._batches[spec].steps
            if self._next == 0:
                trainer._batches[spec].position.zero_()


def synchronised() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(run: Any, task: int, iterations: int, clock: Callable[[], float]) -> float:
    """Return seconds per iteration of a block or of one seed."""
    started = clock()
    run.run(task, iterations)
    return (clock() - started) / iterations


def interleaved(runs: Runs, task: int, args: argparse.Namespace, clock: Callable[[], float]) -> Times:
    """Return seconds per trial and iteration of every candidate, one entry a repeat, measured in turn."""
    for run, _ in runs.values():
        run.run(task, 2)
    found: Times = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, (run, share) in runs.items():
            found[name].append(measure(run, task, args.iterations, clock) / share)
    return found


def candidates(args: argparse.Namespace) -> Runs:
    """Return the plain loop of each experiment, and the block, with the number of trials that each advances."""
    block = Block(args.trials, args)
    torch.set_num_threads(args.threads)
    trainer, configs = block.session.trainer, block.session.configs
    sets = {
        name: attrs.evolve(each, tensors=tuple(part.cpu() for part in each.tensors))
        for name, each in trainer.datasets.items()
    }
    runs: Runs = {
        f"plain loop, experiment {config.number}": (Plain(config, sets, trainer.device), 1)
        for config in dict.fromkeys(configs)
    }
    return runs | {f"{args.strategy} ({trainer.stepper.lowering}), {len(configs)} trials": (block, len(configs))}


def in_processes(what: str, trials: int, count: int, threads: int, args: argparse.Namespace) -> dict[int, float]:
    """Return wall seconds per trial and iteration by task, of ``count`` processes at once."""
    command = [sys.executable, __file__, "--device", "cpu", "--size", args.size, "--numbers", args.numbers]
    command += ["--trials", str(trials), "--threads", str(threads), "--iterations", str(args.iterations)]
    command += ["--strategy", args.strategy, "--repeats", str(args.repeats), "--worker", what]
    command += ["--data-dir", args.data_dir] if args.data_dir else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) for _ in range(count)]
    found = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    return {int(task): statistics.mean(each[task] for each in found) / count for task in found[0]}


def worker(args: argparse.Namespace) -> None:
    """Measure one candidate by the clock on the wall, and print the median of each task."""
    runs = candidates(args)
    chosen = {name: run for name, run in runs.items() if name.startswith(args.worker)}
    name = next(iter(chosen))
    tasks = range(1, 4)
    found = {task: interleaved({name: chosen[name]}, task, args, time.perf_counter)[name] for task in tasks}
    print(json.dumps({task: statistics.median(values) for task, values in found.items()}))


def show(task: int, found: Times) -> None:
    plain = statistics.median(next(iter(found.values())))
    for name, values in found.items():
        median = statistics.median(values)
        spread = f"({1e3 * min(values):.3f}–{1e3 * max(values):.3f})"
        print(f"task {task}  {name:34}{1e3 * median:10.3f} ms {spread:>20}{plain / median:8.1f}×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=tuple(PRESETS), default="small")
    parser.add_argument("--trials", type=int, default=10, help="trials of each experiment in the block")
    parser.add_argument("--numbers", default="1,4", help="experiments of the block")
    parser.add_argument("--strategy", default="stack")
    parser.add_argument("--iterations", type=int, default=20, help="iterations of one measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data-dir")
    parser.add_argument("--allow-tf32", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    cuda = args.device.startswith("cuda")
    device = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    print(f"{device}; torch {torch.__version__}; size {args.size}; {time.strftime('%Y-%m-%d')}")
    runs, results = candidates(args), dict[str, Any](device=device)
    clock = synchronised if cuda else time.process_time
    results["seconds"] = {task: interleaved(runs, task, args, clock) for task in (1, 2, 3)}
    print("wall time" if cuda else "CPU time of one thread")
    for task, found in results["seconds"].items():
        show(task, found)
    if cuda:
        results["peak_bytes"] = peak = torch.cuda.max_memory_allocated()
        print(f"peak memory {peak / 2**30:.1f} GiB")
    else:
        print("wall time: the loop with two threads, two single-threaded processes that share the trials")
        plain = in_processes("plain", 1, 1, 2, args)
        halves = in_processes(args.strategy, max(1, args.trials // 2), 2, 1, args)
        results["wall"] = {"plain": plain, "two processes": halves}
        for task, seconds in plain.items():
            show(task, {"plain loop, 2 threads": [seconds], f"{args.strategy}, 2 processes": [halves[task]]})
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
