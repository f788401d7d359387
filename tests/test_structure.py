"""The shape of the code (conventions, section 1): lengths, names, imports, and what the repository promises."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
CORE = REPOSITORY / "framework" / "xfw"
MODULES = {
    ".".join(path.relative_to(CORE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(CORE.rglob("*.py"))
}
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "misc"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and length of every function of a file, its decorators not counted."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{path.name}:{node.name}", node.end_lineno - node.lineno + 1


def imported(module: str) -> set[str]:
    """Return the modules of the core that a module imports when it is imported itself."""
    found: set[str] = set()
    for node in tree(MODULES[module]).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inner}
    return found.intersection(MODULES)


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
    for path in MODULES.values():
        if path.name == "__init__.py":
            kinds = {type(node) for node in tree(path).body}
            assert kinds <= {ast.Expr, ast.Import, ast.ImportFrom, ast.Assign}, path


def test_imports_go_in_no_circle() -> None:
    graph = {name: imported(name) - {name} for name in MODULES}
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
