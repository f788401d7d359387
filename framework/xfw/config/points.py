"""Read ``KEY=VALUE`` texts: one value, the points of a sweep, ranges, files of points, ``all``."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from xfw.config.keys import Key, Schema, bare, convert, is_list, read, schema_of, split_points, unknown_key
from xfw.config.structure import nested, structure
from xfw.errors import Problem, WrongInput, shortened
from xfw.manifest import frozen, show

__all__ = ["MOST_POINTS", "Points", "collect", "read_overrides", "read_text", "typed_points"]

MOST_POINTS = 10_000
"""Most points of one key, and most conditions of a run."""

LARGEST_FILE = 4 * 2**20
"""Most bytes of a file that people write: named runs, points, options."""

Points = dict[str, tuple[Any, ...]]
"""The canonical points of keys by path."""


def split_assignment(text: str) -> tuple[str, str]:
    """Return the two sides of ``key=value``; raise ``ValueError`` where there is no ``=``."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise ValueError(f"found {shortened(text)!r}, expected KEY=VALUE")
    return name.strip(), value


def read_overrides(
    assignments: Iterable[tuple[str, str]], schema: Schema, folder: Path, experiment: str
) -> tuple[Points, list[Problem]]:
    """Return the canonical points of every assigned key by path, and what was wrong with the others."""
    points: Points = {}
    problems: list[Problem] = []
    for name, text in assignments:
        key = schema.find(name)
        if key is None:
            problems.append(unknown_key(name, schema.names(), experiment))
        elif key.path in points:
            problems.append(Problem(f"$.{key.path}", "given twice", f"a sweep is -s {key.path}=VALUE,VALUE"))
        else:
            points[key.path], wrong = collect(key, text, folder)
            problems += wrong
    return points, problems


def read_options(cls: type, texts: Iterable[str], what: str) -> Any:
    """Return the options of a class from texts ``KEY=VALUE``, each with one value; raise ``WrongInput`` with all
    mistakes under the heading ``what``."""
    pairs, problems = [], []
    for text in texts:
        try:
            pairs.append(split_assignment(text))
        except ValueError as error:
            problems.append(Problem("$", str(error)))
    points, wrong = read_overrides(pairs, schema_of(cls), Path.cwd(), "")
    several = [
        Problem(f"$.{path}", f"found {len(values)} values, expected one")
        for path, values in points.items()
        if len(values) > 1
    ]
    if problems or wrong or several:
        raise WrongInput(what, [*problems, *wrong, *several])
    return structure(cls, nested({path: values[0] for path, values in points.items()}))


def collect(key: Key, text: str, folder: Path) -> tuple[tuple[Any, ...], list[Problem]]:
    """Return the canonical points of one key's text and the problems of the others."""
    try:
        texts = points_of(key, text, folder)
    except ValueError as error:
        return (), [Problem(f"$.{key.path}", str(error))]

    def conversion(part: str) -> Any:
        try:
            value = read(key.kind, part)
        except ValueError:
            raise ValueError(f"found {shortened(part)!r}, expected {key.expected()}") from None
        return convert(key, value, part)

    return _converted(key, texts, conversion)


def typed_points(key: Key, values: Sequence[Any]) -> tuple[tuple[Any, ...], list[Problem]]:
    """Return the canonical points of typed values (from a preset or a file) and the problems of the others."""
    return _converted(key, values, lambda value: convert(key, value))


def _converted(
    key: Key, values: Sequence[Any], conversion: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], list[Problem]]:
    if len(values) > MOST_POINTS:
        return (), [Problem(f"$.{key.path}", f"found {len(values):,} points, expected at most {MOST_POINTS:,}")]
    points: dict[Any, Any] = {}  # equal points are kept once
    problems = []
    for value in values:
        try:
            point = conversion(value)
        except ValueError as error:
            problems.append(Problem(f"$.{key.path}", str(error)))
        else:
            points.setdefault(frozen(point), point)
    return tuple(points.values()), problems


def points_of(key: Key, text: str, folder: Path) -> list[str]:
    """Return the texts of a key's points; raise ``ValueError`` for a bad range, file or empty point."""
    choices = key.info.choices
    if text.strip() == "all" and choices is not None and "all" not in choices:
        return list(map(show, choices))
    if text.startswith("@"):
        return file_points(folder / os.path.expanduser(text[1:]))  # noqa: PTH111 - Path's raises for unknown users
    parts = split_points(text)
    if len(parts) > 1 and "" in parts:
        raise ValueError(f"found {shortened(text)!r} with an empty point, expected values between the commas")
    if bare(key.kind) not in (int, float) or is_list(key.kind):
        return parts
    points: list[str] = []
    for part in parts:
        points += range_points(part, MOST_POINTS - len(points))
    return points


def read_text(path: Path) -> str:
    """Return the text of a file that people write; raise ``ValueError`` where it cannot be read or is too large."""
    try:
        # A pipe that nobody writes to would never end; that of a shell's <(...) does.
        if not stat.S_ISREG(path.stat().st_mode) and path.parent not in (Path("/dev/fd"), Path("/proc/self/fd")):
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"larger than {LARGEST_FILE // 2**20} MiB")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None


def file_points(path: Path) -> list[str]:
    """Return the points of a file, one a line; blank lines and lines that start with ``#`` are left out."""
    try:
        lines = map(str.strip, read_text(path).splitlines())
    except ValueError as error:
        raise ValueError(f"cannot read the points from {shortened(str(path))}: {error}") from None
    points = [line for line in lines if line and not line.startswith("#")]
    if not points:
        raise ValueError(f"{path} holds no point")
    return points


def range_points(text: str, most: int = MOST_POINTS) -> list[str]:
    """Return the points of ``a..b`` or ``a..b..step``, both ends included; any other text is one point.

    Raises ``ValueError`` where the step does not hit the last end, and at once where there are more than ``most``.
    """
    parts = text.strip().split("..")
    if len(parts) not in (2, 3) or not all(parts) or len(text) > 200:
        return [text]
    found = f"found {text!r}"
    try:
        first, last = Decimal(parts[0]), Decimal(parts[1])
        step = Decimal(parts[2]) if len(parts) == 3 else Decimal(1 if last >= first else -1)
        if not all(math.isfinite(float(number)) for number in (first, last, step)) or step == 0:
            raise ValueError(f"{found}, expected finite ends and a step that is not 0")
        count = (last - first) / step
    except InvalidOperation:
        raise ValueError(f"{found}, expected a range such as 1..10 or 1..10..3") from None
    except ArithmeticError:
        count = Decimal("inf")
    if count >= most:
        raise ValueError(f"{found} with more points than the {MOST_POINTS:,} that are allowed")
    if count < 0 or count != count.to_integral_value():
        raise ValueError(f"{found}, expected a step that leads from {first} to {last}, both ends included")
    return [str(first + step * place) for place in range(int(count) + 1)]
