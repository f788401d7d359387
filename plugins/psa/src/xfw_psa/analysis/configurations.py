"""The networks of the study: the lists that come with the package, lists of the user, and the design behind them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

import attrs
from xfw import Problem, WrongInput

from xfw_psa import architecture

__all__ = [
    "FORMULAS",
    "Line",
    "Listing",
    "Shape",
    "asymmetric",
    "lines_of",
    "listing",
    "match_width",
    "parameters",
    "published",
    "series",
    "shape_of",
]

FORMULAS = ("actual", "plain-mlp")
"""How parameters are counted: those of the network that is built, or (as the published tables) of the plain one."""

_LINE = re.compile(r"\s*(\d+)\s*\*\s*(\d+)\s*")
_NAME = re.compile(r"\[?\s*(\d+)\s*[*x]\s*(\d+)\s*\]?")


@attrs.frozen
class Shape:
    """A network of ``depth`` units of equal ``width``."""

    depth: int
    width: int

    @property
    def text(self) -> str:
        """Return the short form, such as ``18*18``."""
        return f"{self.depth}*{self.width}"

    @property
    def file_text(self) -> str:
        """Return the form for names of files and jobs, such as ``18x18``."""
        return f"{self.depth}x{self.width}"


@attrs.frozen
class Line:
    """One line of a list that is neither blank nor a comment; ``shape`` is None where it is malformed."""

    number: int
    text: str
    shape: Shape | None


@attrs.frozen
class Listing:
    """The networks of a list, each once and in the list's order, and what people should know about it."""

    shapes: tuple[Shape, ...]
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the networks in short form."""
        return tuple(shape.text for shape in self.shapes)


def shape_of(name: str) -> Shape | None:
    """Return the shape that ``L*W``, ``LxW`` or ``[L*W]`` names; None for any other network."""
    match = _NAME.fullmatch(name.strip())
    return _checked(match)


def _checked(match: re.Match[str] | None) -> Shape | None:
    if match is None or int(match[1]) < 1 or int(match[2]) < 1:
        return None
    return Shape(int(match[1]), int(match[2]))


def lines_of(text: str) -> list[Line]:
    """Return the lines of a list that name networks, or should."""
    numbered = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [Line(number, line, _checked(_LINE.fullmatch(line))) for number, line in numbered if _names(line)]


def _names(line: str) -> bool:
    return bool(line) and not line.startswith("#")


def parse(text: str, where: str) -> Listing:
    """Return the networks of a list; raise ``WrongInput`` with every malformed line of the file ``where``."""
    lines = lines_of(text)
    wrong = [line for line in lines if line.shape is None]
    if wrong:
        problems = [
            Problem(f"{where}:{line.number}", f"found '{line.text}', expected DEPTH*WIDTH, for example 18*18")
            for line in wrong
        ]
        raise WrongInput("wrong list of configurations", problems)
    return _once([(line, line.shape) for line in lines if line.shape is not None], where)


def _once(found: Iterable[tuple[Line, Shape]], where: str) -> Listing:
    first: dict[Shape, int] = {}
    warnings = []
    for line, shape in found:
        if shape in first:
            warnings.append(
                f"warning: {where}:{line.number}: {shape.text} stands in line {first[shape]} too; it is kept once"
            )
        first.setdefault(shape, line.number)
    return Listing(tuple(first), tuple(warnings))


def read_text(path: str | Path) -> str:
    """Return the text of a list; raises ``WrongInput`` with the path where it cannot be read."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WrongInput(f"cannot read '{path}': {reason}") from error


def listing(path: str | Path | None) -> Listing:
    """Return the networks of a file, one ``DEPTH*WIDTH`` a line; the 98 of the study where there is none."""
    return published() if path is None else parse(read_text(path), str(path))


def published() -> Listing:
    """Return the 98 networks of the study in the order of all tables."""
    return _packaged("configurations.txt")


def asymmetric(path: str | Path | None = None) -> frozenset[Shape]:
    """Return the networks without a partner of equal size: those of a file, or the 30 of the study."""
    found = _packaged("asymmetric.txt") if path is None else parse(read_text(path), str(path))
    return frozenset(found.shapes)


def packaged_text(name: str) -> str:
    """Return the text of a list that comes with the package."""
    return (resources.files("xfw_psa") / "lists" / name).read_text(encoding="utf-8")


def _packaged(name: str) -> Listing:
    return parse(packaged_text(name), name)


def series(shape: Shape) -> str:
    """Return the series of the design that a network belongs to; ``other`` for a network outside of it."""
    depth, width = shape.depth, shape.width
    if depth == width:
        return "large squares" if depth > 32 else "small squares"
    if depth in (1, 2, 4) and width > depth:
        return f"{depth}*W"
    if width in (1, 2, 4) and depth > width:
        return f"L*{width}"
    return "other"


def parameters(shape: Shape, formula: str, family: str) -> int:
    """Return the number of parameters by one of ``FORMULAS``."""
    stacks = (architecture.Stack(shape.depth, shape.width),)
    return architecture.parameter_count(stacks, "simplemlp" if formula == "plain-mlp" else family)


def match_width(count: int, depth: int) -> int:
    """Return the width nearest to that of a plain network with ``depth`` layers and ``count`` parameters.

    Solves (L-1) W^2 + (794 + L) W + 10 - P = 0 (specification, section 6); at least 1.
    """
    inputs, classes = architecture.INPUTS, architecture.CLASSES
    linear, constant = inputs + classes + depth, count - classes
    if depth == 1:
        return max(1, round(constant / linear))
    square = depth - 1
    root = math.sqrt(linear * linear + 4 * square * constant)
    return max(1, round((root - linear) / (2 * square)))


def in_order(names: Iterable[str], listed: Sequence[Shape]) -> list[str]:
    """Return names of networks in the order of a list, those outside of it last and as they came."""
    place = {shape.text: index for index, shape in enumerate(listed)}
    return sorted(names, key=lambda name: place.get(name, len(place)))
