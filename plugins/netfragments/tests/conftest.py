"""Published test vectors, slow definitions of the rule, and runs of netfragments through the command line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xfw.cli.main import invoke
from xfw.store.results import Results, open_run
from xfw.store.rundir import find_run

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"

if SHARED_DATA.is_dir():
    os.environ.setdefault("XFW_DATA_DIR", str(SHARED_DATA))

# A shell that starts the tests in the background lets them ignore Ctrl-C; tests of Ctrl-C need Python's own handler.
signal.signal(signal.SIGINT, signal.default_int_handler)

Run = Callable[..., Results]

SMALL = ("train.epochs=2", "data.train=12", "data.validation=2", "evaluate.samples=4", "evaluate.noise=[0.1]")
"""A training of 24 images and an evaluation of 4."""


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of published test vectors."""
    folder = Path(os.environ.get("XFW_DATA_DIR", "")) / "netfragments"
    if not (folder / "images.npz").is_file():
        pytest.skip(
            "needs the published test vectors: XFW_DATA_DIR/netfragments (images.npz, reference_weights.npz, …)"
        )
    return folder


@pytest.fixture(scope="session")
def vectors(published: Path) -> dict[str, NDArray[Any]]:
    """The published images and features, unpacked."""
    with np.load(published / "images.npz") as file:
        packed = {name for name in file if file[name].dtype == np.uint8 and name != "train_s1_large_twice"}
        return {name: np.unpackbits(file[name], axis=-1) if name in packed else file[name] for name in file}


@pytest.fixture(scope="session")
def reference(published: Path) -> NDArray[np.float32]:
    """The published weights."""
    with np.load(published / "reference_weights.npz") as file:
        weight = np.zeros(tuple(file["shape"]), np.float32)
        weight[file["co"], file["ci"], file["dy"], file["dx"]] = file["value"]
        return weight


@pytest.fixture(scope="session")
def golden(published: Path) -> list[dict[str, Any]]:
    """The published traces of deterministic trainings."""
    return list(json.loads((published / "golden_trace.json").read_text()))


@pytest.fixture(scope="session")
def points(published: Path) -> list[dict[str, Any]]:
    """The published points of the evaluation."""
    return list(json.loads((published / "reference_results.json").read_text())["rows"])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run netfragments with small settings and return the sealed results; arguments are those of ``xfw run``."""
    with ExitStack() as stack:

        def go(*arguments: str, small: bool = True, seed: str | None = "5") -> Results:
            given = {text.partition("=")[0] for text in arguments}
            kept = [key for key in SMALL if small and key.partition("=")[0] not in given]
            keys = [part for key in kept for part in ("-s", key)]
            seeded = ["--seed", seed] if seed is not None else []
            place = ["--results-dir", str(tmp_path), "--device", "cpu", "--jobs", "0", "--quiet"]
            assert invoke(["run", "netfragments", *keys, *seeded, *place, *arguments]) == 0
            return stack.enter_context(open_run(find_run(tmp_path, "@last")))

        yield go
