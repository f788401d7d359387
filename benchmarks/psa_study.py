"""Measure what a configuration of psa's published study costs on a device, and extrapolate to all 98.

    python benchmarks/psa_study.py --device cuda --data-dir DATA --markdown cost.md
    python benchmarks/psa_study.py --device cpu --data digits --arch 1*8,4*2 --trials 1 --steps 5

One block holds all modes and trials of a configuration. Of each shape whole training steps and the validation are
timed; a loop is 196 steps and one validation. The other shapes follow from a fit with non-negative coefficients to
what costs time: the step itself, one layer, one activation, one parameter, one multiply-add.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from xfw.engine.session import Session
from xfw.plugins.registry import load_experiment
from xfw.testing.blocks import block_session
from xfw_psa.analysis.configurations import Shape, parameters, published, shape_of

SAMPLE = (
    "1*8,1*128,1*512,1*2048,2*59,2*588,4*29,4*185,4*632,115*115,44*44,30*30,18*18,10*10,4*4,17*4,119*4,425*4,16*2,"
    "214*2,64*1,512*1,2048*1"
)
PUBLISHED_HOURS = 869.53
LOOPS, STEPS_PER_LOOP = 100, 196


def block(shape: Shape, args: argparse.Namespace) -> Session:
    made = block_session(
        load_experiment("psa"),
        [f"arch={shape.text}", "mode=all", "keep_weights=false", f"data={args.data}", "meta_loops=2"],
        preset="paper",
        trials=args.trials,
        device=args.device,
        data_dir=args.data_dir or "",
        allow_tf32=args.allow_tf32,
    )
    made.start(None)
    return made


def clock(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(function: Callable[[], object], device: str) -> float:
    started = clock(device)
    function()
    return clock(device) - started


def measured(shape: Shape, args: argparse.Namespace) -> dict[str, float]:
    """Return seconds of the set-up, of a step and of a validation of one block."""
    started = clock(args.device)
    made = block(shape, args)
    spec = made.epochs[0]
    made.trainer.begin(spec, 0)
    made.trainer.step(0)
    made.block.evaluate("validation")
    made.block.evaluate("validation")
    setup = clock(args.device) - started

    def steps() -> None:
        for index in range(1, 1 + args.steps):
            made.trainer.step(index)

    step = min(timed(steps, args.device) for _ in range(args.repeats)) / args.steps
    validation = min(timed(lambda: made.block.evaluate("validation"), args.device) for _ in range(args.repeats))
    return {"setup": setup, "step": step, "validation": validation}


def work(shape: Shape, lanes: int) -> list[float]:
    """Return what the time of a step may be made of: step, layers, activations, parameters, multiply-adds."""
    count = parameters(shape, "plain-mlp", "simplemlp")
    return [1.0, shape.depth, lanes * shape.depth * shape.width, lanes * count, lanes * count * 256.0]


def fitted(times: dict[Shape, float], lanes: int) -> Callable[[Shape], float]:
    """Return the fit, which weighs relative errors of all shapes alike."""
    rows = np.array([work(shape, lanes) for shape in times])
    seconds = np.array(list(times.values()))
    scale = rows.max(0)
    weights, _ = nnls(rows / scale / seconds[:, None], np.ones(len(seconds)))
    return lambda shape: float(np.array(work(shape, lanes)) / scale @ weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--arch", default=SAMPLE)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--allow-tf32", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    found: dict[Shape, dict[str, float]] = {}
    for text in args.arch.split(","):
        shape = shape_of(text)
        assert shape is not None, text
        found[shape] = measured(shape, args)
        print(text, {name: f"{seconds:.5f}" for name, seconds in found[shape].items()}, flush=True)
    lines = report(found, lanes=6 * args.trials)
    print("\n".join(lines))
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n")
    if args.json:
        args.json.write_text(json.dumps({shape.text: row for shape, row in found.items()}, indent=1))


def report(found: dict[Shape, dict[str, float]], lanes: int) -> list[str]:
    """Return the table of what was measured, and the whole study's cost by series."""
    step = fitted({shape: row["step"] for shape, row in found.items()}, lanes)
    validation = fitted({shape: row["validation"] for shape, row in found.items()}, lanes)

    def study(shape: Shape) -> float:
        row = found.get(shape) or {"step": step(shape), "validation": validation(shape)}
        return LOOPS * (STEPS_PER_LOOP * row["step"] + row["validation"])

    lines = [
        f"| network | parameters | ms a step ({lanes} trials) | fit | ms a validation | s for {LOOPS} loops |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for shape, row in found.items():
        count = parameters(shape, "plain-mlp", "simplemlp")
        figures = (1e3 * row["step"], 1e3 * step(shape), 1e3 * row["validation"])
        lines.append(
            f"| `{shape.text}` | {count:,} | " + " | ".join(f"{f:.2f}" for f in figures) + f" | {study(shape):.0f} |"
        )
    everything = published().shapes
    total = sum(study(shape) for shape in everything)
    deep = sum(study(shape) for shape in everything if shape.depth >= 200)
    setup = float(np.median([row["setup"] for row in found.values()])) * len(everything)
    lines += [
        "",
        f"All {len(everything)} networks, {lanes} trials each: {total / 3600:.2f} device-hours"
        f" (+ about {setup / 3600:.2f} h of set-up), published {PUBLISHED_HOURS} GPU-hours;"
        f" of it {deep / 3600:.2f} h in networks of 200 layers and more.",
    ]
    return lines


if __name__ == "__main__":
    main()
