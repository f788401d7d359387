"""Every command that the documentation shows is executed, page by page, with few loops, in a scratch directory.

What a page shows as output must be in the real output, numbers and run ids apart; a command that it shows to fail
must fail. Words in capitals stand for values: RUN (the newest run), OTHER (the oldest one), DIR (a data directory).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import itertools
import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import pytest
from xfw.cli.main import invoke
from xfw.store.rundir import list_runs

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "docs" / "examples" / "noisy_digits"
PAGES = (
    "README.md",
    "docs/using.md",
    "docs/plugins.md",
    "docs/published-numbers.md",
    "docs/file-format.md",
    "plugins/psa/README.md",
    "plugins/wandb/README.md",
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)

DATA_DIR = os.environ.get("XFW_DATA_DIR", "")

NOT_EXECUTED = {
    "make": "makes a virtual environment and installs from the package index",
    "pip": "installs packages into the environment that runs the tests",
}
"""Other programs that the pages show, and why no test starts them."""

SHORTER = {name: ["-s", "epochs=1"] for name in ("noisy_digits", "my_paper")} | {"psa": ["-s", "meta_loops=1"]}
"""What is added to `xfw run` so that nothing trains for long; a page's own value stands, where it gives one."""


@attrs.frozen
class Shown:
    """One command of a page (its words), and the lines that are shown below it."""

    words: tuple[str, ...]
    output: tuple[str, ...]

    @property
    def fails(self) -> bool:
        return any(line.startswith("error: ") for line in self.output)


def blocks(page: str, *languages: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of the fenced blocks of a page."""
    for language, text in FENCE.findall((REPOSITORY / page).read_text(encoding="utf-8")):
        if not languages or language in languages:
            yield language, text


def shown(text: str) -> Iterator[Shown]:
    """Yield the commands of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *output = part.splitlines()
        yield Shown(tuple(shlex.split(command, comments=True)), tuple(output))


def filled(words: tuple[str, ...]) -> list[str]:
    """Return the words of a command with values in place of those in capitals."""
    runs = [run.id for run in list_runs(Path("results"))]
    values = {"DIR": DATA_DIR}
    if runs:
        values |= {"RUN": runs[-1], "OTHER": runs[0]}
    return [values.get(word, word) for word in words]


def needs_mnist(words: Sequence[str]) -> bool:
    """Tell whether a command trains on MNIST: psa does, unless it uses the preset of the digits."""
    return [*words[:2]] == ["run", "psa"] and "--preset" in words and "--dry-run" not in words


def shortened(words: list[str]) -> list[str]:
    """Return a command that trains little."""
    if words[0] != "run" or words[1] not in SHORTER or {"--dry-run", "--from"} & set(words):
        return words
    option, value = SHORTER[words[1]]
    mine = [] if any(word.startswith(value.partition("=")[0]) for word in words) else [option, value]
    if not needs_mnist(words):
        return [*words, *mine]
    place = [] if "--data-dir" in words else ["--data-dir", DATA_DIR]
    return [*words, *mine, *place, "--only", "trial=0"]


def executed(words: list[str]) -> tuple[int, str]:
    """Run a command in this process and return its exit code and everything it printed."""
    printed = io.StringIO()
    before, sys.argv = sys.argv, ["xfw", *words]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = invoke(shortened(words))
    finally:
        sys.argv = before
    return code, printed.getvalue()


def plain(line: str) -> str:
    """Return a line without what differs from run to run and from machine to machine."""
    line = re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "ID", line)
    line = re.sub(r"[-+]?\d[\d,.]*(e-?\d+)?", "#", line)
    line = re.sub(r"[─━┃│┏┓┗┛┡┩└┘┳┻╇┴┼ ]+", " ", line)
    return re.sub(r"\btrials\b", "trial", line).strip()


def wrong_lines(output: tuple[str, ...], printed: str) -> list[str]:
    """Return the shown lines that the command has not printed."""
    real = {plain(line) for line in printed.splitlines()}
    return [line for line in output if plain(line) and line.strip() != "…" and plain(line) not in real]


def check(command: Shown) -> None:
    """Execute a command and compare what it prints with what the page shows."""
    program, *words = command.words
    if words[:2] == ["install", "-e"] and Path(words[-1]).is_dir():
        installed(Path(words[-1]), Path("installed"))
        return
    if program != "xfw":
        assert program in NOT_EXECUTED, f"no test executes '{shlex.join(command.words)}'"
        return
    if (needs_mnist(words) or "DIR" in words) and not DATA_DIR:
        return  # said by test_commands_that_need_mnist_find_it
    code, printed = executed(filled(tuple(words)))
    text = f"$ {shlex.join(command.words)}\n{printed}"
    assert (code != 0) == command.fails, text
    assert wrong_lines(command.output, printed) == [], text


def installed(source: Path, folder: Path) -> Path:
    """Install a plugin into a folder of the search path, from what its pyproject.toml says."""
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(source / "src", folder, ignore=ignored, dirs_exist_ok=True)
    importlib.invalidate_caches()
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    summary = f"Summary: {project['description']}\n"
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{summary}", encoding="utf-8"
    )
    points = project["entry-points"]["xfw.experiments"]
    lines = ["[xfw.experiments]", *(f"{name} = {module}" for name, module in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of a page's commands: the repository's named runs, their lists, no data sets."""
    shutil.copy(REPOSITORY / "experiments.toml", tmp_path)
    for name in set(re.findall(r'"@([^"]+)"', (tmp_path / "experiments.toml").read_text(encoding="utf-8"))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_shown_commands_print_what_is_shown(page: str, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page in ("docs/plugins.md", "docs/published-numbers.md"):
        monkeypatch.syspath_prepend(str(installed(EXAMPLE, scratch / "installed")))
    parts = list(blocks(page))
    for (language, text), (following, output) in itertools.pairwise([*parts, ("", "")]):
        if language == "console":
            for command in shown(text):
                check(command)
        elif language == "python" and page == "docs/file-format.md":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(text, page, "exec"), {})
            assert following == "text", text
            assert wrong_lines(tuple(output.splitlines()), printed.getvalue()) == [], printed.getvalue()


def test_commands_that_need_mnist_find_it() -> None:
    if not DATA_DIR:
        pytest.skip("XFW_DATA_DIR is not set: commands on MNIST were left out above")
    assert (Path(DATA_DIR) / "MNIST").is_dir()


def example_tests() -> dict[str, Callable[..., None]]:
    """Return the example's own tests by name; the example must be installed."""
    spec = importlib.util.spec_from_file_location("example_tests", EXAMPLE / "tests" / "test_plugin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: each for name, each in vars(module).items() if name.startswith("test_")}


def test_the_tests_of_the_example_pass(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed(EXAMPLE, scratch / "installed")))
    found = example_tests()
    assert len(found) == 3
    for name, test in found.items():
        folder = scratch / name
        folder.mkdir()
        test(*[folder] * len(inspect.signature(test).parameters))


def test_the_first_result_takes_300_words() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## What it does")[0]
    assert len(FENCE.sub("", text).split()) <= 300


def test_every_make_target_that_is_shown_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = {*re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)}
    for page in (*PAGES, "docs/architecture.md", "CHANGELOG.md"):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:`|\$ )make ([a-z]+)", text)) <= targets, page
