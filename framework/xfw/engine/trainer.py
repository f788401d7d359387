"""Train all trials of a block, step by step: batch, gradients, update, metrics; captured as one graph on CUDA.

Axes: T trial (lane) of the block, S step of the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from xfw.engine.batches import Batches, Draw, gather, steps_of
from xfw.engine.capture import Captured
from xfw.engine.lanes import STREAMS, LaneStepper
from xfw.engine.network import Network
from xfw.engine.stacked import StackedStepper
from xfw.engine.update import Update
from xfw.engine.work import work_of
from xfw.errors import UserError, did_you_mean
from xfw.experiment import Dataset, Pass

__all__ = ["Trainer"]

CPU_CHUNK = 512
"""Examples evaluated at once on a CPU: a fixed number, so that no result depends on the width of the block."""

CUDA_ACTIVATIONS = 2**27
"""Largest number of activations of one layer, all trials together, in one evaluation product on CUDA."""


class Trainer:
    """Hold the moving parts of a block's training; all state is in tensors that keep their addresses."""

    def __init__(
        self,
        network: Network,
        stepper: StackedStepper | LaneStepper,
        update: Update,
        datasets: Mapping[str, Dataset],
        draw: Draw,
        step_variables: Mapping[str, int],
        log: Callable[[str], None],
    ) -> None:
        """``step_variables`` holds the metrics that step streams declare, with the number of axes of each."""
        self.network, self.stepper, self.update, self.datasets = network, stepper, update, datasets
        self.device, self._draw, self._step_variables = network.device, draw, step_variables
        self._captured = Captured(self.device, self.preserve, log)
        self._epoch = torch.zeros((), dtype=torch.int64, device=self.device)
        self._batches: dict[Pass, Batches] = {}
        self._meters: dict[Pass, dict[str, torch.Tensor]] = {}
        self._totals: dict[str, dict[str, torch.Tensor]] = {}
        self._spec: Pass | None = None
        self._chunks: dict[str, int] = {}

    # --- one epoch ---------------------------------------------------------------------------------------

    def begin(self, spec: Pass, number: int, step: int = 0, before: Sequence[Pass] = ()) -> int:
        """Start (or, at ``step``, go on with) epoch ``number``; return its number of steps.

        Schedules count the passes ``before`` this one, and their updates.
        """
        self._spec = spec
        every = self.update.accumulate
        steps = [steps_of(earlier, len(self.datasets[earlier.dataset])) for earlier in before]
        self.update.begin(sum(-(-count // every) for count in steps) + step // every, len(before))
        if spec not in self._batches:
            self._batches[spec] = self._make_batches(spec)
        batches = self._batches[spec]
        self._epoch.fill_(number)
        batches.shuffle(number)
        batches.position.fill_(step)
        if spec not in self._meters:
            self._meters[spec] = self._rehearse(batches, step)
        if step == 0:
            for meter in self._meters[spec].values():
                meter.zero_()
        return batches.steps

    def _make_batches(self, spec: Pass) -> Batches:
        return Batches(spec, self.datasets[spec.dataset], self.stepper.words_T2, self._draw)

    def step(self, index: int) -> None:
        """Take step ``index`` of the epoch, for all trials."""
        assert self._spec is not None
        spec, batches = self._spec, self._batches[self._spec]
        size = batches.size(index)
        batches.due = due = batches.is_due(index)
        share = self._share(batches, index)
        key = (spec, size, due, share, *self.update.addresses())
        self._captured.run(key, lambda: self._step(batches, self._meters[spec], size, share))

    def _share(self, batches: Batches, index: int) -> tuple[float, bool, bool]:
        """Return what a step is among those of its update: its share of their examples, the first, the last."""
        start = index - index % self.update.accumulate
        together = range(start, min(start + self.update.accumulate, batches.steps))
        total = sum(batches.size(step) for step in together)
        return batches.size(index) / total, index == start, index == together[-1]

    def means(self) -> dict[str, torch.Tensor]:
        """Return the epoch's mean of every metric over examples, each ``[T, …]`` float64 (float32 on mps)."""
        assert self._spec is not None
        batches = self._batches[self._spec]
        results = {}
        for name, meter_ST in self._meters[self._spec].items():
            weights_S = batches.sizes_S.to(meter_ST.dtype)
            weighted_ST = meter_ST * weights_S.view(-1, *(1,) * (meter_ST.dim() - 1))
            if self.device.type == "cpu":
                # Trial by trial: the order of additions of a joint sum depends on how many trials there are.
                total_T = torch.stack([own_S.contiguous().sum(0) for own_S in weighted_ST.unbind(1)])
            else:
                total_T = weighted_ST.sum(0)
            results[name] = total_T / weights_S.sum()
        return results

    def meters(self) -> dict[str, torch.Tensor]:
        """Return the values of every metric at every step of the epoch under way, each ``[S, T, …]``."""
        return {} if self._spec is None else self._meters[self._spec]

    def _step(
        self, batches: Batches, meters: Mapping[str, torch.Tensor], size: int, share: tuple[float, bool, bool]
    ) -> None:
        self.update.follow()
        metrics = self._metrics(batches, size)
        weight, first, last = share
        self.update.take(weight, first=first, last=last)
        for name in metrics.keys() ^ meters.keys():
            hint = "return the same metrics in every step, with -1 or NaN where there is nothing"
            raise UserError(f"train_step: returned metric '{name}' in some of its steps only", hint=hint)
        place = batches.position.view(1)
        for name, meter_ST in meters.items():
            meter_ST.index_copy_(0, place, metrics[name].to(meter_ST.dtype).unsqueeze(0))
        batches.position.add_(1)

    def _metrics(self, batches: Batches, size: int) -> dict[str, torch.Tensor]:
        """Take one step's gradients; return its metrics, and the scheduled numbers that a stream of steps declares."""
        metrics = self.stepper.train(batches, batches.take(size), self._epoch)
        numbers = {name: now for name, now in self.update.numbers().items() if name in self._step_variables}
        return numbers | metrics

    # --- rehearsal ---------------------------------------------------------------------------------------

    def gradients(self, spec: Pass) -> dict[str, torch.Tensor]:
        """Return the metrics of one step without an update; the gradient arena holds its gradients."""
        batches = self._make_batches(spec)
        return self.stepper.train(batches, batches.take(batches.size(0)), self._epoch)

    def _rehearse(self, batches: Batches, step: int) -> dict[str, torch.Tensor]:
        """Find out which metrics a step returns, on copied state, and that it leaves global generators alone."""
        undo = self.preserve()
        before = _generator_states(self.device)
        metrics = self._metrics(batches, batches.size(step))
        if any(not torch.equal(a, b) for a, b in zip(before, _generator_states(self.device), strict=True)):
            raise UserError(
                "train_step: a step drew from torch's global generator, so its results would depend on its neighbours",
                hint="draw from the argument `rng` instead, for example rng.normal('noise', x.shape)",
            )
        undo()
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        lanes = self.network.lanes
        for name in self._step_variables:
            if name not in metrics:
                hint = did_you_mean(name, metrics)
                raise UserError(f"train_step returned no '{name}', which a stream of steps declares", hint=hint)
        for name, value in metrics.items():
            axes = self._step_variables.get(name, 0)
            if value.shape[:1] != (lanes,) or value.dim() != 1 + axes:
                wanted = f"{axes} axes" if axes else "one number"
                raise UserError(f"train_step: metric '{name}' has shape {tuple(value.shape[1:])}, expected {wanted}")
        return {
            name: torch.zeros(batches.steps, *value.shape, dtype=dtype, device=self.device)
            for name, value in metrics.items()
        }

    def preserve(self) -> Callable[[], None]:
        """Copy everything that a step changes; return the function that puts it back."""
        moving = [self.network.arena_TP, *self.network.buffers.values()]
        moving += self.update.moving()
        moving += [batches.position for batches in self._batches.values()]
        moving += [meter for meters in self._meters.values() for meter in meters.values()]
        kept = [tensor.clone() for tensor in moving]

        def restore() -> None:
            for tensor, copy in zip(moving, kept, strict=True):
                tensor.copy_(copy)

        return restore

    # --- evaluation --------------------------------------------------------------------------------------

    def evaluate(self, name: str) -> dict[str, torch.Tensor]:
        """Return ``evaluate_step``'s sums over a whole data set for every trial, each ``[T]``."""
        if name not in self.datasets:
            known = ", ".join(sorted(self.datasets))
            raise UserError(f"evaluate: unknown data set '{name}'; load_data returned: {known}")
        if self.device.type != "cuda":
            return self._evaluate(name)
        if name not in self._totals:
            # The first evaluation runs eagerly: a capture pays from the second on.
            self._totals[name] = self._evaluate(name)
            return {key: value.clone() for key, value in self._totals[name].items()}
        totals = self._totals[name]

        def into_totals() -> None:
            for key, value in self._evaluate(name).items():
                totals[key].copy_(value)

        self._captured.run(("evaluate", name), into_totals)
        return {key: value.clone() for key, value in totals.items()}

    def _evaluate(self, name: str) -> dict[str, torch.Tensor]:
        dataset = self.datasets[name]
        totals: dict[str, torch.Tensor] = {}
        for chunk in torch.split(torch.arange(len(dataset), device=self.device), self._chunk(name)):
            for key, value in self.stepper.evaluate(dataset, gather(dataset, chunk)).items():
                totals[key] = value.clone() if key not in totals else totals[key] + value
        return totals

    def _chunk(self, name: str) -> int:
        if self.device.type != "cuda":
            return CPU_CHUNK
        if name not in self._chunks:
            widest = work_of(self.network.template, self.datasets[name], training=False).widest
            at_once = min(self.network.lanes, STREAMS) if isinstance(self.stepper, LaneStepper) else self.network.lanes
            self._chunks[name] = max(16, min(16384, CUDA_ACTIVATIONS // (at_once * widest)))
        return self._chunks[name]


def _generator_states(device: torch.device) -> Sequence[torch.Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states
