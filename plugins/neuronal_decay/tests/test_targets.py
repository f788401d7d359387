"""The published numbers in targets.toml: complete, and reached by the three published seeds that are at hand."""

from __future__ import annotations

import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xfw.cli.main import invoke
from xfw_neuronal_decay.analysis.report import moments
from xfw_neuronal_decay.published import read_folder
from xfw_neuronal_decay.quantities import measures


@pytest.fixture(scope="module")
def targets() -> list[dict[str, Any]]:
    content = tomllib.loads((files("xfw_neuronal_decay") / "targets.toml").read_text(encoding="utf-8"))
    return [
        {**{key: value for key, value in group.items() if key != "target"}, **target}
        for group in content["group"]
        for target in group["target"]
    ]


def test_every_table_of_the_specification_is_there(targets: list[dict[str, Any]]) -> None:
    counted = Counter(target["tags"][0] for target in targets)
    assert counted == {
        "accuracy": 5 * 8,
        "gap": 2 * 8 + 2 * 7,
        "recovery": 8 + 7,
        "additional": 8 * 8,
        "spread": (5 + 2 + 8) * 8,
        "loss": 6 * 8,
        "curve": 2 * 32 + 8,
        "order": 14,
    }


def test_verify_takes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["verify", "neuronal_decay", "--results-dir", str(tmp_path)]) == 0
    assert "403 no data" in capsys.readouterr().out


def test_published_seeds_lie_within_the_tolerances(targets: list[dict[str, Any]], published: Path) -> None:
    """Three of the fifteen seeds behind the numbers: their means must lie within the tolerance for n = 3."""
    found = {
        sample.number: measures(sample.accuracies, sample.parameters.iterations)
        for sample in read_folder(published).samples
    }
    checked = 0
    for target in targets:
        if target.get("kind", "mean") != "mean" or "at" in target:
            continue
        own = moments(found[target["where"]["number"]][target["metric"]])
        given = target["tolerance"]
        width = max(given["floor"], given["factor"] * target["sd"] * np.sqrt(1 / 15 + 1 / own.n))
        assert abs(own.mean - target["value"]) <= width, target["name"]
        checked += 1
    assert checked == 40 + 30 + 64
