"""Turn nested dictionaries into configurations and back, reporting every wrong value with its path."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.errors import BaseValidationError, ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from xfw.config.keys import info_of
from xfw.config.schema import Key, convert, fields_of
from xfw.errors import Problem, WrongInput, did_you_mean

__all__ = ["flatten", "structure", "unstructure"]

T = TypeVar("T")


def structure(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return the configuration that nested values stand for; raise ``WrongInput`` with all problems."""
    try:
        return converter().structure(values, cls)
    except BaseValidationError as error:
        problems = list(problems_of(error, "$"))
    raise WrongInput("wrong configuration", problems)


def unstructure(config: Any) -> dict[str, Any]:
    """Return a configuration as nested dictionaries that TOML can hold; keys that are None are left out."""
    plain = without_none(converter().unstructure(config))
    assert isinstance(plain, dict)
    return plain


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as values by key path."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


@functools.cache
def converter() -> cattrs.Converter:
    """Return the cattrs converter of configurations: strict types, no extra keys, bounds and choices checked."""
    made = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    made.register_structure_hook_factory(attrs.has, lambda cls: structure_hook(cls, made))
    made.register_unstructure_hook_factory(attrs.has, lambda cls: make_dict_unstructure_fn(cls, made))
    made.register_unstructure_hook(tuple, list)
    return made


def structure_hook(cls: type, made: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """Return the function that structures one configuration class."""
    overrides = {
        field.name: override(struct_hook=value_hook(Key(field.name, field.type, info_of(field), field.default)))
        for field in fields_of(cls)
        if not attrs.has(field.type)  # type: ignore[arg-type]
    }
    build: Callable[[Any, Any], Any] = make_dict_structure_fn(
        cls,
        made,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        _cattrs_use_linecache=False,
        **overrides,  # type: ignore[arg-type]
    )

    def structure_class(values: Any, kind: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError(f"found {values!r}, expected a table of keys")
        return build(values, kind)

    return structure_class


def value_hook(key: Key) -> Callable[[Any, Any], Any]:
    """Return the function that structures the value of one key."""
    return lambda value, _: convert(key, value)


def without_none(value: Any) -> Any:
    """Return nested values without None, and tuples as lists."""
    if isinstance(value, Mapping):
        return {name: without_none(part) for name, part in value.items() if part is not None}
    return [without_none(part) for part in value] if isinstance(value, list | tuple) else value


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
