"""Optimizers, and schedulers, that ``train_step`` steps itself: one set for each trial, in the ordinary PyTorch way.

Whatever ``build_optimizer`` returned has the methods ``state_dict`` and ``load_state_dict``, or is a mapping or a
sequence of such objects. Its state is committed as tensors and one text of JSON for each trial, never pickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from xfw.errors import UserError

__all__ = ["Manual", "check_steps", "is_manual"]


def is_manual(found: Any) -> bool:
    """Say whether what ``build_optimizer`` returned is stepped by ``train_step``."""
    return bool(_parts(found)) and all(hasattr(part, "load_state_dict") for part in _parts(found).values())


def _parts(found: Any) -> dict[str, Any]:
    if isinstance(found, Mapping):
        return {str(name): part for name, part in found.items()}
    if isinstance(found, (tuple, list)):
        return {str(place): part for place, part in enumerate(found)}
    return {"": found}


def check_steps(found: Any, *, manual: bool) -> None:
    """Raise UserError where ``build_optimizer`` and ``train_step`` disagree on who steps the optimizer."""
    if manual and not is_manual(found):
        raise UserError(
            f"train_step names an optimizer, but build_optimizer returned a {type(found).__name__}",
            hint="return optimizers of torch.optim over model.parameters(), or leave the stepping to the core",
        )
    if not manual and not isinstance(found, torch.optim.Optimizer) and is_manual(found):
        raise UserError(
            "build_optimizer returned several optimizers, which train_step does not step",
            hint="let train_step name the argument `optimizers`, and step them there",
        )


class Manual:
    """The optimizers of all trials of a block, each over the parameters of its own model."""

    def __init__(
        self, models: Sequence[nn.Module], found: Sequence[Any], make: Callable[[int, nn.Module], Any]
    ) -> None:
        """``found`` is what the plugin returned for each model; ``make`` asks it for another one."""
        self._make = make
        self._found = {id(model): (model, own) for model, own in zip(models, found, strict=True)}
        self._parts = [_parts(own) for own in found]
        self.generation = 0
        """Grows whenever tensors of the state are replaced, so that no captured step goes on with the old ones."""

    def of(self, model: nn.Module) -> Any:
        """Return a model's optimizers; another model than those of the block gets some as its first trial has."""
        if id(model) not in self._found:
            self._found[id(model)] = (model, self._make(0, model))
        return self._found[id(model)][1]

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors of all states."""
        optimizers = [p for parts in self._parts for p in parts.values() if isinstance(p, torch.optim.Optimizer)]
        values = [value for part in optimizers for state in part.state.values() for value in state.values()]
        return [value for value in values if isinstance(value, torch.Tensor)]

    def saved(self) -> dict[str, torch.Tensor]:
        """Return the state of all trials as tensors by name; UserError where something else than data is in it."""
        saved: dict[str, torch.Tensor] = {}
        for lane, parts in enumerate(self._parts):
            tensors: list[torch.Tensor] = []
            plain = {name: _plain(part.state_dict(), tensors, name) for name, part in parts.items()}
            text = json.dumps(plain).encode()
            saved[f"{lane}/text"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            saved |= {f"{lane}/{place}": tensor.detach() for place, tensor in enumerate(tensors)}
        return saved

    def load(self, saved: Mapping[str, torch.Tensor]) -> None:
        """Put back what ``saved`` returned."""
        self.generation += 1
        for lane, parts in enumerate(self._parts):
            tensors = [saved[f"{lane}/{place}"] for place in range(sum(n.startswith(f"{lane}/") for n in saved) - 1)]
            for name, plain in json.loads(bytes(saved[f"{lane}/text"].numpy()).decode()).items():
                parts[name].load_state_dict(_rebuilt(plain, tensors))

    def reset(self, where_T: torch.Tensor | None = None) -> None:
        """Forget the state of the optimizers of the marked trials; waits for the device where a mask is given."""
        self.generation += 1
        marked = [True] * len(self._parts) if where_T is None else where_T.tolist()
        for parts, is_marked in zip(self._parts, marked, strict=True):
            for part in parts.values():
                if is_marked and isinstance(part, torch.optim.Optimizer):
                    part.state.clear()

    def capturable(self) -> bool:
        """Say whether a CUDA graph may hold the next step: all is set up, and nothing is kept on the host."""
        parts = [part for parts in self._parts for part in parts.values()]
        return all(
            isinstance(part, torch.optim.Optimizer)
            and part.state
            and all(group.get("capturable") for group in part.param_groups)
            for part in parts
        )


def _plain(value: Any, tensors: list[torch.Tensor], where: str) -> Any:
    """Return data as JSON: tensors as numbers into ``tensors``, mappings and sequences with their kind."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    if isinstance(value, Mapping):
        pairs = [[_plain(key, tensors, where), _plain(own, tensors, f"{where}.{key}")] for key, own in value.items()]
        return {"mapping": pairs}
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_plain(own, tensors, where) for own in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UserError(
        f"build_optimizer: the state '{where}' holds a {type(value).__name__}, which cannot be committed",
        hint="keep tensors, numbers, texts, lists and mappings of them",
    )


def _rebuilt(plain: Any, tensors: Sequence[torch.Tensor]) -> Any:
    if not isinstance(plain, dict):
        return plain
    ((kind, inner),) = plain.items()
    if kind == "tensor":
        return tensors[inner]
    if kind == "mapping":
        return {_rebuilt(key, tensors): _rebuilt(value, tensors) for key, value in inner}
    values = [_rebuilt(value, tensors) for value in inner]
    return tuple(values) if kind == "tuple" else values
