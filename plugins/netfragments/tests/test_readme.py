"""The README lists the keys, presets, analyzers and metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from xfw.config.keys import schema_of
from xfw.plugins.registry import load_experiment

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]+)`")


def section(title: str) -> str:
    return re.split(r"^## ", TEXT.split(f"## {title}\n", 1)[1], flags=re.MULTILINE)[0]


def first_cells(title: str) -> list[list[str]]:
    rows = [line.split("|")[1:-1] for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def test_keys() -> None:
    documented = [CODE.findall(row[0])[0] for row in first_cells("Keys")]
    assert documented == list(schema_of(load_experiment("netfragments").config_class).keys)


def test_presets() -> None:
    documented = {name for row in first_cells("Presets") for name in CODE.findall(row[0])}
    assert documented == set(load_experiment("netfragments").presets())


def test_analyzers_and_their_options() -> None:
    documented = {CODE.findall(row[0])[0]: set(CODE.findall(row[1])) for row in first_cells("Tables and figures")}
    analyzers = load_experiment("netfragments").hooks.analyze()
    known = {
        each.name: {field.name for field in attrs.fields(each.options)} if each.options else set() for each in analyzers
    }
    assert documented == known


def test_metrics() -> None:
    documented = {name for row in first_cells("What a run stores") for name in CODE.findall(row[0])}
    assert documented == {metric.name for metric in load_experiment("netfragments").hooks.define_metrics()}
