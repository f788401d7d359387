"""Try a fast way of running steps before it is trusted: what it returns and changes must be what single models do.

A step is fixed by plain values: its pass, the size of its batch, whether it is due, training or evaluation, the data
set. For each of these configurations two steps are run on models made for the purpose, once by ordinary steps of each
model and once by the fast way. Nothing of the run is touched, no number of the run is looked at, and so a resumed
block takes the same ways. Axes: T trial (lane) of these models, B example.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch

from xfw.engine.batches import gather, has_kernels
from xfw.engine.narrow import NarrowTwin, layers_of
from xfw.engine.network import Network, plain_state
from xfw.engine.rng import key_words
from xfw.engine.step import Metrics, Step, StepCode
from xfw.engine.steppers import InnerStepper, LaneStepper, NarrowStepper, StackedStepper, Stepper, TwinStepper
from xfw.engine.twin import NotTwinned, refusal
from xfw.errors import UserError
from xfw.experiment import Dataset, Pass

__all__ = ["MODULES", "Rehearsal", "fast_ways", "generator_states", "make_way", "refuse_draws"]

MODULES = "modules"
"""The way that needs no trust: the author's models, one after the other."""

TITLES = {"narrow": "narrow kernels", "twin": "stacked twin", "vmap": "vmap", "inner": "vmap with gradients inside"}

ONE_BY_ONE: tuple[type, ...] = (torch.nn.modules.conv._ConvNd,)
"""Layers that are not stacked on a CPU: grouped convolutions take twice the time of single ones there, and their bits
depend on the number of trials."""

REFUSALS = (NotTwinned, RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)
"""What torch and Python raise where a model cannot be run in some way."""

EXACT, SINGLE, SHORT = (1e-9, 1e-12), (1e-3, 1e-5), (3e-2, 1e-3)
"""Largest differences in double and in single precision, and where products are shortened (TF32, bfloat16).

Relative to the largest entry of a tensor, and to the largest of all tensors: below that part an entry may be rounding
alone (its true value may be zero).
"""


def fast_ways(network: Network, strategy: str, log: Callable[[str], None], *, short: bool = False) -> list[str]:
    """Return the fast ways that the network's layers admit under a strategy, the fastest first.

    Where products are ``short`` (bfloat16) only the twin does what single models do: under ``vmap`` autocast leaves
    convolutions and attention in float32 and returns float32 from linear layers.
    """
    if strategy != "stack":
        return []
    if network.obstacle:
        log(f"stack: not used ({network.obstacle}); the models run one by one")
        return []
    assert network.template is not None
    ways = [] if network.shared or refusal(network.template) else ["twin"]
    if short:
        return ways
    if ways and has_kernels(network.device) and NarrowTwin.fits(network, layers_of(network.template)):
        ways = ["narrow", *ways]
    if network.device.type == "cpu" and any(isinstance(module, ONE_BY_ONE) for module in network.template.modules()):
        return ways
    return [*ways, "vmap", "inner"]


def make_way(
    way: str, network: Network, code: StepCode, words_T2: torch.Tensor, *, streams: bool = False, guarded: bool = False
) -> Stepper:
    """Return the stepper that runs a network's steps in a way."""
    if way == "narrow":
        assert network.template is not None
        layers = layers_of(network.template)
        if layers is not None and NarrowTwin.fits(network, layers):
            return NarrowStepper(network, code, words_T2, layers, guarded=guarded)
    if way in ("narrow", "twin"):
        return TwinStepper(network, code, words_T2, guarded=guarded)
    if way == "inner":
        return InnerStepper(network, code, words_T2)
    if way == "vmap":
        return StackedStepper(network, code, words_T2)
    return LaneStepper(network, code, words_T2, streams=streams)


@attrs.frozen(eq=False)
class _Outcome:
    """What each step returned, ``[T, …]``, and what all of them left behind."""

    metrics: Sequence[Metrics]
    gradients: Sequence[Metrics]
    tensors: Metrics


@attrs.frozen(eq=False)
class _Stage:
    """Models to rehearse on, the numbers they start from, and the steppers made for them so far."""

    network: Network
    start: Metrics
    code: StepCode
    words_T2: torch.Tensor
    ways: dict[str, Stepper] = attrs.field(factory=dict)


