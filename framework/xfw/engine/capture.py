"""Capture a step in a CUDA graph, so that replaying it costs one launch and no Python."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

__all__ = ["Captured"]

WARM_UPS = 3
"""Eager runs before a capture: libraries allocate their handles and workspaces then."""


class Captured:
    """Run a function eagerly on a CPU; on CUDA capture it once per key and replay it.

    ``preserve`` returns a function that undoes the warm-up runs (they change parameters and counters).
    A function that cannot be captured runs eagerly, with one line of ``log`` that says why.
    """

    def __init__(
        self, device: torch.device, preserve: Callable[[], Callable[[], None]], log: Callable[[str], None]
    ) -> None:
        self._device, self._preserve, self._log = device, preserve, log
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self._pool: Any = None

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        """Do what ``function`` does: it reads and writes tensors that keep their addresses."""
        if self._device.type != "cuda":
            function()
            return
        if key not in self._graphs:
            self._graphs[key] = self._capture(function)
        graph = self._graphs[key]
        if graph is None:
            function()
        else:
            graph.replay()

    def _capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        restore = self._preserve()
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                function()
                restore()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                function()
        except RuntimeError as error:
            torch.cuda.synchronize(self._device)
            self._log(f"not captured in a CUDA graph, runs eagerly: {str(error).splitlines()[0]}")
            return None
        self._pool = graph.pool()
        return graph
