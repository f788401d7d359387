"""What all tests share: the shared data sets where they are there, and an environment without our variables."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"

if SHARED_DATA.is_dir():
    os.environ.setdefault("XFW_DATA_DIR", str(SHARED_DATA))

# A shell that starts the tests in the background lets them ignore Ctrl-C; tests of Ctrl-C need Python's own handler.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, and say so, what needs a CUDA device where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the variables that change how plugins load out of every test."""
    for name in ("XFW_PLUGINS", "XFW_STRICT_PLUGINS", "XFW_TRACE"):
        monkeypatch.delenv(name, raising=False)
