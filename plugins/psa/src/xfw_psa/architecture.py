"""The architecture grammar ``[COUNT*WIDTH, ...]``, and what follows from it without building a network."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Sequence

import attrs

__all__ = ["CLASSES", "INPUTS", "LINEAR", "LinearMap", "Stack", "canonical", "linear_maps", "parameter_count", "parse"]

INPUTS = 784
CLASSES = 10
LINEAR = "linear"
"""The name of the network without hidden units, which the grammar cannot write."""

DEEPEST, MAXIMUM = 10_000, 1_000_000
"""The most units of depth of one segment, and their greatest width."""

_ALLOWED = re.compile(r"[0-9*,\[\]\s]*")
_SEGMENT = re.compile(r"\s*(\d{1,19})\s*\*\s*(\d{1,19})\s*")


@attrs.frozen
class Stack:
    """``count`` units of depth of equal ``width``: residual blocks, or hidden layers."""

    count: int
    width: int


@attrs.frozen
class LinearMap:
    """One linear map in computing order: the module's name, and the sizes of its sides."""

    name: str
    outputs: int
    inputs: int

    @property
    def parameters(self) -> int:
        """Return the number of weights and biases."""
        return self.outputs * (self.inputs + 1)


def parse(text: str) -> tuple[Stack, ...]:
    """Return the stacks of an architecture string, adjacent equal widths merged; raises ``ValueError``."""
    stripped = text.strip()
    if stripped == LINEAR:
        return ()
    bracketed = stripped.startswith("[") and stripped.endswith("]")
    body = stripped[1:-1] if bracketed else stripped
    if not body.strip() or not _ALLOWED.fullmatch(body) or "[" in body or "]" in body:
        raise ValueError(_invalid(text))
    if not bracketed and "," in body:
        raise ValueError(_invalid(text))
    return merge(_segment(segment, text) for segment in body.split(","))


def _invalid(text: str) -> str:
    expected = f"[COUNT*WIDTH,...], for example [18*18] or [4*4,2*8], or {LINEAR}"
    return f"invalid architecture string '{text}': expected {expected}"


def _segment(segment: str, text: str) -> Stack:
    match = _SEGMENT.fullmatch(segment)
    if match is None:
        raise ValueError(f"malformed segment '{segment.strip()}' in '{text}': expected COUNT*WIDTH")
    count, width = int(match[1]), int(match[2])
    if not (1 <= count <= DEEPEST and 1 <= width <= MAXIMUM):
        raise ValueError(
            f"malformed segment '{segment.strip()}' in '{text}': "
            f"COUNT must be 1 to {DEEPEST:,}, and WIDTH 1 to {MAXIMUM:,}"
        )
    return Stack(count, width)


def merge(stacks: Iterable[Stack]) -> tuple[Stack, ...]:
    """Join adjacent stacks of equal width: ``[2*4,2*4]`` is the network ``[4*4]``."""
    groups = itertools.groupby(stacks, key=lambda stack: stack.width)
    return tuple(Stack(sum(stack.count for stack in group), width) for width, group in groups)


def from_widths(widths: Sequence[int]) -> tuple[Stack, ...]:
    """Return the stacks of a list of layer widths."""
    if any(width > MAXIMUM for width in widths):
        raise ValueError(f"hidden_layers: found a width of {max(widths):,}, expected at most {MAXIMUM:,}")
    return merge(Stack(1, width) for width in widths)


def canonical(stacks: Sequence[Stack]) -> str:
    """Return the string that identifies the network in stored results, such as ``[4*4,2*8]``."""
    if not stacks:
        return LINEAR
    return "[" + ",".join(f"{stack.count}*{stack.width}" for stack in stacks) + "]"


@functools.cache
def linear_maps(stacks: tuple[Stack, ...], family: str) -> tuple[LinearMap, ...]:
    """Return every linear map in computing order, named as in the published state files."""
    return tuple(_plain_maps(stacks) if family == "simplemlp" else _residual_maps(stacks))


def _plain_maps(stacks: Sequence[Stack]) -> list[LinearMap]:
    widths = [stack.width for stack in stacks for _ in range(stack.count)]
    sides = itertools.pairwise([INPUTS, *widths, CLASSES])
    return [LinearMap(f"layer_stack.{3 * index}", outputs, inputs) for index, (inputs, outputs) in enumerate(sides)]


def _residual_maps(stacks: Sequence[Stack]) -> list[LinearMap]:
    maps: list[LinearMap] = []
    position, current = 0, INPUTS
    for stack in stacks:
        if stack.width != current:
            maps.append(LinearMap(f"layer_stack.{position}", stack.width, current))
            position += 3
        for block in range(stack.count):
            inside = f"layer_stack.{position}.blocks.{block}.layers"
            maps += [LinearMap(f"{inside}.{layer}", stack.width, stack.width) for layer in (0, 3)]
        position += 1
        current = stack.width
    return [*maps, LinearMap(f"layer_stack.{position}", CLASSES, current)]


def parameter_count(stacks: tuple[Stack, ...], family: str) -> int:
    """Return the number of parameters of the network that is built."""
    return sum(each.parameters for each in linear_maps(stacks, family))
