"""Read ``key=value`` texts: one value, the points of a sweep, ranges, files of points, ``all``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from xfw.config.schema import Key, Schema, convert, unknown_key
from xfw.config.values import is_list, is_numeric, read, split_points
from xfw.errors import Problem
from xfw.manifest import show

__all__ = ["Assignment", "points_of", "read_overrides", "split_assignment", "typed_points"]

RANGE = re.compile(r"(?P<first>[^.\s]\S*?)\.\.(?P<last>\S*?[^.])(?:\.\.(?P<step>\S+))?")
LONGEST = 100_000
"""A range with more points than this is taken for a mistake."""

Assignment = tuple[str, str]
"""The two sides of ``key=value``."""


def split_assignment(text: str) -> Assignment:
    """Return the two sides of ``key=value``; raise ``ValueError`` where there is no ``=``."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise ValueError(f"found {text!r}, expected KEY=VALUE")
    return name.strip(), value


def read_overrides(
    assignments: Iterable[Assignment], schema: Schema, folder: Path, experiment: str
) -> tuple[dict[str, tuple[Any, ...]], list[Problem]]:
    """Return the canonical points of every assigned key by path, and what was wrong with the others."""
    points: dict[str, tuple[Any, ...]] = {}
    problems: list[Problem] = []
    for name, text in assignments:
        key = schema.find(name)
        if key is None:
            problems.append(unknown_key(name, schema.names(), experiment))
        elif key.path in points:
            problems.append(Problem(f"$.{key.path}", "given twice", f"a sweep is -s {key.path}=VALUE,VALUE"))
        else:
            points[key.path], found = collect(key, text, folder)
            problems += found
    return points, problems


def collect(key: Key, text: str, folder: Path) -> tuple[tuple[Any, ...], list[Problem]]:
    """Return the canonical points of one key's text and the problems of the others."""
    try:
        texts = points_of(key, text, folder)
    except ValueError as error:
        return (), [Problem(f"$.{key.path}", str(error))]
    return convert_each(key, texts, lambda part: convert(key, read_point(key, part), part))


def typed_points(key: Key, values: Sequence[Any]) -> tuple[tuple[Any, ...], list[Problem]]:
    """Return the canonical points of typed values (from a preset or a file) and the problems of the others."""
    return convert_each(key, values, lambda value: convert(key, value))


def convert_each(
    key: Key, values: Iterable[Any], conversion: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], list[Problem]]:
    """Convert the points of one key, gathering their problems; equal points are kept once."""
    points: list[Any] = []
    problems = []
    for value in values:
        try:
            point = conversion(value)
        except ValueError as error:
            problems.append(Problem(f"$.{key.path}", str(error)))
        else:
            if point not in points:
                points.append(point)
    return tuple(points), problems


def read_point(key: Key, text: str) -> Any:
    """Return the typed value of one point; raise ``ValueError`` saying what was found and expected."""
    try:
        return read(key.kind, text)
    except ValueError:
        raise ValueError(f"found {text!r}, expected {key.expected()}") from None


def points_of(key: Key, text: str, folder: Path) -> list[str]:
    """Return the texts of a key's points; raise ``ValueError`` for a bad range, file or empty point."""
    choices = key.info.choices
    if text.strip() == "all" and choices is not None and "all" not in choices:
        return [show(choice) for choice in choices]
    if text.startswith("@"):
        return file_points(folder / Path(text[1:]).expanduser())
    parts = split_points(text)
    if len(parts) > 1 and "" in parts:
        raise ValueError(f"found {text!r} with an empty point, expected values between the commas")
    if not is_numeric(key.kind) or is_list(key.kind):
        return parts
    return [point for part in parts for point in range_points(part)]


def file_points(path: Path) -> list[str]:
    """Return the points of a file, one a line; blank lines and lines that start with ``#`` are left out."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ValueError(f"cannot read the points from {path}: {reason}") from None
    points = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not points:
        raise ValueError(f"{path} holds no point")
    return points


def range_points(text: str) -> list[str]:
    """Return the points of ``a..b`` or ``a..b..step``, both ends included; any other text is one point."""
    match = RANGE.fullmatch(text.strip())
    if match is None:
        return [text]
    try:
        first, last = Decimal(match["first"]), Decimal(match["last"])
        step = Decimal(match["step"]) if match["step"] else Decimal(1 if last >= first else -1)
    except InvalidOperation:
        raise ValueError(f"found {text!r}, expected a range such as 1..10 or 1..10..3") from None
    return steps(text, first, last, step)


def steps(text: str, first: Decimal, last: Decimal, step: Decimal) -> list[str]:
    """Return the numbers from first to last; raise ``ValueError`` where the step does not hit the last."""
    if not all(number.is_finite() for number in (first, last, step)) or step == 0:
        raise ValueError(f"found {text!r}, expected finite ends and a step that is not 0")
    count = (last - first) / step
    if count < 0 or count != count.to_integral_value():
        raise ValueError(f"found {text!r}, expected a step that leads from {first} to {last}, both ends included")
    if count >= LONGEST:
        raise ValueError(f"found {text!r} with {int(count) + 1} points, expected at most {LONGEST}")
    return [str(first + step * place) for place in range(int(count) + 1)]
