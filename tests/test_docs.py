"""The documentation does not lie: links lead somewhere, shown commands and options exist."""

from __future__ import annotations

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
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)[^)]*\)")
FENCE = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown_commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every ``xfw`` command in the fenced blocks of a page."""
    for block in FENCE.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            text = line.strip().removeprefix("$ ")
            if text.startswith("xfw "):
                yield shlex.split(text, comments=True)[1:]


def title(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
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
