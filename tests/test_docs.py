"""The documentation does not lie: links lead somewhere, shown commands and options exist."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from xfw.cli.main import COMMANDS, cli

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/README.md")
    for path in REPOSITORY.glob(pattern)
    if ".venv" not in path.parts
)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown_commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every ``xfw`` command of a page, but not of those that are shown to fail."""
    text = page.read_text(encoding="utf-8")
    for block in FENCE.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        for line, following in itertools.pairwise([*lines, ""]):
            command = line.strip().removeprefix("$ ")
            if command.startswith("xfw ") and not following.startswith("error: "):
                yield shlex.split(command, comments=True)[1:]
    for command in re.findall(r"`(xfw [^`]+)`", FENCE.sub("", text)):
        yield shlex.split(command)[1:]


def title(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings make."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    missing = []
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            missing.append(f"{target}#{anchor}")
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_shown_commands_and_their_options_exist(page: Path) -> None:
    known = {name for section in COMMANDS.values() for name in section}
    for words in shown_commands(page):
        name = words[0] if words else ""
        if name.startswith("-"):
            continue
        assert name in known, f"xfw {' '.join(words)}"
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group) and len(words) > 1:
            command = command.commands[words[1]]
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        used = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
        assert used <= options, f"xfw {' '.join(words)}"
