"""Units: what is accepted is what UDUNITS and pint read alike; the rest is refused with what to write."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import xfw
from xfw.errors import WrongInput
from xfw.experiment import is_unit
from xfw.plugins.discovery import discover
from xfw.plugins.registry import load_experiment

GOOD = [
    "1",
    "%",
    "percent",
    "s",
    "ms",
    "µs",
    "min",
    "h",
    "m/s",
    "1/s",
    "J s",
    "kg*m^2/s^2",
    "W/m^2",
    "s^-1",
    "rad",
    "bit",
]
BAD = ["nat", "units", "images", "loops", "epochs since start", "days since 2000-01-01", "pp", "", " s", "S s-", "10 s",
       "seconds", "m2", "m s-1", "loss", "steps", "px", "s/", "1/1", "$x$"]  # fmt: skip


@pytest.mark.parametrize("unit", GOOD)
def test_units_that_readers_understand_are_accepted(unit: str) -> None:
    assert is_unit(unit)
    assert xfw.Variable("x", "float64", "x", unit).unit == unit


@pytest.mark.parametrize("unit", BAD)
@pytest.mark.parametrize("declare", [
    lambda unit: xfw.Variable("speed", "float64", "x", unit),
    lambda unit: xfw.Array("speed", "float64", "x", unit),
    lambda unit: xfw.Metric("speed", "x", unit, lambda results: results.array("speed")),
])  # fmt: skip
def test_other_units_are_refused_where_they_are_declared(unit: str, declare: Any) -> None:
    with pytest.raises(WrongInput, match=re.escape(f"unit '{unit}' of ")) as error:
        declare(unit)
    assert "'speed'" in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(("unit", "hint"), [("seconds", "write 's'"), ("pp", "write '%'"), ("images", "long_name")])
def test_the_message_says_what_to_write(unit: str, hint: str) -> None:
    with pytest.raises(WrongInput, match=hint):
        xfw.Variable("x", "float64", "x", unit)


def shipped() -> set[str]:
    """Return all units that the installed experiments declare, with every preset."""
    found: set[str] = set()
    for info in discover():
        if info.kind != "experiment":
            continue
        experiment = load_experiment(info.name)
        records = experiment.hooks.declare_records(config=experiment.config_class())
        found |= {variable.unit for stream in records.streams for variable in stream.variables}
        found |= {array.unit for array in records.arrays}
        found |= {metric.unit for metric in experiment.hooks.define_metrics() or ()}
    return found


def test_pint_reads_them_all() -> None:
    pint = pytest.importorskip("pint")
    registry = pint.UnitRegistry()
    for unit in {*GOOD, *shipped()} - {"1"}:
        registry.parse_units(unit)


@pytest.mark.skipif(shutil.which("udunits2") is None, reason="udunits2 is not installed (Debian: udunits-bin)")
def test_udunits_reads_them_all() -> None:
    for unit in {*GOOD, *shipped()} - {"1/s"}:  # the command takes what begins with a number for an amount
        done = subprocess.run(["udunits2", "-H", unit, "-W", ""], capture_output=True, text=True, check=False)
        assert "Don't recognize" not in done.stdout + done.stderr, unit
