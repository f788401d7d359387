"""Train all trials of a block, step by step: batch, gradients, update, metrics; captured as one graph on CUDA.

Axes: T trial (lane) of the block, S step of the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from xfw.engine.batches import Batches, Draw, gather, steps_of
from xfw.engine.network import Network
from xfw.engine.rehearsal import MODULES, Rehearsal, generator_states, refuse_draws
from xfw.engine.step import OBSERVED, Step
from xfw.engine.steppers import STREAMS, Stepper
from xfw.engine.update import Update
from xfw.engine.work import work_of
from xfw.errors import UserError, did_you_mean
from xfw.experiment import Dataset, Pass, Variable

__all__ = ["Trainer"]

CPU_CHUNK = 512
"""Examples evaluated at once on a CPU: a fixed number, so that no result depends on the width of the block."""

CUDA_ACTIVATIONS = 2**27
"""Largest number of activations of one layer, all trials together, in one evaluation product on CUDA."""

ROOM, TURNS = 2**28, 16
"""Bytes of orders and meters of other passes that are kept for their next turn, and their largest number."""

WARM_UPS = 3
"""Eager runs before a capture: libraries allocate their handles and workspaces then."""


class Trainer:
    """Hold the moving parts of a block's training; all state is in tensors that keep their addresses."""

    def __init__(
        self,
        network: Network,
        make_stepper: Callable[[str], Stepper],
        rehearsal: Rehearsal,
        update: Update,
        datasets: Mapping[str, Dataset],
        words_T2: torch.Tensor,
        draw: Draw,
        step_variables: Mapping[str, Variable],
        log: Callable[[str], None],
    ) -> None:
        """``step_variables`` holds the metrics that step streams declare."""
        self.network, self.update, self.datasets = network, update, datasets
        self.device, self.words_T2 = network.device, words_T2
        self._make_stepper, self._rehearsal, self._draw, self._log = make_stepper, rehearsal, draw, log
        self._step_variables = step_variables
        self._captured = Captured(self.device, self.moving, log)
        self._number = torch.zeros((), dtype=torch.int64, device=self.device)
        self._batches: dict[Pass, Batches] = {}
        self._meters: dict[Pass, dict[str, torch.Tensor]] = {}
        self._totals: dict[str, dict[str, torch.Tensor]] = {}
        self._ways: dict[Hashable, str] = {}
        self._steppers: dict[str, Stepper] = {}
        self.used: list[str] = []
        """The ways in which steps and evaluations have been run, in the order of their first use."""
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
            self._make_room()
            self._batches[spec] = self.batches_of(spec)
        batches = self._batches[spec]
        self._number.fill_(number)
        batches.shuffle(number)
        batches.position.fill_(step)
        if step == 0:
            for name, meter in self.meters().items():
                meter.fill_(self._missing(name))
        return batches.steps

    def batches_of(self, spec: Pass) -> Batches:
        """Return the batches of a pass, in the order of their storage until they are shuffled."""
        return Batches(spec, self.datasets[spec.dataset], self.words_T2, self._draw)

    def _make_room(self) -> None:
        """Forget the passes begun longest ago, but for the last one."""
        while len(self._batches) > 1:
            held = [batches.order_TN for batches in self._batches.values()]
            held += [meter for meters in self._meters.values() for meter in meters.values()]
            if len(self._batches) < TURNS and sum(tensor.nbytes for tensor in held) < ROOM:
                return
            oldest = next(iter(self._batches))
            del self._batches[oldest]
            self._meters.pop(oldest, None)
            self._captured.forget(oldest)

    def step(self, index: int) -> None:
        """Take step ``index`` of the epoch, for all trials."""
        assert self._spec is not None
        spec, batches = self._spec, self._batches[self._spec]
        size, due = batches.size(index), batches.is_due(index)
        stepper = self._stepper((spec, size, due), partial(self._rehearsal.training, spec, size, due))
        share = self._share(batches, index)
        if spec in self._meters:
            key = (spec, size, due, share, *self.update.addresses())
            if self.update.capturable():
                self._captured.run(key, lambda: self._step(stepper, batches, size, due, share))
            else:
                self._step(stepper, batches, size, due, share)
            return
        before = generator_states(self.device)
        self._step(stepper, batches, size, due, share)
        refuse_draws(before, self.device)

    def _share(self, batches: Batches, index: int) -> tuple[float, bool, bool]:
        """Return what a step is among those of its update: its share of their examples, the first, the last."""
        start = index - index % self.update.accumulate
        together = range(start, min(start + self.update.accumulate, batches.steps))
        total = sum(batches.size(step) for step in together)
        return batches.size(index) / total, index == start, index == together[-1]

    def _step(self, stepper: Stepper, batches: Batches, size: int, due: bool, share: tuple[float, bool, bool]) -> None:
        self.update.follow()
        step = Step(batches.epoch, batches.dataset, due, self._number, batches.position)
        metrics, graded = stepper.train(step, batches.take(size))
        metrics = {n: now for n, now in self.update.numbers().items() if n in self._step_variables} | metrics
        weight, first, last = share
        self.update.take(weight, first=first, last=last, graded=graded)
        if batches.epoch not in self._meters:
            self._meters[batches.epoch] = self._make_meters(metrics, batches.steps)
        meters = self._meters[batches.epoch]
        absent = {name for name in meters if name.startswith(OBSERVED) and not due}
        for name in (metrics.keys() ^ meters.keys()) - absent:
            hint = "return the same metrics in every step, with -1 or NaN where there is nothing"
            raise UserError(f"train_step: returned metric '{name}' in some of its steps only", hint=hint)
        place = batches.position.view(1)
        for name, value in metrics.items():
            meters[name].index_copy_(0, place, value.to(meters[name].dtype).unsqueeze(0))
        batches.position.add_(1)

    def _make_meters(self, metrics: Mapping[str, torch.Tensor], steps: int) -> dict[str, torch.Tensor]:
        plain = [name.removeprefix(OBSERVED) for name in metrics]
        if twice := [name for name in metrics if f"{OBSERVED}{name}" in metrics]:
            raise UserError(f"observe_step: returned '{twice[0]}', as train_step does", hint="give it another name")
        for name in self._step_variables:
            if name not in plain:
                hint = did_you_mean(name, plain)
                raise UserError(f"train_step returned no '{name}', which a stream of steps declares", hint=hint)
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        for name, value in metrics.items():
            hook, own = ("observe" if name.startswith(OBSERVED) else "train"), name.removeprefix(OBSERVED)
            axes = len(self._step_variables[own].axes) if own in self._step_variables else 0
            if value.dim() != 1 + axes:
                wanted = f"{axes} axes" if axes else "one number"
                raise UserError(f"{hook}_step: metric '{own}' has shape {tuple(value.shape[1:])}, expected {wanted}")
        return {
            name: torch.full((steps, *value.shape), self._missing(name), dtype=dtype, device=self.device)
            for name, value in metrics.items()
        }

    def _missing(self, name: str) -> float:
        """Return what the meter of a metric holds in steps without a value."""
        declared = self._step_variables.get(name.removeprefix(OBSERVED))
        if not name.startswith(OBSERVED) or (declared is not None and declared.dtype == "bool"):
            return 0.0
        return -1.0 if declared is not None and declared.dtype == "int64" else float("nan")

    def gradients(self, spec: Pass) -> dict[str, torch.Tensor]:
        """Return the metrics of a pass's first step without an update; the gradient arena holds its gradients."""
        batches = self.batches_of(spec)
        size, due = batches.size(0), batches.is_due(0)
        stepper = self._stepper((spec, size, due), partial(self._rehearsal.training, spec, size, due))
        step = Step(spec, batches.dataset, due, self._number, batches.position)
        return stepper.train(step, batches.take(size))[0]

    def means(self) -> dict[str, torch.Tensor]:
        """Return the epoch's mean over examples of all that ``train_step`` returned, each ``[T, …]``.

        In float64 (float32 on mps).
        """
        assert self._spec is not None
        batches = self._batches[self._spec]
        results = {}
        for name, meter_ST in self._meters[self._spec].items():
            if name.startswith(OBSERVED):
                continue
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
        return {} if self._spec is None else self._meters.get(self._spec, {})

    def restore_meters(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put back the meters of the epoch under way."""
        assert self._spec is not None
        self._meters[self._spec] = {name: torch.tensor(array, device=self.device) for name, array in arrays.items()}

    # --- the ways ----------------------------------------------------------------------------------------

    def _stepper(self, key: Hashable, rehearse: Callable[[], str]) -> Stepper:
        """Return what runs the steps of a configuration of plain values; the first time, find out what may."""
        if key not in self._ways:
            self._ways[key] = rehearse()
            if self._rehearsal.stateful:  # what was trusted before knew nothing of the values that change
                self._ways = dict.fromkeys(self._ways, MODULES)
                self._captured.stop()
        way = self._ways[key]
        if way not in self._steppers:
            self._steppers[way] = self._make_stepper(way)
        if way not in self.used:
            self.used.append(way)
        return self._steppers[way]

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
            size = len(chunk)
            stepper = self._stepper((name, size), partial(self._rehearsal.evaluation, name, size))
            for key, value in stepper.evaluate(dataset, gather(dataset, chunk)).items():
                totals[key] = value.clone() if key not in totals else totals[key] + value
        return totals

    def _chunk(self, name: str) -> int:
        if self.device.type != "cuda":
            return CPU_CHUNK
        if name not in self._chunks:
            network = self.network
            known = (network.models[0],) if network.template is None else (network.template, self.datasets[name])
            widest = work_of(*known, training=False).widest
            at_once = network.lanes if self._rehearsal.ways else min(network.lanes, STREAMS)
            self._chunks[name] = max(16, min(16384, CUDA_ACTIVATIONS // (at_once * widest)))
        return self._chunks[name]

    def moving(self) -> list[torch.Tensor]:
        """Return everything that a step or an evaluation changes."""
        moving = [self.network.arena_TP, *self.network.buffers.values()]
        moving += self.update.moving()
        moving += [batches.position for batches in self._batches.values()]
        moving += [tensor for held in (*self._meters.values(), *self._totals.values()) for tensor in held.values()]
        return moving


class Captured:
    """Run a function eagerly on a CPU; on CUDA capture it once per key in a graph and replay it, in one launch.

    A function that cannot be captured, or does something else when it is replayed, runs eagerly, with one line of
    ``log`` that says why.
    """

    def __init__(
        self, device: torch.device, moving: Callable[[], Sequence[torch.Tensor]], log: Callable[[str], None]
    ) -> None:
        """``moving`` returns the tensors that the functions change."""
        self._enabled, self._device, self._moving, self._log = device.type == "cuda", device, moving, log
        self._graphs: dict[tuple[Hashable, ...], torch.cuda.CUDAGraph | None] = {}
        self._pool: Any = None

    def run(self, key: tuple[Hashable, ...], function: Callable[[], None]) -> None:
        """Do what ``function`` does: it reads and writes tensors that keep their addresses."""
        if not self._enabled:
            function()
            return
        if key not in self._graphs:
            self._graphs[key] = self._capture(function)
        graph = self._graphs[key]
        if graph is None:
            function()
        else:
            graph.replay()

    def forget(self, first: Hashable) -> None:
        """Drop the graphs whose keys begin so: their tensors are gone."""
        self._graphs = {key: graph for key, graph in self._graphs.items() if key[0] != first}

    def stop(self) -> None:
        """Run everything eagerly from now on."""
        self._enabled = False

    def _capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        moving = self._moving()
        kept = [tensor.clone() for tensor in moving]

        def restore() -> None:
            for tensor, copy in zip(moving, kept, strict=True):
                tensor.copy_(copy)

        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                restore()
                function()
            eager = [tensor.clone() for tensor in moving]
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
        graph.replay()
        equal = all(
            torch.allclose(a, b, rtol=1e-3, atol=1e-6, equal_nan=True) for a, b in zip(moving, eager, strict=True)
        )
        restore()
        if not equal:
            self._log("not captured in a CUDA graph, runs eagerly: the replayed step had other results")
            return None
        return graph
