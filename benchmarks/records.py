"""Measure what the host spends on recorded steps: reading rows back, typing them, and joining them for a commit.

python benchmarks/records.py --steps 10000 --trials 64
"""

from __future__ import annotations

import argparse
import time

import torch
import xfw
from xfw.engine.recorder import Recorder

VARIABLES = (
    xfw.Variable("loss", "float64", "loss"),
    xfw.Variable("penalty", "float64", "penalty"),
    xfw.Variable("correct", "int64", "correct answers", axes=("task",)),
)


def main() -> None:
    """Print microseconds for each step and trial."""
    parser = argparse.ArgumentParser(description="Measure the host's work for each recorded step and trial.")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=64)
    asked = parser.parse_args()
    declared = xfw.Records((xfw.Stream("step", "step", VARIABLES, each="step"),))
    shape = (asked.steps, asked.trials)
    meters = {
        "loss": torch.rand(shape, dtype=torch.float64),
        "penalty": torch.rand(shape, dtype=torch.float64),
        "correct": torch.randint(0, 9, (*shape, 3)).double(),
    }
    for _ in range(3):
        recorder = Recorder(declared, asked.trials, torch.device("cpu"))
        began = time.process_time()
        for start in range(0, asked.steps, 1000):  # a commit, or the end of a pass
            recorder.rows("step", {name: meter[start : start + 1000] for name, meter in meters.items()})
            recorder.flush()
        recorder.take()
        seconds = time.process_time() - began
        print(f"{seconds / asked.steps / asked.trials * 1e6:.3f} µs for each step and trial")


if __name__ == "__main__":
    main()
