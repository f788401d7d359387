"""The README lists what there is: keys, presets, records, metrics, analyzers."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
from xfw_neuronal_decay.analysis import ANALYZERS
from xfw_neuronal_decay.config import PRESETS, Config
from xfw_neuronal_decay.quantities import METRICS
from xfw_neuronal_decay.records import ITERATION, declare

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Return the names in code of the first column of every table."""
    return [name for row in re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)]


def test_every_key_is_listed_with_its_sharing() -> None:
    text = section("Keys")
    assert first_cells(text) == [each.name for each in attrs.fields(Config)]
    shared = {each.name for each in attrs.fields(Config) if each.metadata["xfw"].per_trial}
    assert set(re.findall(r"^\| `(\w+)` \| [^|]* \| × \|", text, re.MULTILINE)) == shared


def test_presets_are_listed() -> None:
    numbers = [f"exp{number:02}" for number in range(1, 17)]
    assert list(PRESETS) == ["quick", "paper", *numbers]
    assert first_cells(section("Presets")) == ["quick", "paper", "exp01", "exp16"]


def test_records_are_listed() -> None:
    text = section("What a run stores")
    assert set(first_cells(text)) >= {"iteration", *(variable.name for variable in ITERATION.variables)}
    declared = declare(Config(profile=True))
    for name in (*(array.name for array in declared.arrays), *(v.name for v in declared.streams[1].variables)):
        assert f"`{name}`" in text or f"`{name.removesuffix('_device')}`" in text, name


def test_metrics_are_listed() -> None:
    listed = " ".join(first_cells(section("What a run stores")))
    for metric in METRICS:
        base = re.sub(r"(_s[123])$", "", metric.name)
        assert base in listed or re.sub(r"\d$", "1", base) in listed, metric.name


def test_analyzers_and_their_options_are_listed() -> None:
    names = first_cells(section("Analyzers"))
    assert names[:3] == [each.name for each in ANALYZERS]
    options = {field.name for each in ANALYZERS for field in attrs.fields(each.options)}  # type: ignore[arg-type]
    assert set(names[3:]) == options