Act = Callable[[Stepper, _Stage, int], tuple[Metrics, bool]]
"""Takes a numbered step; returns its metrics, and whether it gave gradients."""


class Rehearsal:
    """Choose, for each configuration of a step, the first way that agrees with single models."""

    def __init__(
        self,
        ways: Sequence[str],
        make_network: Callable[[torch.dtype], Network],
        make_code: Callable[[torch.dtype], StepCode],
        datasets: Mapping[str, Dataset],
        device: torch.device,
        dtype: torch.dtype,
        log: Callable[[str], None],
        *,
        short: bool = False,
    ) -> None:
        """``make_network`` builds models as the plugin makes them, at least two; ``make_code`` the code they run.

        ``short`` says that this code runs its products in bfloat16.
        """
        self._short = short
        self.ways, self._make_network, self._make_code = list(ways), make_network, make_code
        self._datasets, self._device, self._dtype, self._log = datasets, device, dtype, log
        # In double precision and with generic numbers, where the model admits them.
        exact = [(torch.float64, True), (torch.float64, False)] if ways and device.type != "mps" else []
        self._levels = [*exact, *([(dtype, False)] if (dtype, False) not in exact else [])]
        self._stages: dict[tuple[torch.dtype, bool], _Stage] = {}
        self._said: set[tuple[str, str]] = set()
        self.stateful = False
        """Whether a step changed a plain value of the model: its steps are then neither stacked nor captured."""

    def training(self, epoch: Pass, size: int, due: bool) -> str:
        """Return the way for training steps of a pass on batches of ``size`` examples."""
        dataset = self._datasets[epoch.dataset]

        def act(stepper: Stepper, stage: _Stage, position: int) -> tuple[Metrics, bool]:
            number = torch.zeros((), dtype=torch.int64, device=stage.network.device)
            index_TB = _spread(len(dataset), size, stage.network.lanes, position).to(number.device)
            return stepper.train(Step(epoch, dataset, due, number, number + position), gather(dataset, index_TB))

        label = f" of pass '{epoch.label}'" * bool(epoch.label)
        # Two steps: what the first one leaves behind shows in the second.
        return self._choose(f"training on {size} examples{label}{', due' * (due and epoch.observe_every > 1)}", act, 2)

    def evaluation(self, name: str, size: int) -> str:
        """Return the way for evaluations of ``size`` examples of a data set at once."""
        dataset = self._datasets[name]

        def act(stepper: Stepper, stage: _Stage, position: int) -> tuple[Metrics, bool]:
            index_B = _spread(len(dataset), size, 1, position)[0].to(stage.network.device)
            return dict(stepper.evaluate(dataset, gather(dataset, index_B))), False

        return self._choose(f"evaluation of {size} examples of '{name}'", act, 1)

    def _choose(self, what: str, act: Act, steps: int) -> str:
        if not self.ways and self._device.type != "cuda":
            return MODULES
        references = [self._reference(act, steps)]
        if (self._device.type == "cuda" or self._short) and references[0][0].network.dtype != self._dtype:
            stage = self._stage(self._dtype, True)  # kernels of single precision of their own
            references.append((stage, self._watched(stage, act, steps)))
        for way in self.ways:
            if self.stateful:
                break
            reason = ""
            for stage, reference in references:
                reason = reason or self._try(way, stage, reference, act, steps)
            if not reason:
                return way
            if (way, reason) not in self._said:
                self._said.add((way, reason))
                self._log(f"{TITLES[way]}: refused ({reason}), in {what}")
        return MODULES

    def _try(self, way: str, stage: _Stage, reference: _Outcome, act: Act, steps: int) -> str:
        """Return why a way does not do what single models do, or an empty string."""
        tolerance = EXACT if stage.network.dtype == torch.float64 else SINGLE
        tf32 = torch.get_float32_matmul_precision() != "highest"
        if stage.network.dtype != torch.float64 and (tf32 or self._short):
            tolerance = SHORT
        try:
            if way not in stage.ways:
                stage.ways[way] = make_way(way, stage.network, stage.code, stage.words_T2, guarded=True)
            return _disagreement(_outcome(stage, stage.ways[way], act, steps), reference, tolerance)
        except REFUSALS as error:
            stage.ways.pop(way, None)
            return (str(error).strip().splitlines() or [type(error).__name__])[0]

    def _reference(self, act: Act, steps: int) -> tuple[_Stage, _Outcome]:
        """Run the steps on single models, at the first level that the model admits."""
        for level in self._levels[:-1]:
            stage = self._stage(*level)
            try:
                outcome = self._watched(stage, act, steps)
            except REFUSALS:
                continue
            if all(tensor.isfinite().all() for tensors in outcome.metrics for tensor in tensors.values()):
                return stage, outcome
        stage = self._stage(*self._levels[-1])
        return stage, self._watched(stage, act, steps)  # an error of the plugin's own code is shown as it is

    def _stage(self, dtype: torch.dtype, generic: bool) -> _Stage:
        if (dtype, generic) not in self._stages:
            network = self._make_network(dtype)
            if generic:
                _make_generic(network)
            start = {name: tensor.clone() for name, tensor in _tensors(network).items()}
            words_T2 = key_words(range(1, network.lanes + 1), network.device)
            code = self._make_code(dtype)
            observe = code.observe_step and _showing(code.observe_step, " beside the step")
            shown = StepCode(_showing(code.train_step), observe, _showing(code.evaluate_step), code.functions)
            self._stages[dtype, generic] = _Stage(network, start, shown, words_T2)
        return self._stages[dtype, generic]

    def _watched(self, stage: _Stage, act: Act, steps: int) -> _Outcome:
        """Run steps on single models, and see whether they use or change what belongs to no trial."""
        model, functions = stage.network.models[0], stage.code.functions
        held = [(plain_state(model, tensors=False), plain_state(functions, tensors=False))]

        def watched(stepper: Stepper, stage: _Stage, position: int) -> tuple[Metrics, bool]:
            taken = act(stepper, stage, position)
            held.append((plain_state(model, tensors=False), plain_state(functions, tensors=False)))
            return taken

        before = generator_states(self._device)
        outcome = _outcome(stage, LaneStepper(stage.network, stage.code, stage.words_T2), watched, steps)
        refuse_draws(before, self._device)
        changed = [*_changed(*(state for state, _ in held)), *_changed(*(state for _, state in held[1:]))]
        if changed and not self.stateful:
            self.stateful = True
            self._log(
                f"'{changed[0]}' of the model or its code changes from step to step: the models run one by one, "
                "and a resume does not know it (a buffer would be kept)"
            )
        return outcome


