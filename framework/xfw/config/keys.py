"""Declare the keys of a configuration class: value, help, unit, bounds, choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

__all__ = ["REQUIRED", "KeyInfo", "info_of", "key"]

REQUIRED = attrs.NOTHING
"""The default of a key that has none: it must be given by a preset, a file or the command line."""


@attrs.frozen
class KeyInfo:
    """What xfw knows of a key beside its name, type and default."""

    help: str
    unit: str = ""
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    choices: tuple[Any, ...] | None = None
    per_trial: bool = False
    alias: tuple[str, ...] = ()
    converter: Callable[[Any], Any] | None = None
    hidden: bool = False
    inherited: bool = True
    replaces_run: bool = False

    def bounds(self) -> str:
        """Return the permitted range as text, such as ``>= 0 and < 1``; empty where there is none."""
        pairs = ((">", self.gt), (">=", self.ge), ("<", self.lt), ("<=", self.le))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in pairs if bound is not None)

    def holds(self, value: float) -> bool:
        """Say whether a number lies within the bounds."""
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
    info = KeyInfo(
        help=help,
        unit=unit,
        **{"gt": gt, "ge": ge, "lt": lt, "le": le},
        choices=None if choices is None else tuple(choices),
        per_trial=per_trial,
        alias=tuple(alias),
        converter=converter,
        hidden=hidden,
        inherited=inherited,
        replaces_run=replaces_run,
    )
    return attrs.field(
        default=attrs.Factory(lambda: list(default)) if isinstance(default, list) else default,
        kw_only=True,
        converter=None if converter is None else attrs.converters.optional(converter),
        metadata={"xfw": info},
    )


def info_of(attribute: attrs.Attribute[Any]) -> KeyInfo:
    """Return what ``key`` said about a field; fields made otherwise have no help and no bounds."""
    info = attribute.metadata.get("xfw")
    return info if isinstance(info, KeyInfo) else KeyInfo(help="")
