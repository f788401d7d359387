"""Optimizers, and schedulers, that ``train_step`` steps itself: one set for each trial, in the ordinary PyTorch way.

Whatever ``build_optimizer`` returned has the methods ``state_dict`` and ``load_state_dict``, or is a mapping or a
sequence of such objects. Its state is committed as tensors and one text of JSON for each trial, never pickled.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from xfw.errors import UserError

__all__ = ["Manual", "is_manual"]


def is_manual(found: Any) -> bool:
    """Say whether what ``build_optimizer`` returned is stepped by ``train_step``."""
    return bool(_parts(found)) and all(hasattr(part, "load_state_dict") for part in _parts(found).values())


def _parts(found: Any) -> dict[str, Any]:
    if isinstance(found, Mapping):
        return {str(name): part for name, part in found.items()}
    if isinstance(found, (tuple, list)):
        return {str(place): part for place, part in enumerate(found)}
    return {"": found}


class Manual:
    """The optimizers of all trials of a block; ``found`` holds for each trial what the plugin returned."""

    def __init__(self, found: Sequence[Any], device: torch.device) -> None:
        self.found, self._device = found, device
        self._parts = [_parts(own) for own in found]
        self.generation = 0
        """Grows whenever tensors of the state are replaced, so that no captured step goes on with the old ones."""

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

    def preserve(self) -> Callable[[], None]:
        """Copy the state; return the function that puts it back, into the same tensors."""
        kept = [{name: copy.deepcopy(part.state_dict()) for name, part in parts.items()} for parts in self._parts]

        def restore() -> None:
            for parts, states in zip(self._parts, kept, strict=True):
                for name, part in parts.items():
                    _put_back(part, states[name])

        return restore

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


def _put_back(part: Any, state: Any) -> None:
    """Put a copied state back: an optimizer's into the tensors that it has, so that their addresses stay."""
    if not isinstance(part, torch.optim.Optimizer):
        part.load_state_dict(copy.deepcopy(state))
        return
    parameters = [parameter for group in part.param_groups for parameter in group["params"]]
    for place, parameter in enumerate(parameters):
        if place in state["state"]:
            _refill(part.state[parameter], state["state"][place])
        else:
            part.state.pop(parameter, None)
    for group, old in zip(part.param_groups, state["param_groups"], strict=True):
        _refill(group, {name: value for name, value in old.items() if name != "params"} | {"params": group["params"]})


def _refill(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name in [name for name in target if name not in values]:
        del target[name]
    for name, value in values.items():
        if isinstance(value, torch.Tensor) and isinstance(target.get(name), torch.Tensor):
            target[name].copy_(value)
        else:
            target[name] = copy.deepcopy(value) if name != "params" else value
