"""The file of published numbers: its form, its mistakes, and that every installed experiment ships a right one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import xfw
from xfw.analysis.matching import published
from xfw.analysis.targets import KINDS, Suite, Target, Targets, Tolerance, read_targets, targets_text
from xfw.analysis.verification import read_published
from xfw.errors import UserError, WrongInput
from xfw.experiment import Experiment
from xfw.plugins.discovery import discover
from xfw.plugins.registry import load_experiment
from xfw.testing.plugins import make_experiment


@attrs.frozen
class Net:
    mode: str = xfw.key("none", choices=("none", "output"), help="mode")


@attrs.frozen
class Config:
    lr: float = xfw.key(0.1, gt=0, help="learning rate")
    net: Net = attrs.field(factory=Net)


def records(config: Config) -> xfw.Records:
    variables = (xfw.Variable("noise", "float64", "noise"), xfw.Variable("recall", "float64", "recall"))
    return xfw.Records((xfw.Stream("grid", "point", variables),))


def experiment() -> Experiment:
    def nothing(results: Any) -> np.ndarray:
        raise NotImplementedError

    metrics = (xfw.Metric("peak", "peak", "%", nothing), xfw.Metric("recall", "recall", "1", nothing, series="grid"))
    presets = {"paper": xfw.Preset({}, help="paper"), "levels": xfw.Preset({"lr": "0.1,0.2"}, help="two")}
    return make_experiment(
        Config, define_metrics=lambda: metrics, define_presets=lambda: presets, declare_records=records
    )


def read(text: str) -> Targets:
    return read_targets(f"schema = 1\n{text}", "demo")


def target(**keys: Any) -> Target:
    (found,) = read("[[target]]\n" + "\n".join(f"{name} = {value}" for name, value in keys.items())).targets
    return found


def mistakes(text: str) -> list[str]:
    """Return path and message of every mistake of a file, of form or of meaning."""
    try:
        published(experiment(), read(text))
    except WrongInput as error:
        return [f"{each.path}: {each.message}" for each in error.problems]
    return []


MEAN = 'name = "a"\nmetric = "peak"\nvalue = 1\ntolerance = { absolute = 0.1 }\n'


def test_defaults_groups_and_targets_are_laid_over_each_other() -> None:
    found = read(
        """
        [defaults]
        where = { lr = 0.1, "net.mode" = "none" }
        source = "Table 1"
        tolerance = { absolute = 1.0 }
        [[target]]
        name = "plain"
        metric = "peak"
        value = 3
        [[group]]
        source = "Table 2"
        tags = ["cells"]
        [[group.target]]
        name = "grouped"
        metric = "peak"
        value = 4.0
        where = { lr = 0.2 }
        tolerance = { relative = 0.1 }
        """
    )
    plain, grouped = found.targets
    assert (plain.source, plain.value, plain.where) == ("Table 1", 3.0, {"lr": 0.1, "net.mode": "none"})
    assert (grouped.source, grouped.tags, grouped.where) == ("Table 2", ["cells"], {"lr": 0.2, "net.mode": "none"})
    assert grouped.tolerance is not None
    assert (grouped.tolerance.absolute, grouped.tolerance.relative) == (None, 0.1)
    assert found.places == {"plain": "$.target[0]", "grouped": "$.group[0].target[0]"}


def test_defaults_that_a_kind_does_not_know_are_left_out_of_it() -> None:
    text = '[defaults]\nddof = 0\ntolerance = { absolute = 1.0 }\n[[target]]\nname = "o"\nmetric = "peak"\n'
    (found,) = read(f'{text}kind = "order"\nwheres = [{{ lr = 1.0 }}, {{ lr = 2.0 }}]').targets
    assert found.tolerance is None


def test_all_mistakes_of_form_are_reported_together_with_their_paths() -> None:
    text = """
        extra = 1
        [defaults]
        sourc = "x"
        [[target]]
        name = "a"
        metric = "peak"
        valeu = 3
        [[target]]
        name = "b"
        metric = "peak"
        kind = "means"
        [[target]]
        name = "c"
        metric = "peak"
        kind = "range"
        [[target]]
        name = "a"
        metric = "peak"
        kind = "exact"
        value = "high"
        [[target]]
        name = "d"
        metric = "peak"
        value = 1
        tolerance = { factor = 3.0 }
        [[target]]
        name = "e"
        metric = "peak"
        value = 1
        alpha = 0.5
        tolerance = { absolute = 1, relative = 2 }
        [[suite]]
        name = "cells"
        share = 0.95
        tags = ["cell"]
        """
    assert mistakes(text) == [
        "$.extra: unknown key 'extra'",
        "$.defaults.sourc: unknown key 'sourc'",
        "$.target[0].valeu: unknown key 'valeu'",
        "$.target[1].kind: unknown kind 'means'",
        "$.target[2]: a target of kind 'range' needs low or high",
        "$.target[3].value: found 'high', expected a number",
        "$.target[4].sd: missing, its tolerance needs it",
        "$.target[4].n: missing, its tolerance needs it",
        "$.target[5].alpha: is not used by kind 'mean'",
        "$.target[5].tolerance: expected one of absolute, relative, or factor (with floor)",
        "$.suite[0]: no target belongs to suite 'cells'",
    ]


def test_two_targets_of_one_name_are_a_mistake() -> None:
    assert mistakes(f"[[target]]\n{MEAN}[[target]]\n{MEAN}") == ["$.target[1].name: 'a' is the name of $.target[0] too"]


def test_another_schema_is_a_mistake() -> None:
    with pytest.raises(WrongInput, match=r"\$\.schema: found 2, expected 1"):
        read_targets("schema = 2", "demo")


def test_a_text_that_is_no_toml_is_named() -> None:
    with pytest.raises(UserError, match=r"targets\.toml is no TOML"):
        read_targets("schema = ", "demo")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('metric = "peek"\nvalue = 1\ntolerance = { absolute = 1 }', "$.target[0].metric: unknown metric 'peek'"),
        (
            'metric = "peak"\nvalue = 1\ntolerance = { absolute = 1 }\nwhere = { lrr = 1 }',
            "$.target[0].where.lrr: unknown key 'lrr'",
        ),
        (
            'metric = "peak"\nvalue = 1\ntolerance = { absolute = 1 }\nwhere = { lr = -1 }',
            "$.target[0].where.lr: found -1, expected a number > 0",
        ),
        (
            'metric = "peak"\nvalue = 1\ntolerance = { absolute = 1 }\npreset = "papre"',
            "$.target[0].where: experiment 'demo': unknown preset 'papre'",
        ),
        (
            'metric = "peak"\nvalue = 1\ntolerance = { absolute = 1 }\nignore = ["nett"]',
            "$.target[0].ignore: unknown key 'nett'",
        ),
        (
            'metric = "recall"\nvalue = 1\ntolerance = { absolute = 1 }',
            "$.target[0].at: missing: 'recall' is a series along 'grid'",
        ),
        (
            'metric = "recall"\nvalue = 1\ntolerance = { absolute = 1 }\nat = { nois = 1 }',
            "$.target[0].at.nois: unknown variable 'nois' of stream 'grid'",
        ),
        (
            'metric = "peak"\nvalue = 1\ntolerance = { absolute = 1 }\nat = { noise = 1 }',
            "$.target[0].at: 'peak' has one value per trial, so there is no row to choose",
        ),
        (
            'metric = "peak"\nkind = "order"\nwheres = [{ lr = 1 }, { "net.mode" = "outptu" }]',
            "$.target[0].wheres[1].net.mode: found 'outptu', expected one of none, output",
        ),
    ],
)
def test_mistakes_of_meaning_have_their_path(keys: str, message: str) -> None:
    assert mistakes(f'[[target]]\nname = "a"\n{keys}') == [message]


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(WrongInput, match="did you mean 'peak'"):
        published(experiment(), read('[[target]]\nname = "a"\nmetric = "peek"\nkind = "exact"\nvalue = 1'))


@pytest.mark.parametrize(
    ("where", "modes"),
    [
        ("{}", ["none"]),
        ('{ "net.mode" = "output" }', ["output"]),
        ('{ net = { mode = "output" } }', ["output"]),
        ('{ "net.mode" = "none,output" }', ["none", "output"]),
        ('{ "net.mode" = ["output", "none"] }', ["output", "none"]),
    ],
)
def test_where_is_read_as_in_a_named_run_and_several_points_are_pooled(where: str, modes: list[str]) -> None:
    (found,) = published(experiment(), read(f"[[target]]\n{MEAN}where = {where}"))
    assert [config["net.mode"] for group in found.groups for config in group] == modes


def test_a_preset_that_sweeps_is_pooled_unless_where_fixes_it() -> None:
    (found,) = published(experiment(), read(f'[[target]]\n{MEAN}preset = "levels"'))
    assert [config["lr"] for config in found.groups[0]] == [0.1, 0.2]
    (fixed,) = published(experiment(), read(f'[[target]]\n{MEAN}where = {{ preset = "levels", lr = 0.3 }}'))
    assert [config["lr"] for config in fixed.groups[0]] == [0.3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_needs_what_it_says(kind: str) -> None:
    found = mistakes(f'[[target]]\nname = "a"\nmetric = "peak"\nkind = "{kind}"')
    assert all(
        f"$.target[0].{name}: missing, a target of kind '{kind}' needs it" in found for name in KINDS[kind].needs
    )
    assert found


def test_keys_of_kinds_are_fields_of_a_target() -> None:
    known = {field.name for field in attrs.fields(Target)}
    assert {name for kind in KINDS.values() for name in (*kind.needs, *kind.takes, *kind.one_of)} <= known


def test_zero_is_a_value() -> None:
    assert target(name='"a"', metric='"peak"', kind='"exact"', value=0).value == 0.0


EXPERIMENTS = [info.name for info in discover() if info.kind == "experiment"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_shipped_targets_are_in_order(name: str) -> None:
    installed = load_experiment(name)
    if targets_text(installed.module) is None:
        pytest.skip(f"experiment '{name}' ships no targets.toml")
    found, _ = read_published(installed)
    assert found


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[1] / "docs" / "published-numbers.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", f"{row[0]} {row[1] if len(row) == 3 else ''}")}
    keys = {field.name for kind in (Target, Tolerance) for field in attrs.fields(kind)}
    assert keys <= named
    assert set(KINDS) <= named
    assert {field.name for field in attrs.fields(Suite)} <= set(re.findall(r"`(\w+)`", text))