def _showing(function: Callable[..., Any], where: str = "") -> Callable[..., Any]:
    """Let a step return what its model returns too: two counts may agree by chance, activations do not."""

    def shown(model: Any, *arguments: Any) -> Any:
        seen: list[torch.Tensor] = []

        def see(_model: Any, _arguments: Any, output: Any) -> None:
            parts = output if isinstance(output, tuple) else (output,)
            seen.extend(part.detach().clone() for part in parts if isinstance(part, torch.Tensor))

        handle = model.register_forward_hook(see)
        try:
            returned = function(model, *arguments)
        finally:
            handle.remove()
        outputs = {f"output {number} of the model{where}": output for number, output in enumerate(seen)}
        if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
            return returned[0], {**returned[1], **outputs}
        if isinstance(returned, Mapping):
            return {**returned, **outputs}
        return (returned, outputs) if isinstance(returned, torch.Tensor) else returned

    return shown


def generator_states(device: torch.device) -> list[bytes]:
    """Return the states of the global generators that a step must leave alone."""
    states = [torch.get_rng_state().numpy().tobytes(), repr(random.getstate()).encode()]
    _, key, *place = np.random.get_state()
    states += [np.asarray(key).tobytes(), repr(place).encode()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return states


def refuse_draws(before: Sequence[bytes], device: torch.device) -> None:
    """Raise UserError if a global generator has moved."""
    if list(before) != generator_states(device):
        raise UserError(
            "train_step: a step drew from a global generator (of torch, NumPy or Python), "
            "so its results would depend on its neighbours",
            hint="draw from the argument `rng` instead, for example rng.normal('noise', x.shape)",
        )


def _tensors(network: Network) -> Metrics:
    parameters = {f"parameter '{name}'": tensor for name, tensor in network.parameters.items()}
    return parameters | {f"buffer '{name}'": tensor for name, tensor in network.buffers.items()}


def _outcome(stage: _Stage, stepper: Stepper, act: Act, steps: int) -> _Outcome:
    network = stage.network
    for name, tensor in _tensors(network).items():
        tensor.copy_(stage.start[name])
    metrics, gradients = [], []
    for position in range(steps):
        network.gradients_TP.fill_(torch.nan)  # what a way forgets to write must not be taken for zero
        found, graded = act(stepper, stage, position)
        metrics.append({name: value.clone() for name, value in found.items()})
        gradients.append({name: network.gradients[name].clone() for name in network.trained} if graded else {})
    return _Outcome(metrics, gradients, {name: tensor.clone() for name, tensor in _tensors(network).items()})


def _make_generic(network: Network) -> None:
    """Change parameters and buffers so that no two trials and hardly two entries agree, each by up to a fifth."""
    generator = torch.Generator().manual_seed(0)
    for tensor in _tensors(network).values():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
            tensor.copy_(tensor * (0.8 + 0.4 * noise) if tensor.any() else 0.1 * noise)


def _spread(length: int, size: int, lanes: int, position: int) -> torch.Tensor:
    """Return indices ``[T, size]`` from all over a data set, others for each trial and step."""
    starts_T = torch.arange(lanes) + lanes * position
    return (starts_T[:, None] + torch.arange(size) * max(1, length // size)) % length


def _changed(*states: Mapping[str, str]) -> list[str]:
    """Return the paths of plain values that differ between states in a row.

    A place where a step keeps a tensor (or some, in a list) may be filled for the first time; it must then stay so.
    """
    earlier = states[0]
    changed = []
    for index, state in enumerate(states[1:]):
        for path in dict.fromkeys([*earlier, *state]):
            filled = index == 0 and (state.get(path) in ("tensor", "list", "tuple", "dict") or path.endswith("length"))
            if earlier.get(path) != state.get(path) and not filled:
                changed.append(path)
        earlier = state
    return changed


def _disagreement(found: _Outcome, reference: _Outcome, tolerance: tuple[float, float]) -> str:
    """Return what differs between two outcomes, or an empty string."""
    relative, noise = tolerance
    for own, expected in zip(found.metrics, reference.metrics, strict=True):
        if own.keys() != expected.keys():
            return "returns other metrics than the single model"
        for name, value in expected.items():
            # Where products are short, an example or two may change sides; the model's outputs are compared as well.
            counts = 2.0 if relative == SHORT[0] and not value.is_floating_point() else noise
            if reason := _difference(f"'{name}'", own[name], value, relative, counts):
                return reason
    for own, expected in zip(found.gradients, reference.gradients, strict=True):
        if own.keys() != expected.keys():
            return "gradients only here" if own else "no gradients"
        largest = max((float(value.abs().max()) for value in expected.values() if value.numel()), default=0.0)
        for name, value in expected.items():
            if reason := _difference(f"the gradient of '{name}'", own[name], value, relative, noise * largest):
                return reason
    for name, value in reference.tensors.items():
        if reason := _difference(name, found.tensors[name], value, relative, noise):
            return reason
    return ""


def _difference(what: str, found: torch.Tensor, expected: torch.Tensor, relative: float, noise: float) -> str:
    if found.shape != expected.shape:
        return f"{what} has shape {tuple(found.shape[1:])}, the single model's {tuple(expected.shape[1:])}"
    if not expected.numel():
        return ""
    a, b = (_numbers(tensor) for tensor in (found, expected))
    distance = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs()).nan_to_num(nan=torch.inf).amax(1)
    size = b.abs().nan_to_num(nan=0.0, posinf=0.0).amax(1)
    if (distance <= relative * size + noise).all():
        return ""
    return f"{what} differs from the single model's by {float((distance / size.clamp_min(1e-300)).max()):.0e}"


def _numbers(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor ``[T, …]`` as ``[T, N]`` in the widest type that its device has."""
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return real.to(torch.float32 if tensor.device.type == "mps" else torch.float64).reshape(len(tensor), -1)
