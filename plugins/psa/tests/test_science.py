"""Published results, judged by the plugin's targets: minutes on a GPU, hours on a CPU, hence marked slow."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from xfw.analysis.verdicts import MISSED, NO_DATA, REPRODUCED
from xfw.analysis.verification import Report, verify
from xfw.plugins.registry import load_experiment
from xfw.store.results import Results
from xfw.store.rundir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (Path(os.environ.get("XFW_DATA_DIR", "/nowhere")) / "MNIST" / "raw").is_dir(),
        reason="MNIST is not in XFW_DATA_DIR",
    ),
]
Run = Callable[..., Results]
GPU = torch.cuda.is_available()
PLACE = {"device": ("--device", "cuda"), "jobs": "1"} if GPU else {"device": (), "jobs": "2"}

SUBSET = ("1*8", "1*32", "2*16", "4*29", "18*18", "20*20")
"""Networks of all regimes that train fast."""


def trained(run: Run, preset: str, modes: str, trials: int, loops: int, arches: Sequence[str]) -> Report:
    """Train these networks and judge them by the published numbers."""
    arguments = ("--preset", preset, "-s", f"mode={modes}", "--trials", str(trials), *PLACE["device"])
    results = run(*arguments, arch=",".join(arches), loops=loops, jobs=PLACE["jobs"])
    return verify(load_experiment("psa"), [RunDir(results.path.parent)])


def judged(report: Report, tag: str) -> dict[str, str]:
    """Return the verdicts of the targets with a tag that have data."""
    found = {each.target.name: each.verdict for each in report.judgements if tag in each.target.tags}
    return {name: verdict for name, verdict in found.items() if verdict != NO_DATA}


def test_cheap_subset_reproduces_the_published_cells(run: Run) -> None:
    report = trained(run, "paper", "all", 10, 100, SUBSET)
    cells = judged(report, "cells")
    assert len(cells) == 6 * len(SUBSET)
    missed = [name for name, verdict in (cells | judged(report, "trials")).items() if verdict == MISSED]
    suites = {each.suite.name: each.verdict for each in report.suites if each.verdict != NO_DATA}
    assert suites == dict.fromkeys(("plain networks: cells", "plain networks: single trials"), REPRODUCED), missed
    assert judged(report, "orderings") == dict.fromkeys(
        ("1*32: none > output", "1*32: none > hidden > full", "18*18: the controls stay at a class share"), REPRODUCED
    )


def test_residual_network_of_depth_eighteen_trains(run: Run) -> None:
    report = trained(run, "resmlp", "none,decay", 10, 100, ["18*18"])
    assert judged(report, "depth") == {"18*18 residual, corrected code": REPRODUCED}


@pytest.mark.parametrize(
    ("preset", "target"),
    [
        ("resmlp", "115*115 residual: every trial trains in ten loops"),
        ("paper", "115*115 plain: no trial trains in ten loops"),
    ],
)
def test_depth_one_hundred_and_fifteen_needs_residual_connections(run: Run, preset: str, target: str) -> None:
    assert judged(trained(run, preset, "none", 3, 10, ["115*115"]), "depth") == {target: REPRODUCED}


def test_first_loops_of_the_residual_networks_lie_in_the_published_bands(run: Run) -> None:
    report = trained(run, "resmlp", "hidden", 6, 1, ["4*119", "1*1024"])
    assert judged(report, "first loop") == dict.fromkeys(
        ("4*119 residual: first loop", "1*1024 residual: first loop"), REPRODUCED
    )
