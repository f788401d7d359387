"""The commands that repeat the study, one by one, and a shell script that runs them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import xfw

from xfw_psa.analysis.configurations import Line, Shape, lines_of, packaged_text, read_text
from xfw_psa.config import FAMILIES, MODES

if TYPE_CHECKING:
    from xfw.analysis.output import Output
    from xfw.store.results import Results

__all__ = ["ANALYZER", "commands", "script"]

PRESETS = {"simplemlp": "paper", "resmlp": "resmlp"}
OF_MODE = {"decay": "weight_decay=1e-4", "dropout": "dropout=0.1"}
"""The key that only one mode uses, as the published commands give it."""


@attrs.frozen
class Options:
    """Which networks, how often, and where the script goes."""

    config_file: str | None = xfw.key(None, help="list of networks; default: the 98 of the study")
    batched: bool = xfw.key(False, help="one command per network, with all modes at once")
    family: str = xfw.key("simplemlp", choices=FAMILIES, help="the family to train")
    meta_loops: int = xfw.key(100, ge=1, help="loops of every trial", unit="loops")
    trials: int = xfw.key(10, ge=1, help="trials of every network and mode")
    output: str | None = xfw.key(None, help="file for the script")


@attrs.frozen
class Command:
    """One command with the comment above it; ``words`` is empty for a line that names no network."""

    comment: str
    words: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return the command as one types it."""
        return shlex.join(self.words)


def commands(options: Options) -> list[Command]:
    """Return the commands in the order of the list; a malformed or repeated line becomes a comment."""
    text = read_text(options.config_file) if options.config_file else packaged_text("configurations.txt")
    lines = lines_of(text)
    first = {line.shape: line.number for line in reversed(lines)}
    return [command for line in lines for command in _of_line(line, first[line.shape], options)]


def _of_line(line: Line, first: int, options: Options) -> Iterator[Command]:
    if line.shape is None:
        yield Command(f"line {line.number} is no DEPTH*WIDTH: {line.text}")
        return
    if first < line.number:
        yield Command(f"line {line.number} repeats line {first}: {line.text}")
        return
    for mode in ("all",) if options.batched else MODES:
        yield Command(f"{line.shape.text}, {mode}", _words(line.shape, mode, options))


def _words(shape: Shape, mode: str, options: Options) -> tuple[str, ...]:
    own = OF_MODE.values() if mode == "all" else [OF_MODE[mode]] if mode in OF_MODE else []
    keys = [f"arch=[{shape.text}]", f"mode={mode}", *own, f"meta_loops={options.meta_loops}"]
    given = [word for key in keys for word in ("-s", key)]
    return ("xfw", "run", "psa", "--preset", PRESETS[options.family], *given, "--trials", str(options.trials))


def script(found: list[Command]) -> str:
    """Return a shell script that stops at the first failure; its arguments go to every command."""
    total = sum(bool(command.words) for command in found)
    lines = ["#!/usr/bin/env bash", f"# The study in {total} runs. Arguments go to every one of them, for example:"]
    lines += ["#   --data-dir DIR --device cuda --quiet", "set -e", ""]
    number = 0
    for command in found:
        lines.append(f"# {command.comment}")
        if command.words:
            number += 1
            lines.append(f"echo {shlex.quote(f'[{number}/{total}] {command.comment}')}")
            lines.append(f'{command.text} "$@"')
    return "\n".join(lines) + "\n"


def analyse(_: Results | None, options: Options, output: Output) -> None:
    """Print the commands, and write the script."""
    found = commands(options)
    if options.output != "-":
        for command in found:
            output.say(f"# {command.comment}")
            if command.words:
                output.say(command.text)
    path = output.document("reproduce_psa.sh", script(found), options.output)
    if path is not None:
        path.chmod(0o755)


ANALYZER = xfw.Analyzer(
    "reproduction-script",
    "the commands that repeat the study, and a shell script of them",
    analyse,
    options=Options,
    needs_run=False,
)
