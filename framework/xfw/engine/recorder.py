"""Collect records on the device and move them to the host in bulk: one transfer, however many variables.

Axes: T trial (lane) of the block; rows of a stream come first on the host.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch

from xfw.errors import UserError, did_you_mean
from xfw.experiment import Array, Records

__all__ = ["Recorder"]

Value = torch.Tensor | np.ndarray | Sequence[Any]
_Held = torch.Tensor | np.ndarray
_Final = np.ndarray | Sequence[np.ndarray]
"""One array ``[T, …]``, or one for each trial where their shapes differ."""


@attrs.frozen(eq=False)
class _Rows:
    """Rows of one stream, each variable as ``[rows, T, …]``."""

    stream: str
    values: Mapping[str, _Held]


class Recorder:
    """Keep the rows of a block's streams until a commit takes them."""

    def __init__(self, declared: Records, size: int, device: torch.device) -> None:
        self._streams = {stream.name: stream for stream in declared.streams}
        self._arrays = {array.name: array for array in declared.arrays}
        self.size, self._device = size, device
        self._pending: list[_Rows] = []
        self._host: dict[str, dict[str, list[np.ndarray]]] = {}
        self._finals: dict[str, _Final] = {}
        self._last = time.perf_counter()

    def record(self, stream: str, values: Mapping[str, Value]) -> None:
        """Add one row for all trials; tensors stay where they are."""
        if stream not in self._streams:
            raise UserError(f"record: unknown stream '{stream}'", hint=did_you_mean(stream, self._streams))
        types = {variable.name: variable.dtype for variable in self._streams[stream].variables}
        declared = set(types)
        row = {}
        for name, value in values.items():
            what = f"record: variable '{name}' of stream '{stream}'"
            row[name] = self._texts(what, value) if types.get(name) == "text" else _own(value)
            self._check(what, row[name].shape)
        if "wall_time" in declared:
            row.setdefault("wall_time", self._share_of_time())
        if set(row) != declared:
            raise self._wrong_row(stream, declared, set(row))
        self._pending.append(_Rows(stream, {name: value[None] for name, value in row.items()}))

    def _wrong_row(self, stream: str, declared: set[str], given: set[str]) -> UserError:
        missing, unknown = sorted(declared - given), sorted(given - declared)
        what = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"undeclared: {', '.join(unknown)}"] * bool(
            unknown
        )
        hint = "every row of a stream has all variables that the hook `declare_records` names, and no other"
        return UserError(f"record: stream '{stream}': {'; '.join(what)}", hint=hint)

    def rows(self, stream: str, values: Mapping[str, torch.Tensor]) -> None:
        """Add many rows of a step stream at once, each variable as ``[rows, T, …]``."""
        declared = [variable.name for variable in self._streams[stream].variables]
        self._pending.append(_Rows(stream, {name: values[name].detach().clone() for name in declared}))

    def array(self, name: str, values: Value) -> None:
        """Set a final array of all trials, ``[T, …]``; names with ``/`` belong to the declared group before it."""
        declared = self._arrays.get(name)
        is_text = declared is not None and declared.dtype == "text"
        host = self._texts(f"array '{name}'", values) if is_text else _to_numpy(values)
        self._check(f"array '{name}'", host.shape)
        self._finals[name] = host[: self.size].astype(_dtype(declared, host))  # a copy: it may change

    def ragged(self, name: str, values: Sequence[np.ndarray]) -> None:
        """Set a final array whose shape may differ between trials, one array per lane."""
        if len(values) < self.size:
            raise UserError(f"array '{name}' has {len(values)} values, expected one for each trial of the block")
        declared = self._arrays.get(name)
        own = [np.array(value) for value in values[: self.size]]
        self._finals[name] = [value.astype(_dtype(declared, value)) for value in own]

    def flush(self, *more: torch.Tensor) -> tuple[dict[str, dict[str, list[np.ndarray]]], list[np.ndarray]]:
        """Move pending rows, and ``more`` tensors with them, to the host.

        Returns the new rows by stream and variable, as pieces ``[rows, T, …]``, and the other tensors.
        """
        tensors = [v for held in self._pending for v in held.values.values() if isinstance(v, torch.Tensor)]
        arrays = _transfer([*tensors, *more], self._device)
        moved = iter(arrays[: len(tensors)])
        new: dict[str, dict[str, list[np.ndarray]]] = {}
        for held in self._pending:
            on_host: dict[str, np.ndarray] = {}
            for name, value in held.values.items():
                array = next(moved) if isinstance(value, torch.Tensor) else np.asarray(value)
                on_host[name] = array[:, : self.size]
            for variable in self._streams[held.stream].variables:
                typed = on_host[variable.name].astype(_declared(variable.dtype))
                for kept in (new, self._host):
                    kept.setdefault(held.stream, {}).setdefault(variable.name, []).append(typed)
        self._pending.clear()
        return new, arrays[len(tensors) :]

    def take(self) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, _Final]]:
        """Return and forget the records since the last call, ``(rows, T, …)``, and the final arrays."""
        self.flush()
        records = {
            stream: {name: np.concatenate(rows) for name, rows in kept.items()} for stream, kept in self._host.items()
        }
        arrays, self._finals, self._host = self._finals, {}, {}
        return records, arrays

    def _texts(self, what: str, values: Any) -> np.ndarray:
        """Return texts as an array of objects; one text stands for all trials."""
        array = np.full(self.size, values, object) if isinstance(values, str) else np.array(values, object)
        wrong = [value for value in array.flat if not isinstance(value, str)]
        if wrong:
            raise UserError(f"{what}: found {wrong[0]!r}, expected text")
        return array

    def _check(self, what: str, shape: Sequence[int]) -> None:
        if not shape or shape[0] < self.size:
            raise UserError(f"{what} has shape {tuple(shape)}, expected one entry for each trial of the block")

    def _share_of_time(self) -> np.ndarray:
        now = time.perf_counter()
        spent, self._last = now - self._last, now
        return np.full(self.size, spent / self.size)


def _own(value: Value) -> _Held:
    """Copy what an observer may change later."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else np.array(value)


def _to_numpy(value: Value) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _dtype(declared: Array | None, found: np.ndarray) -> np.dtype[Any]:
    return found.dtype if declared is None else _declared(declared.dtype)


def _declared(name: str) -> np.dtype[Any]:
    return np.dtype(object if name == "text" else name)


def _transfer(tensors: Sequence[torch.Tensor], device: torch.device) -> list[np.ndarray]:
    """Copy tensors of any types to the host in one transfer, packed as 64-bit words."""
    if device.type == "mps" or not tensors:  # mps has no 64-bit floats
        return [tensor.cpu().numpy() for tensor in tensors]
    words = []
    for tensor in tensors:
        if tensor.is_floating_point():
            words.append(tensor.to(torch.float64).reshape(-1).view(torch.int64))
        else:
            words.append(tensor.to(torch.int64).reshape(-1))
    packed = torch.cat(words).cpu()
    arrays = []
    for tensor, part in zip(tensors, torch.split(packed, [tensor.numel() for tensor in tensors]), strict=True):
        typed = part.view(torch.float64) if tensor.is_floating_point() else part
        arrays.append(typed.view(tensor.shape).to(tensor.dtype).numpy())
    return arrays
