"""Check, describe and read single values of a key's type: numbers, text, truth values and lists of them."""

from __future__ import annotations

import math
import re
import types
import typing
from typing import Any

from xfw.config.keys import KeyInfo
from xfw.manifest import show

__all__ = ["accept", "describe", "is_list", "is_numeric", "is_optional", "is_text", "read", "split_points"]

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
PLURALS = {int: "whole numbers", float: "numbers", bool: "truth values", str: "texts"}
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
OPENING, CLOSING = "([{", ")]}"
WHOLE = re.compile(r"[+-]?\d+(_\d+)*")
MAXIMUM = 2**63
"""Whole numbers stay below this in size: TOML and HDF5 store 64 bits."""


def is_optional(kind: Any) -> bool:
    """Say whether a type is ``X | None``."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind)


def bare(kind: Any) -> Any:
    """Return X for ``X | None``, and any other type as it is."""
    if not is_optional(kind):
        return kind
    rest = [part for part in typing.get_args(kind) if part is not type(None)]
    return rest[0] if len(rest) == 1 else kind


def is_list(kind: Any) -> bool:
    """Say whether a type is a list or a tuple (or optional ones)."""
    return typing.get_origin(bare(kind)) in (list, tuple)


def is_numeric(kind: Any) -> bool:
    """Say whether a type is a number (or an optional one)."""
    return bare(kind) in (int, float)


def is_text(kind: Any) -> bool:
    """Say whether a type is text (or optional text)."""
    return bare(kind) is str


def item_types(kind: Any, count: int) -> list[Any] | None:
    """Return the types of a list's ``count`` items; None where the type wants another number of them."""
    arguments = typing.get_args(bare(kind))
    if typing.get_origin(bare(kind)) is list or arguments[-1] is Ellipsis:
        return [arguments[0]] * count
    return list(arguments) if len(arguments) == count else None


def supported(kind: Any) -> bool:
    """Say whether a type can be a key: numbers, text, truth values, lists of them, or None instead."""
    inner = bare(kind)
    if typing.get_origin(inner) in (list, tuple):
        items = [item for item in typing.get_args(inner) if item is not Ellipsis]
        return bool(items) and all(supported(item) for item in items)
    return inner in NAMES


def describe(kind: Any, info: KeyInfo) -> str:
    """Return what a key expects, in words: its type, choices, bounds and unit."""
    if info.choices is not None:
        expected = "one of " + ", ".join(show(choice) for choice in info.choices)
    else:
        expected = " ".join(part for part in (describe_type(bare(kind)), info.bounds()) if part)
        expected += ", or none" if is_optional(kind) and not is_text(kind) else ""
    return f"{expected} ({info.unit})" if info.unit else expected


def describe_type(kind: Any) -> str:
    """Return a type in words."""
    inner = bare(kind)
    if not is_list(inner):
        words = NAMES.get(inner, str(inner))
    else:
        arguments = typing.get_args(inner)
        item = PLURALS.get(arguments[0], "values")
        fixed = typing.get_origin(inner) is tuple and arguments[-1] is not Ellipsis
        words = f"a list of {len(arguments)} {item}" if fixed else f"a list of {item} in brackets"
    return f"{words}, or none" if is_optional(kind) and inner is not str else words


def accept(kind: Any, value: Any) -> Any:
    """Return a typed value (as TOML gives it) in the form of ``kind``; raise ``ValueError`` for another type."""
    if value is None and is_optional(kind):
        return None
    inner = bare(kind)
    if is_list(inner):
        return accept_list(inner, value)
    if inner is float and isinstance(value, int | float) and not isinstance(value, bool):
        return finite(float(value))
    if inner is int and isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAXIMUM:
        return value
    if inner in (bool, str) and isinstance(value, inner):
        return value
    raise ValueError("another type")


def finite(number: float) -> float:
    """Return a finite number as it is; JSON and comparisons have no place for others."""
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def accept_list(kind: Any, value: Any) -> Any:
    """Return a list or tuple of accepted items."""
    if not isinstance(value, list | tuple):
        raise ValueError("no list")
    items = item_types(kind, len(value))
    if items is None:
        raise ValueError("another number of items")
    accepted = [accept(item, part) for item, part in zip(items, value, strict=True)]
    return accepted if typing.get_origin(kind) is list else tuple(accepted)


def read(kind: Any, text: str) -> Any:
    """Return the value of a text from the command line; raise ``ValueError`` where it is none of this type."""
    inner = bare(kind)
    if inner is str:
        return text
    text = text.strip()
    if is_optional(kind) and text.lower() == "none":
        return None
    if is_list(inner):
        return read_list(inner, text)
    if inner is bool:
        return read_truth(text)
    if inner is int and not WHOLE.fullmatch(text):
        raise ValueError("no whole number")
    return accept(inner, inner(text))


def read_truth(text: str) -> bool:
    """Return the truth value that a text stands for."""
    lower = text.lower()
    if lower not in TRUE + FALSE:
        raise ValueError("no truth value")
    return lower in TRUE


def read_list(kind: Any, text: str) -> Any:
    """Return the list that a bracketed text stands for."""
    if not (text.startswith("[") and text.endswith("]")):
        raise ValueError("no brackets")
    inside = text[1:-1].strip()
    parts = split_points(inside) if inside else []
    items = item_types(kind, len(parts))
    if items is None:
        raise ValueError("another number of items")
    return accept_list(kind, [read(item, part) for item, part in zip(items, parts, strict=True)])


def split_points(text: str) -> list[str]:
    """Split a text at its commas outside brackets; a part in quotes is one point and loses its quotes."""
    parts: list[str] = []
    rest: str | None = text
    while rest is not None:
        part, rest = next_point(rest)
        parts.append(part)
    return parts


def next_point(text: str) -> tuple[str, str | None]:
    """Return the first point of a text and what follows its comma (None: nothing)."""
    quoted = re.match(r"""\s*(?:"([^"]*)"|'([^']*)')\s*(,|$)""", text)
    if quoted:
        point = next(group for group in quoted.groups()[:2] if group is not None)
        return point, text[quoted.end() :] if quoted[3] else None
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in OPENING) - (letter in CLOSING)
        if letter == "," and depth <= 0:
            return text[:place].strip(), text[place + 1 :]
    return text.strip(), None
