"""What the tests of neuronal_decay share: data, the published files, small blocks in memory, and small runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from xfw.cli.main import invoke
from xfw.experiment import Experiment
from xfw.plugins.registry import load_experiment
from xfw.store.results import Results, open_run
from xfw.store.rundir import find_run
from xfw.testing.blocks import Trained, train_block

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"

if SHARED_DATA.is_dir():
    os.environ.setdefault("XFW_DATA_DIR", str(SHARED_DATA))

TINY = ("n_neurons=16", "iterations_per_task=12", "batch_size=256")
"""Six batches a pass of the 1500 digits, the last one of 220: with 12 iterations each task takes two passes."""

Train = Callable[..., Trained]
Run = Callable[..., Results]


@pytest.fixture(autouse=True)
def cuda_where_needed(request: pytest.FixtureRequest) -> None:
    """Skip, and say so, what needs a CUDA device where there is none."""
    if request.node.get_closest_marker("gpu") is not None:
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    return load_experiment("neuronal_decay")


@pytest.fixture(scope="session")
def train(experiment: Experiment) -> Train:
    """Train tiny trials in memory; later texts replace earlier ones of the same key."""

    def trained(*overrides: str, **how: Any) -> Trained:
        return train_block(experiment, tiny(*overrides), **{"preset": "quick", **how})

    return trained


def tiny(*overrides: str) -> list[str]:
    """Return the overrides of a tiny configuration."""
    keys = {text.partition("=")[0]: text for text in (*TINY, "number=1", *overrides)}
    return list(keys.values())


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Train tiny trials through the command line: overrides, and further arguments of ``xfw run``."""
    with ExitStack() as stack:

        def trained(*overrides: str, options: tuple[str, ...] = ()) -> Results:
            keys = [part for text in tiny(*overrides) for part in ("-s", text)]
            place = ("--results-dir", str(tmp_path), "--device", "cpu", "--jobs", "0", "--seed", "5", "--quiet")
            assert invoke(["run", "neuronal_decay", *keys, *place, *options]) == 0
            return stack.enter_context(open_run(find_run(tmp_path, "@last")))

        yield trained


@pytest.fixture(scope="session")
def published() -> Path:
    """The three published result files."""
    folder = Path(os.environ.get("XFW_DATA_DIR", "")) / "neuronal_decay"
    if not folder.is_dir():
        pytest.skip("the published result files are not in the data directory (XFW_DATA_DIR)")
    return folder


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The data directory, which must hold MNIST."""
    folder = Path(os.environ.get("XFW_DATA_DIR", ""))
    if not (folder / "MNIST/raw/train-images-idx3-ubyte").is_file():
        pytest.skip("MNIST is not in the data directory (XFW_DATA_DIR)")
    return folder
