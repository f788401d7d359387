"""The keys of a configuration class: how they are declared, what values they take, and how a value is written."""

from __future__ import annotations

import functools
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from xfw.errors import Problem, did_you_mean, shortened
from xfw.manifest import show

__all__ = ["REQUIRED", "Key", "KeyInfo", "Schema", "convert", "fields_of", "key", "schema_of", "unknown_key"]

REQUIRED = attrs.NOTHING
"""The default of a key that has none: it must be given by a preset, a file or the command line."""

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
PLURALS = {int: "whole numbers", float: "numbers", bool: "truth values", str: "texts"}
TRUTH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
WHOLE = re.compile(r"[+-]?\d+(_\d+)*")
MAXIMUM = 2**63
"""Whole numbers stay below this in size: TOML and HDF5 store 64 bits."""


@attrs.frozen
class KeyInfo:
    """What xfw knows of a key beside its name, type and default."""

    help: str
    unit: str = ""
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    choices: tuple[Any, ...] | None = attrs.field(default=None, converter=attrs.converters.optional(tuple))
    per_trial: bool = False
    alias: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    converter: Callable[[Any], Any] | None = None
    hidden: bool = False
    inherited: bool = True
    replaces_run: bool = False

    def bounds(self) -> str:
        """Return the permitted range as text, such as ``>= 0 and < 1``; empty where there is none."""
        pairs = ((">", self.gt), (">=", self.ge), ("<", self.lt), ("<=", self.le))
        return " and ".join(f"{sign} {bound:.15g}" for sign, bound in pairs if bound is not None)

    def permits(self, value: Any) -> bool:
        """Say whether a canonical value, or every item of a list, is within choices and bounds."""
        if isinstance(value, list | tuple):
            return all(self.permits(item) for item in value)
        if self.choices is not None and value not in self.choices:
            return False
        if isinstance(value, bool | str):
            return True
        return (
            (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )


def key(
    default: Any = REQUIRED,
    *,
    help: str,
    unit: str = "",
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    choices: Sequence[Any] | None = None,
    per_trial: bool = False,
    alias: Sequence[str] = (),
    converter: Callable[[Any], Any] | None = None,
    hidden: bool = False,
    inherited: bool = True,
    replaces_run: bool = False,
) -> Any:
    """Declare one key of a configuration class (an ``attrs`` field).

    Bounds apply to a number and to every number of a list. ``per_trial`` says that the key may differ
    between the trials of one block. ``converter`` maps a given value to the canonical one or raises
    ``ValueError`` with what was expected; it must leave a canonical value as it is, and never sees None.
    ``hidden`` keeps the key out of listings; ``inherited=False`` keeps ``--from RUN`` from taking it over.
    ``replaces_run`` marks an analyzer's option that names what to read in place of a run.
    A key of type ``X | None`` has the default None, since TOML has no word for it.
    """
    given = locals()
    return attrs.field(
        default=attrs.Factory(lambda: list(default)) if isinstance(default, list) else default,
        kw_only=True,
        converter=None if converter is None else attrs.converters.optional(converter),
        metadata={"xfw": KeyInfo(**{name: given[name] for name in given if name != "default"})},
    )


# --- types ------------------------------------------------------------------------------------------------


def is_optional(kind: Any) -> bool:
    """Say whether a type is ``X | None``."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind)


def bare(kind: Any) -> Any:
    """Return X for ``X | None``, and any other type as it is."""
    rest = [part for part in typing.get_args(kind) if part is not type(None)]
    return rest[0] if is_optional(kind) and len(rest) == 1 else kind


def is_list(kind: Any) -> bool:
    """Say whether a type is a list or a tuple (or optional ones)."""
    return typing.get_origin(bare(kind)) in (list, tuple)


def supported(kind: Any) -> bool:
    """Say whether a type can be a key: numbers, text, truth values, lists of them, or None instead."""
    if not is_list(kind):
        return bare(kind) in NAMES
    items = [item for item in typing.get_args(bare(kind)) if item is not Ellipsis]
    return bool(items) and all(map(supported, items))


def describe(kind: Any, info: KeyInfo) -> str:
    """Return what a key expects, in words: its type, choices, bounds and unit."""
    if info.choices is not None:
        expected = "one of " + ", ".join(map(show, info.choices))
    else:
        expected = " ".join(part for part in (describe_type(bare(kind)), info.bounds()) if part)
        expected += ", or none" if is_optional(kind) and bare(kind) is not str else ""
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
        if not isinstance(value, list | tuple):
            raise ValueError("not a list")
        return _items(inner, value, accept)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if inner is float and (whole or isinstance(value, float)) and abs(value) < math.inf:
        return float(value)
    if inner is int and whole and abs(value) < MAXIMUM:
        return value
    if inner in (bool, str) and isinstance(value, inner):
        return value
    raise ValueError("another type")


def read(kind: Any, text: str) -> Any:
    """Return the value of a text from the command line; raise ``ValueError`` where it is not of this type."""
    inner = bare(kind)
    if inner is str:
        return text
    text = text.strip()
    if is_optional(kind) and text.lower() == "none":
        return None
    if is_list(inner):
        if not (text.startswith("[") and text.endswith("]")):
            raise ValueError("no brackets")
        inside = text[1:-1].strip()
        return _items(inner, split_points(inside) if inside else [], read)
    if inner is bool:
        if text.lower() not in TRUTH:
            raise ValueError("not a truth value")
        return TRUTH[text.lower()]
    if inner is int and not WHOLE.fullmatch(text):
        raise ValueError("not a whole number")
    return accept(inner, inner(text))


def _items(kind: Any, parts: Sequence[Any], conversion: Callable[[Any, Any], Any]) -> Any:
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is list or arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(parts)
    if len(arguments) != len(parts):
        raise ValueError("another number of items")
    return typing.get_origin(kind)(conversion(item, part) for item, part in zip(arguments, parts, strict=True))


def split_points(text: str) -> list[str]:
    """Split a text at its commas outside brackets; a part in quotes is one point and loses its quotes."""
    points: list[str] = []
    depth = start = place = 0
    while place <= len(text):
        quoted = QUOTED.match(text, place) if place == start else None
        if quoted:
            points.append(quoted[1] if quoted[1] is not None else quoted[2])
            start = place = quoted.end()
            if not quoted[3]:
                return points
            continue
        stop = SPECIAL.search(text, place)
        place = len(text) if stop is None else stop.start()
        letter = text[place : place + 1]
        if letter in ("", ",") and (depth <= 0 or not letter):
            points.append(text[start:place].strip())
            start, depth = place + 1, 0
        depth += (letter in OPENING) - (letter in CLOSING) if letter else 0
        place += 1
    return points


OPENING, CLOSING = "([{", ")]}"
SPECIAL = re.compile(r"[\[\](){},]")
QUOTED = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)')\s*(,|$)""")


