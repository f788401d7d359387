"""List the keys of a configuration class, by path, and convert a value given for one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from xfw.config.keys import REQUIRED, KeyInfo, info_of
from xfw.config.values import accept, describe, is_optional, supported
from xfw.errors import Problem, did_you_mean
from xfw.manifest import show

__all__ = ["Key", "Schema", "aliases_of", "convert", "fields_of", "nested", "schema_of", "unknown_key"]


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


def fields_of(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    """Return the fields of a configuration class with their types resolved."""
    if not attrs.has(cls):
        raise TypeError(f"{cls.__name__} is no attrs class")
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(attrs.resolve_types(cls))
    return fields


def schema_of(cls: type) -> Schema:
    """Return the keys of a configuration class; raise ``TypeError`` where its author made a mistake."""
    keys = {key.path: key for key in walk(cls, "", None)}
    return Schema(keys=keys, aliases=aliases_of(keys.values()))


def walk(cls: type, prefix: str, defaults: Any) -> Iterator[Key]:
    """Yield the keys of a class and of the classes nested in it."""
    for field in fields_of(cls):
        path = f"{prefix}{field.name}"
        default = default_of(field) if defaults is None else getattr(defaults, field.name)
        if attrs.has(field.type):  # type: ignore[arg-type]
            yield from walk(field.type, f"{path}.", None if default is REQUIRED else default)
        else:
            yield checked(Key(path, field.type, info_of(field), default))


def default_of(field: attrs.Attribute[Any]) -> Any:
    """Return a field's default in canonical form, or ``REQUIRED``."""
    default = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = default.factory()  # type: ignore[union-attr]
    converter = info_of(field).converter
    return default if default in (REQUIRED, None) or converter is None else converter(default)


def checked(key: Key) -> Key:
    """Return a key whose declaration holds together."""
    if not supported(key.kind):
        raise TypeError(f"key '{key.path}': the type {key.kind} is not supported")
    if is_optional(key.kind) and key.default is not None:
        raise TypeError(f"key '{key.path}' may be None, so its default must be None")
    return key


def aliases_of(keys: Any) -> dict[str, str]:
    """Return path by alias; an alias of a nested key stands beside it."""
    found: dict[str, str] = {}
    for key in keys:
        parent = key.path.rpartition(".")[0]
        for alias in key.info.alias:
            found[f"{parent}.{alias}" if parent else alias] = key.path
    return found


def convert(key: Key, value: Any, written: str | None = None) -> Any:
    """Return the canonical form of a typed value; raise ``ValueError`` saying what was found and expected.

    ``written`` is the value as the user wrote it, for the message.
    """
    found = quoted(value) if written is None or isinstance(value, str) else written.strip()
    try:
        accepted = accept(key.kind, value)
    except ValueError:
        raise ValueError(f"found {found}, expected {key.expected()}") from None
    if accepted is None:
        return None
    if key.info.converter is not None:
        try:
            accepted = key.info.converter(accepted)
        except ValueError as error:
            raise ValueError(f"found {found}: {error}") from error
    if not permitted(key.info, accepted):
        raise ValueError(f"found {found}, expected {key.expected()}")
    return accepted


def quoted(value: Any) -> str:
    """Return a value for a message; text stands in quotes."""
    return repr(value) if isinstance(value, str) else show(value)


def permitted(info: KeyInfo, value: Any) -> bool:
    """Say whether a canonical value, or every item of a list, is within choices and bounds."""
    if isinstance(value, list | tuple):
        return all(permitted(info, item) for item in value)
    if info.choices is not None and value not in info.choices:
        return False
    return not isinstance(value, int | float) or isinstance(value, bool) or info.holds(value)


def unknown_key(name: str, known: Sequence[str], experiment: str) -> Problem:
    """Return the problem of a key that does not exist, with the nearest one that does."""
    where = f"   all keys: xfw config {experiment}" if experiment else ""
    return Problem(f"$.{name}", f"unknown key '{name}'", did_you_mean(name, known) + where)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by key path as nested dictionaries; values of None are left out."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        if value is None:
            continue
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = value
    return tree
