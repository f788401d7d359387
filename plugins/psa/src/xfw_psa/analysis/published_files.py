"""The two Markdown files of published results: a summary by network and mode, and all single trials."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from xfw import WrongInput

from xfw_psa.analysis.configurations import shape_of
from xfw_psa.config import MODES

__all__ = [
    "EMPTY",
    "FAMILY_TITLES",
    "INCOMPLETE",
    "NO_JOB",
    "Entry",
    "Summaries",
    "Trials",
    "read_summary",
    "read_trials",
    "write_summary",
    "write_trials",
]

NO_JOB, EMPTY, NOT_FOUND = "NO_JOB_FOUND", "EMPTY_RESULTS", "RESULTS_NOT_FOUND"
INCOMPLETE, CLIENT_ERROR = "FAILED_OR_INCOMPLETE", "CLIENT_ERROR"
STATUSES = (NO_JOB, EMPTY, NOT_FOUND, INCOMPLETE, CLIENT_ERROR)
"""What stands in the place of numbers that are missing."""

TITLE = "# Persistent Stochastic Ablation - {title} Results Summary"
FAMILY_TITLES: Mapping[str, str] = {"resmlp": "ResMLP", "simplemlp": "SimpleMLP"}
"""The families as titles and file names have them."""
ORDER = MODES
"""Both files list the modes in the order of the paper's tables."""

_TITLE = re.compile(r"#\s.*?\b(ResMLP|SimpleMLP)\b", re.IGNORECASE)
_SHAPE = re.compile(r"Results Shape \{?\s*([^{}]+?)\s*\}? Parameters \{?\s*([\d,]+)\s*\}?")
_NUMBERS = re.compile(
    r"Mean=(?P<mean>[\d.]+)%\s*\|\s*Std=(?P<sd>[\d.]+)%\s*\|\s*Min=(?P<minimum>[\d.]+)%"
    r"\s*\|\s*Max=(?P<maximum>[\d.]+)%\s*\(n=(?P<n>\d+)\)"
)
_BULLET = re.compile(r"\*\s*(\w+):\s*(.*\S)")
_ARCHITECTURE = re.compile(r"###\s*Architecture:\s*(.*\S)")
_RULE = re.compile(r"[|:\-\s]+")
"""The row of a table that sets the alignment; the published one lacks a bar."""
_PERCENT = re.compile(r"([\d.]+)\s*%?")


@attrs.frozen
class Entry:
    """The numbers of one network and mode, or the reason why there are none (``n`` is 0 then)."""

    n: int = 0
    mean: float = math.nan
    sd: float = math.nan
    minimum: float = math.nan
    maximum: float = math.nan
    status: str = ""


@attrs.frozen
class Summaries:
    """The content of a summary: cells by network and mode, the parameters by network."""

    family: str
    cells: Mapping[tuple[str, str], Entry]
    parameters: Mapping[str, int]


@attrs.frozen
class Trials:
    """The content of a list of trials: values by network and mode, NaN for a trial without a result."""

    family: str
    cells: Mapping[tuple[str, str], tuple[float, ...]]


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WrongInput(f"cannot read '{path}': {reason}") from error


def _family(lines: Sequence[str]) -> str:
    for line in lines:
        match = _TITLE.match(line)
        if match:
            return match[1].lower()
    return ""


def _name(text: str) -> str:
    shape = shape_of(text)
    return text if shape is None else shape.text


def _mode(text: str, where: str) -> str:
    mode = text.strip().lower()
    if mode not in MODES:
        raise WrongInput(f"{where}: found mode '{text.strip()}', expected one of {', '.join(MODES)}")
    return mode


def read_summary(path: str | Path) -> Summaries:
    """Return the content of a summary; raises ``WrongInput`` with file and line for what it cannot read."""
    lines = _lines(path)
    cells: dict[tuple[str, str], Entry] = {}
    parameters: dict[str, int] = {}
    name = ""
    for number, line in enumerate(lines, start=1):
        heading, bullet = _SHAPE.match(line.strip()), _BULLET.match(line.strip())
        if heading:
            name = _name(heading[1])
            parameters[name] = int(heading[2].replace(",", ""))
        elif bullet and name:
            where = f"{path}:{number}"
            cells[name, _mode(bullet[1], where)] = _entry(bullet[2], where)
    return Summaries(_family(lines), cells, parameters)


