"""Measure the engine through psa's own hooks beside plain PyTorch loops, in one run.

    python benchmarks/trials.py --device cuda --arch 18*18 --arch 1*1024 --trials 10,64,256 --json trials.json
    python benchmarks/trials.py --device cpu --arch 18*18 --trials 10

Everything is measured in turn, ``--repeats`` times; figures are medians, per trial and step of 256 images, with the
smallest and largest repeat. On a CPU two numbers are given: wall time of two single-threaded processes that share the
trials against loops with two threads, and CPU time of one thread against loops with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import references
import torch
from xfw.config.resolve import resolve
from xfw.data.sources import Sources
from xfw.engine.session import Session
from xfw.plugins.registry import load_experiment
from xfw.store.commit import Committer
from xfw.testing.blocks import block_session


def session(arch: str, trials: int, args: argparse.Namespace, *, strategy: str, loops: int = 1) -> Session:
    """Make a block of ``trials`` trials of the residual MLP ``arch``, ready to step; it commits nothing."""
    made = block_session(
        load_experiment("psa"),
        [f"arch={arch}", "family=resmlp", f"data={args.data}", f"meta_loops={loops}", "mode=hidden"],
        trials=trials,
        strategy=strategy,
        device=args.device,
        data_dir=args.data_dir or "",
        allow_tf32=args.allow_tf32,
    )
    made.start(None)
    return made


def stepper(made: Session) -> Callable[[int], None]:
    """Return a function that takes whole-batch training steps of a block, epoch after epoch."""
    spec = made.epochs[0]
    count = made.trainer.begin(spec, 0)
    whole = [step for step in range(count) if made.trainer._batches[spec].size(step) == spec.batch_size]
    state = {"epoch": 0, "step": 0}

    def run(steps: int) -> None:
        for _ in range(steps):
            if state["step"] == len(whole):
                state["epoch"] += 1
                state["step"] = 0
                made.trainer.begin(spec, state["epoch"])
            made.trainer.step(state["step"])
            state["step"] += 1

    return run


def measure(run: Callable[[int], None], steps: int, clock: Callable[[], float]) -> float:
    """Return seconds per step."""
    started = clock()
    run(steps)
    return (clock() - started) / steps


def synchronised() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def calibrated(run: Callable[[int], None], clock: Callable[[], float], seconds: float) -> int:
    """Return the number of steps that take about ``seconds``."""
    run(3)
    return max(3, int(seconds / measure(run, 5, clock)))


def interleaved(
    runs: dict[str, Callable[[int], None]], shares: dict[str, int], clock: Callable[[], float], args: Any
) -> dict[str, list[float]]:
    """Return seconds per trial-step of every candidate, one entry a repeat, measured in turn."""
    steps = {name: calibrated(run, clock, args.seconds) for name, run in runs.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.repeats):
        for name, run in runs.items():
            found[name].append(measure(run, steps[name], clock) / shares[name])
    return found


def whole_run(arch: str, trials: int, args: argparse.Namespace, strategy: str) -> float:
    """Return seconds per trial-step of whole loops: evaluation, ratchet, records and commits included."""
    loops = args.loops
    with tempfile.TemporaryDirectory() as folder:
        made = session(arch, trials, args, strategy=strategy, loops=loops + 1)
        made.committer = Committer(Path(folder))
        made._count_steps()
        made._epoch(0)
        made.position |= {"epoch": 1, "step": 0}
        made._read_back()
        started = time.perf_counter()
        made.run()
        spent = time.perf_counter() - started
    return spent / (loops * made.total_steps / (loops + 1)) / trials


def on_cuda(arch: str, args: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(args.device)
    data = load_experiment("psa").hooks.load_data(
        config=session(arch, 1, args, strategy="serial").configs[0],
        sources=Sources(args.data_dir),
    )["train"]

    def model() -> torch.nn.Module:
        return session(arch, 1, args, strategy="serial").block.module(0).to(device)

    runs = {
        "plain loop": references.plain_loop(model(), data, device),
        "preloaded, fused AdamW": references.preloaded_loop(model(), data, device),
        "serial CUDA graph": references.graph_loop(model(), data, device),
    }
    shares = dict.fromkeys(runs, 1)
    memory = {}
    for trials in args.trials:
        name = f"stack T={trials}"
        torch.cuda.reset_peak_memory_stats()
        runs[name] = stepper(session(arch, trials, args, strategy="stack"))
        runs[name](2)
        shares[name] = trials
        memory[name] = torch.cuda.max_memory_allocated()
    if args.streams:
        name = f"streams T={args.streams}"
        runs[name] = stepper(session(arch, args.streams, args, strategy="streams"))
        shares[name] = args.streams
    seconds = interleaved(runs, shares, synchronised, args)
    result: dict[str, Any] = {"arch": arch, "seconds": seconds, "peak_bytes": memory}
    if args.whole:
        result["whole"] = {f"stack T={t}": whole_run(arch, t, args, "stack") for t in args.whole}
    return result


def on_cpu(arch: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one thread in CPU time here, and two processes against two threads in wall time."""
    trials, strategy = args.trials[0], args.strategy
    result: dict[str, Any] = {"arch": arch}
    torch.set_num_threads(1)
    made = session(arch, trials, args, strategy=strategy)
    device, data = torch.device("cpu"), made.trainer.datasets["train"]
    runs = {
        "plain loop": references.plain_loop(made.block.module(0), data, device),
        "preloaded, fused AdamW": references.preloaded_loop(made.block.module(0), data, device),
        f"{strategy} T={trials}": stepper(made),
    }
    shares = {name: trials if name.startswith(strategy) else 1 for name in runs}
    result["cpu_seconds"] = interleaved(runs, shares, time.process_time, args)
    if args.whole:
        result["whole"] = {f"{strategy} T={trials}": whole_run(arch, trials, args, strategy)}
    plain, two = "plain loop", f"{strategy} T={trials} in two processes"
    wall: dict[str, list[float]] = {plain: [], two: []}
    for _ in range(args.repeats):
        wall[plain] += in_processes(arch, 1, "plain", 1, 2, args)
        halves = in_processes(arch, trials // 2, strategy, 2, 1, args)
        wall[two].append(sum(halves) / 4)  # both do half of the trials at the same time
    result["wall_seconds"] = wall
    return result


def in_processes(arch: str, trials: int, what: str, count: int, threads: int, args: argparse.Namespace) -> list[float]:
    """Return wall seconds per trial-step of ``count`` processes at once, each with ``threads`` threads.

    The plain loop needs a process of its own: blocks set up theirs (threads, memory allocator) for the engine.
    """
    command = [sys.executable, __file__, "--device", "cpu", "--arch", arch, "--trials", str(trials)]
    command += ["--data", args.data, "--seconds", str(args.seconds), "--worker", what]
    command += ["--data-dir", args.data_dir] if args.data_dir else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) for _ in range(count)]
    return [float(worker.communicate()[0].splitlines()[-1]) for worker in workers]


