"""The shape of the code (conventions, section 1): lengths, names, imports, and what the repository promises."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
CORE = REPOSITORY / "framework" / "xfw"


def modules_of(source: Path) -> dict[str, Path]:
    """Return the files below a source folder by the names they are imported under."""
    return {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(source.rglob("*.py"))
    }


MODULES = {name: path for name, path in modules_of(CORE.parent).items() if name.split(".")[0] == "xfw"}
FLOORS = (
    ("errors", "schedules", "seeds", "terminal"),
    ("manifest",),
    ("experiment",),
    ("config", "data"),
    ("store",),
    ("engine",),
    ("plan",),
    ("analysis",),
    ("tracking",),
    ("hookspecs",),
    ("plugins",),
    ("process",),
    ("block",),
    ("xfw",),
    ("testing",),
    ("cli",),
)
"""The rooms of the core from the ground up: a room imports from lower floors only."""

BACK_ARROWS = {
    "xfw.experiment -> xfw.analysis.output",
    "xfw.experiment -> xfw.store.results",
}
"""Arrows that still point up. The list only shrinks."""

FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "misc"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and length of every function of a file, its decorators not counted."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{path.name}:{node.name}", node.end_lineno - node.lineno + 1


def imported(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """Return the modules that a file imports, those for type checkers and those inside functions included."""
    named: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= {name if name in modules else node.module for name in inner}
    return named.intersection(modules) - {name for name in modules if modules[name] == path}


def room(module: str) -> str:
    """Return the package of the core, or the single file of its ground floor, that a module belongs to."""
    return ([*module.split("."), module])[1]


def test_files_stay_short() -> None:
    assert [name for name, path in MODULES.items() if len(path.read_text().splitlines()) > 450] == []


def test_functions_stay_short() -> None:
    lengths = dict(found for path in MODULES.values() for found in functions(path))
    long = {name: length for name, length in lengths.items() if length > 45}
    assert long == {}
    assert statistics.median(lengths.values()) < 10


def test_modules_are_named_after_what_they_are_about() -> None:
    assert [name for name in MODULES if FORBIDDEN.intersection(name.split("."))] == []


def test_packages_only_reexport() -> None:
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            kinds = {type(node) for node in tree(path).body}
            lazy = {ast.If, ast.FunctionDef} if name == "xfw" else set()  # heavy types are looked up when asked for
            assert kinds <= {ast.Expr, ast.Import, ast.ImportFrom, ast.Assign} | lazy, path


def test_imports_of_the_core_run_one_way() -> None:
    above = {name: floor for floor, rooms in enumerate(FLOORS) for name in rooms}
    arrows = {(name, other) for name, path in MODULES.items() for other in imported(path, MODULES)}
    assert {room(name) for name in MODULES} <= set(above), "a new room needs its place in FLOORS"
    back = {
        f"{name} -> {other}"
        for name, other in arrows
        if room(name) != room(other) and above[room(name)] <= above[room(other)]
    }
    assert back - BACK_ARROWS == set()
    assert BACK_ARROWS - back == set(), "these arrows are gone: take them off the list"


def test_the_floors_are_documented() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (.*) \|$", text.split("## Who may import whom")[1], re.MULTILINE)
    assert [tuple(re.findall(r"`(\w+)`", row)) for row in reversed(rows)] == list(FLOORS)


@pytest.mark.parametrize("name", ["xfw", *sorted(path.name for path in (REPOSITORY / "plugins").iterdir())])
def test_imports_go_in_no_circle(name: str) -> None:
    modules = MODULES if name == "xfw" else modules_of(REPOSITORY / "plugins" / name / "src")
    graph = {
        module: {other for other in imported(path, modules) if f"{module} -> {other}" not in BACK_ARROWS}
        for module, path in modules.items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", ["constraints.txt", "Makefile", "pyproject.toml", ".ci/run"])
def test_no_registry_address_is_committed(name: str) -> None:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)


def test_constraints_pin_exact_versions() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"#.*|[a-z0-9-]+==[0-9.]+", line) for line in lines)


def test_the_ci_script_can_be_started_and_calls_make() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    assert "make test" in script.read_text(encoding="utf-8")


def test_every_make_target_is_listed_by_help() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    declared = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert declared is not None
    assert set(declared[1].split()) == set(re.findall(r"^([a-z]+):.*## ", text, re.MULTILINE))
