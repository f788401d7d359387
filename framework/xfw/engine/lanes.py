"""Strategies ``serial``, ``pool`` and ``streams``: ordinary single-model steps, one trial after the other.

On CUDA the steps of all trials are captured in one graph; ``streams`` spreads them over side streams there.
Axes: T trial (lane) of the block, B example.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from xfw.engine.batches import Batches, prepared
from xfw.engine.network import Network
from xfw.engine.rng import Rng
from xfw.engine.step import StepCode, split_output
from xfw.experiment import Dataset

__all__ = ["LaneStepper"]

STREAMS = 16
"""Side streams of a captured block: measured best between 8 and 32 on an H100."""


class LaneStepper:
    """Run each trial's step on its own module, whose tensors are views of the arena."""

    lowering = "modules"

    def __init__(
        self,
        network: Network,
        code: StepCode,
        words_T2: torch.Tensor,
        *,
        streams: bool,
        lanes: Sequence[int] | None = None,
    ) -> None:
        """``lanes`` restricts the stepper to some trials, for comparisons; metrics then have one entry for each."""
        self.network, self.code, self.words_T2 = network, code, words_T2
        self.modules = {lane: network.module(lane) for lane in (range(network.lanes) if lanes is None else lanes)}
        self._parameters = {
            lane: [p for name, p in module.named_parameters() if name in network.trained]
            for lane, module in self.modules.items()
        }
        self._gradients = {
            lane: [network.gradients[name][lane] for name, _ in module.named_parameters() if name in network.trained]
            for lane, module in self.modules.items()
        }
        count = min(STREAMS, network.lanes) if streams and network.device.type == "cuda" else 0
        self._streams = [torch.cuda.Stream(network.device) for _ in range(count)]  # type: ignore[no-untyped-call]

    def train(self, batches: Batches, raw: tuple[torch.Tensor, ...], epoch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step's gradients of every trial; return every metric as ``[T]``."""
        rows = []
        with self._spread():
            for lane in self.modules:
                with self._on_stream(lane):
                    rows.append(self._train_lane(lane, batches, raw, epoch))
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def evaluate(self, dataset: Dataset, raw: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        """Return ``evaluate_step``'s sums over a shared batch for every trial, each ``[T]``."""
        batch = prepared(dataset, raw, self.network.dtype)
        rows = []
        with torch.no_grad(), self._spread():
            for lane, module in self.modules.items():
                with self._on_stream(lane):
                    module.eval()
                    rows.append(dict(self.code.evaluate_step(module, batch)))
        return {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}

    def _train_lane(
        self, lane: int, batches: Batches, raw: tuple[torch.Tensor, ...], epoch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        batch = prepared(batches.dataset, tuple(tensor[lane] for tensor in raw), self.network.dtype)
        module = self.modules[lane]
        module.train(True)
        rng = Rng(self.words_T2[lane], epoch, batches.position)
        for site in self.network.dropouts(module):
            site.holder.current = rng
        results = split_output(self.code.train_step(module, batch, rng, batches.epoch, batches.due))
        if "loss" in results:
            found = torch.autograd.grad(
                results["loss"], self._parameters[lane], allow_unused=True, materialize_grads=True
            )
            torch._foreach_copy_(self._gradients[lane], [gradient.detach() for gradient in found])
        return {name: value.detach() for name, value in results.items()}

    @contextlib.contextmanager
    def _spread(self) -> Iterator[None]:
        """Fork the side streams from the current one and join them again."""
        if not self._streams:
            yield
            return
        main = torch.cuda.current_stream()
        for stream in self._streams:
            stream.wait_stream(main)
        yield
        for stream in self._streams:
            main.wait_stream(stream)

    def _on_stream(self, lane: int) -> contextlib.AbstractContextManager[object]:
        if not self._streams:
            return contextlib.nullcontext()
        return torch.cuda.stream(self._streams[lane % len(self._streams)])