# --- the keys of a class ----------------------------------------------------------------------------------


@attrs.frozen
class Key:
    """One key of a configuration: its path, declared type and default, and what ``key`` said about it."""

    path: str
    kind: Any
    info: KeyInfo
    default: Any

    @property
    def required(self) -> bool:
        """Say whether the key has no default."""
        return self.default is REQUIRED

    def expected(self) -> str:
        """Return what the key expects, in words."""
        return describe(self.kind, self.info)


@attrs.frozen
class Schema:
    """All keys of a configuration class by path, in order, and the other names they answer to."""

    keys: Mapping[str, Key]
    aliases: Mapping[str, str]

    def find(self, name: str) -> Key | None:
        """Return the key of a path or alias; a dash counts as an underscore."""
        path = name.strip().replace("-", "_")
        return self.keys.get(self.aliases.get(path, path))

    def names(self) -> list[str]:
        """Return the paths a user may be shown."""
        return [key.path for key in self.keys.values() if not key.info.hidden]


@functools.cache
def fields_of(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    """Return the fields of a configuration class with their types resolved."""
    if not attrs.has(cls):
        raise TypeError(f"{cls.__name__} is not an attrs class")
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(attrs.resolve_types(cls))
    return fields


@functools.cache
def schema_of(cls: type) -> Schema:
    """Return the keys of a configuration class; raise ``TypeError`` where its author made a mistake."""
    keys = {key.path: key for key in _walk(cls, "", None)}
    aliases = {}  # an alias of a nested key stands beside it
    for key in keys.values():
        parent, dot, _ = key.path.rpartition(".")
        aliases.update({f"{parent}{dot}{alias}": key.path for alias in key.info.alias})
    return Schema(keys, aliases)


def _walk(cls: type, prefix: str, defaults: Any) -> Iterator[Key]:
    for field in fields_of(cls):
        path = f"{prefix}{field.name}"
        default = _default(field) if defaults is None else getattr(defaults, field.name)
        if attrs.has(field.type):  # type: ignore[arg-type]
            yield from _walk(field.type, f"{path}.", None if default is REQUIRED else default)
        elif not supported(field.type):
            raise TypeError(f"key '{path}': the type {field.type} is not supported")
        elif is_optional(field.type) and default is not None:
            raise TypeError(f"key '{path}' may be None, so its default must be None")
        else:
            yield Key(path, field.type, field.metadata.get("xfw") or KeyInfo(help=""), default)


def _default(field: attrs.Attribute[Any]) -> Any:
    default = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()  # type: ignore[union-attr]
    info = field.metadata.get("xfw")
    return default if info is None or info.converter is None or default in (REQUIRED, None) else info.converter(default)


def convert(key: Key, value: Any, written: str | None = None) -> Any:
    """Return the canonical form of a typed value; raise ``ValueError`` saying what was found and expected.

    ``written`` is the value as the user wrote it, for the message.
    """
    reason = f", expected {key.expected()}"
    try:
        accepted = accept(key.kind, value)
        if accepted is None:
            return None
        if key.info.converter is not None:
            reason = ""
            accepted = key.info.converter(accepted)
        if key.info.permits(accepted):
            return accepted
        reason = f", expected {key.expected()}"
    except ValueError as error:
        reason = reason or f": {shortened(str(error))}"
    text = repr(value) if isinstance(value, str) else show(value) if written is None else written.strip()
    raise ValueError(f"found {shortened(text)}{reason}")


def unknown_key(name: str, known: Sequence[str], experiment: str) -> Problem:
    """Return the problem of a key that does not exist, with the nearest one that does."""
    where = f"   all keys: xfw config {experiment}" if experiment else ""
    return Problem(f"$.{shortened(name)}", f"unknown key '{shortened(name)}'", did_you_mean(name, known) + where)