def worker(args: argparse.Namespace) -> None:
    """Measure one candidate, and print seconds per trial-step."""
    trials, experiment = args.trials[0], load_experiment("psa")
    if args.worker == "plain":
        resolved = resolve(experiment, preset=None, overrides=[f"arch={args.arch[0]}", f"data={args.data}"])
        data = experiment.hooks.load_data(config=resolved.configs[0], sources=Sources(args.data_dir))["train"]
        model = experiment.hooks.build_model(config=resolved.configs[0])
        run = references.plain_loop(model, data, torch.device("cpu"))
    else:
        torch.set_num_threads(1)
        run = stepper(session(args.arch[0], trials, args, strategy=args.worker))
    steps = calibrated(run, time.perf_counter, args.seconds)
    print(measure(run, steps, time.perf_counter) / trials)


def print_table(title: str, seconds: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\n{title}\n{'':34}{'µs per trial-step':>20}{'range':>22}{'× plain':>10}{'× graph':>10}")
    for name, values in seconds.items():
        against = medians["plain loop"] / medians[name]
        graph = f"{medians['serial CUDA graph'] / medians[name]:10.2f}" if "serial CUDA graph" in medians else ""
        spread = f"{min(values) * 1e6:.1f}–{max(values) * 1e6:.1f}"
        print(f"{name:34}{medians[name] * 1e6:20.1f}{spread:>22}{against:10.2f}{graph}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--arch", action="append", required=True, help="residual MLP, e.g. 18*18; may be repeated")
    parser.add_argument("--trials", type=lambda text: [int(part) for part in text.split(",")], default=[10])
    parser.add_argument("--strategy", default="stack", help="on a CPU: stack or pool")
    parser.add_argument("--streams", type=int, default=0, help="also measure `streams` with so many trials")
    parser.add_argument("--whole", type=lambda text: [int(part) for part in text.split(",")], default=[])
    parser.add_argument("--loops", type=int, default=5, help="loops of a whole run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one measurement")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--allow-tf32", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    cuda = args.device.startswith("cuda")
    name = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
    print(f"{name}; torch {torch.__version__}; Python {platform.python_version()}; {time.strftime('%Y-%m-%d')}")
    results = []
    for arch in args.arch:
        result = on_cuda(arch, args) if cuda else on_cpu(arch, args)
        results.append(result)
        for title in ("seconds", "cpu_seconds", "wall_seconds"):
            if title in result:
                print_table(f"{arch} ({title.replace('_', ' ')})", result[title])
        for name, value in result.get("whole", {}).items():
            bare = statistics.median((result.get("seconds") or result["cpu_seconds"]).get(name, [float("nan")]))
            print(f"whole run, {name}: {value * 1e6:.1f} µs per trial-step, {100 * (value / bare - 1):.1f} % over bare")
        if args.json:
            args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