def _entry(text: str, where: str) -> Entry:
    match = _NUMBERS.fullmatch(text)
    if match:
        numbers = {name: float(found) for name, found in match.groupdict().items()}
        return Entry(**{**numbers, "n": int(numbers["n"])})  # type: ignore[arg-type]
    if text.startswith(STATUSES):
        return Entry(status=text)
    raise WrongInput(f"{where}: found '{text}', expected Mean=…% | Std=…% | Min=…% | Max=…% (n=…) or a status word")


def read_trials(path: str | Path) -> Trials:
    """Return the content of a list of trials; a cell ``N/A`` is missing for itself only."""
    lines = _lines(path)
    cells: dict[tuple[str, str], list[float]] = {}
    name, modes = "", list[str]()
    for number, line in enumerate(lines, start=1):
        where, text = f"{path}:{number}", line.strip()
        heading = _ARCHITECTURE.match(text)
        if heading:
            name, modes = _name(heading[1]), []
        elif not name or not text.startswith("|") or _RULE.fullmatch(text):
            continue
        elif not modes:
            modes = [_mode(each, where) for each in _split(text)[1:]]
        else:
            for mode, value in zip(modes, _row(text, len(modes), where), strict=True):
                cells.setdefault((name, mode), []).append(value)
    return Trials(_family(lines), {place: tuple(values) for place, values in cells.items()})


def _split(row: str) -> list[str]:
    return [part.strip() for part in row.strip().strip("|").split("|")]


def _row(text: str, modes: int, where: str) -> list[float]:
    _, *values = _split(text)
    if len(values) != modes:
        raise WrongInput(f"{where}: found {len(values)} values in a row, expected {modes}")
    return [_percent(value, where) for value in values]


def _percent(text: str, where: str) -> float:
    if text in ("N/A", "", "-"):
        return math.nan
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise WrongInput(f"{where}: found '{text}', expected a percentage such as 98.07% or N/A")
    return float(match[1])


def write_summary(content: Summaries, order: Sequence[str]) -> str:
    """Return the summary's text for these networks, in this order."""
    lines = [TITLE.format(title=FAMILY_TITLES[content.family]), "", "## Statistical Summary", ""]
    for name in order:
        lines.append(f"Results Shape {{{name}}} Parameters {{{content.parameters[name]}}}")
        lines += [f"* {mode.capitalize()}: {_text(content.cells.get((name, mode)))}" for mode in ORDER]
        lines.append("")
    return "\n".join(lines) + "\n"


def _text(entry: Entry | None) -> str:
    if entry is None:
        return NO_JOB
    if not entry.n:
        return entry.status or EMPTY
    spread = f"Mean={entry.mean:.2f}% | Std={entry.sd:.2f}% | Min={entry.minimum:.2f}% | Max={entry.maximum:.2f}%"
    return f"{spread} (n={entry.n})"


def write_trials(content: Trials, order: Sequence[str]) -> str:
    """Return the text of the list of trials for these networks, in this order."""
    lines = [TITLE.format(title=FAMILY_TITLES[content.family]), "", "## Raw Trial Data", ""]
    for name in order:
        lines += [f"### Architecture: {name}", "", *_table([content.cells.get((name, mode), ()) for mode in ORDER]), ""]
    return "\n".join(lines)


def _table(values: Sequence[Sequence[float]]) -> list[str]:
    rows = max(len(each) for each in values)
    if not any(math.isfinite(value) for each in values for value in each):
        return ["No successful trials exist for this architecture."]
    head = ["| " + " | ".join(("Trial", *(mode.capitalize() for mode in ORDER))) + " |"]
    rule = ["|" + "|".join([":-----:"] * (1 + len(ORDER))) + "|"]
    body = ["| " + " | ".join((str(row + 1), *(_shown(each, row) for each in values))) + " |" for row in range(rows)]
    return head + rule + body


def _shown(values: Sequence[float], row: int) -> str:
    known = row < len(values) and math.isfinite(values[row])
    return f"{values[row]:.2f}%" if known else "N/A"
