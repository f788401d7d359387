"""Configurations as nested dictionaries and back, with every wrong value named by its path; their canonical text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError

from xfw.config.keys import Schema, convert, fields_of, schema_of, unknown_key
from xfw.errors import Problem, WrongInput, did_you_mean
from xfw.manifest import flatten, nested

__all__ = ["canonical", "config_hash", "flatten", "instance", "nested", "problems_of", "structure", "unstructure"]

T = TypeVar("T")


def structure(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return the configuration that nested values stand for; raise ``WrongInput`` with all problems."""
    schema = schema_of(cls)  # type: ignore[arg-type]
    flat = {path: key.default for path, key in schema.keys.items()}
    problems = list(_fill(cls, values, "", schema, flat))
    wrong = {problem.path for problem in problems}
    problems += [
        Problem(f"$.{key.path}", "missing, and it has no default")
        for key in schema.keys.values()
        if key.required and flat[key.path] is key.default and f"$.{key.path}" not in wrong
    ]
    if problems:
        raise WrongInput("wrong configuration", problems)
    return instance(cls, flat)


def _fill(cls: type, table: Mapping[str, Any], prefix: str, schema: Schema, flat: dict[str, Any]) -> Iterator[Problem]:
    """Put the values of a table into ``flat`` by key path; yield what is wrong with some of them."""
    fields = {field.name: field.type for field in fields_of(cls)}
    for name, kind in fields.items():
        path = f"{prefix}{name}"
        if name not in table:
            continue
        if not attrs.has(kind):  # type: ignore[arg-type]
            try:
                flat[path] = convert(schema.keys[path], table[name])
            except ValueError as error:
                yield Problem(f"$.{path}", str(error))
        elif isinstance(table[name], Mapping):
            yield from _fill(kind, table[name], f"{path}.", schema, flat)
        else:
            yield Problem(f"$.{path}", f"found {table[name]!r}, expected a table of keys")
    for name in sorted(set(table).difference(fields)):
        yield attrs.evolve(unknown_key(name, list(fields), ""), path=f"$.{prefix}{name}")


def instance(cls: type[T], flat: Mapping[str, Any], prefix: str = "") -> T:
    """Return the configuration of canonical values by key path, which must hold every key."""
    given: dict[str, Any] = {}
    for field in fields_of(cls):  # type: ignore[arg-type]
        path = f"{prefix}{field.name}"
        if attrs.has(field.type):  # type: ignore[arg-type]
            given[field.alias] = instance(field.type, flat, f"{path}.")  # type: ignore[index]
        else:
            value = flat[path]
            given[field.alias] = list(value) if isinstance(value, list) else value  # type: ignore[index]
    try:
        return cls(**given)
    except ValueError as error:
        raise WrongInput("wrong configuration", [Problem(f"$.{prefix}".rstrip("."), str(error))]) from error


def unstructure(config: Any) -> dict[str, Any]:
    """Return a configuration as nested dictionaries that TOML can hold; keys that are None are left out."""
    values = ((field.name, getattr(config, field.name)) for field in attrs.fields(type(config)))
    return {name: _plain(value) for name, value in values if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return unstructure(value) if attrs.has(type(value)) else value


def canonical(value: Any) -> str:
    """Return canonical JSON: keys sorted, no blanks, ASCII only; equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def config_hash(configs: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the conditions' configurations, in their order.

    The hash of a run of one condition is that of its configuration alone. The seed is not part of a
    configuration, so runs that differ in it only have equal hashes.
    """
    text = canonical(configs[0] if len(configs) == 1 else list(configs))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def problems_of(error: Exception, path: str) -> Iterator[Problem]:
    """Yield the problems inside the error tree that cattrs raises."""
    if isinstance(error, ClassValidationError):
        located, others = error.group_exceptions()
        for inner, note in located:
            yield from problems_of(inner, f"{path}.{note.name}")
        for other in others:
            yield from problems_of(other, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        for name in sorted(error.extra_fields):
            yield Problem(f"{path}.{name}", f"unknown key '{name}'", did_you_mean(name, known))
    elif isinstance(error, KeyError):
        yield Problem(path, "missing, and it has no default")
    else:
        yield Problem(path, str(error))
