"""The study as named runs: which cells they hold, how they are grouped into blocks, and how parts are chosen."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import attrs
import pytest
import xfw_psa
from xfw.cli.main import invoke
from xfw.config.named import NamedRun, read_file
from xfw.config.resolve import Resolved, resolve
from xfw.manifest import Execution
from xfw.plan import build
from xfw.plan.build import Plan, Request
from xfw.plan.trials import Only
from xfw.plugins.registry import load_experiment
from xfw_psa.analysis.configurations import asymmetric, published
from xfw_psa.config import MODES, Config

PLUGIN = Path(xfw_psa.__file__).parent
DATA_DIR = Path(os.environ.get("XFW_DATA_DIR", ""))
needs_mnist = pytest.mark.skipif(not (DATA_DIR / "MNIST" / "raw").is_dir(), reason="MNIST is not in XFW_DATA_DIR")


def named(name: str) -> NamedRun:
    return read_file(PLUGIN / "experiments.toml", ["psa"])[name]


def resolved(name: str) -> Resolved:
    return resolve(load_experiment("psa"), named=named(name))


def cells(name: str) -> list[tuple[str, str]]:
    return [(config.arch, config.mode) for config in resolved(name).configs]


STUDY = [(f"[{shape.text}]", mode) for shape in published().shapes for mode in MODES]


@pytest.mark.parametrize("name", ["psa-paper", "psa-resmlp", "psa-resmlp-preliminary", "psa-simplemlp-superseded"])
def test_a_study_holds_every_network_in_every_mode(name: str) -> None:
    assert cells(name) == STUDY
    assert resolved(name).trials == 10


def test_the_paper_is_the_published_protocol() -> None:
    for config in resolved("psa-paper").configs:
        expected = Config(data="mnist", family="simplemlp", pair_modes=False, arch=config.arch, mode=config.mode)
        assert config == expected


def test_other_named_runs_are_parts_of_the_study() -> None:
    assert {arch for arch, _ in cells("psa-asymmetric")} == {f"[{shape.text}]" for shape in asymmetric()}
    assert len(cells("psa-asymmetric")) == 30 * 6
    assert [mode for _, mode in cells("psa-figure-baseline")] == ["none"] * 98
    assert Counter(mode for _, mode in cells("psa-figure-effects")) == {"none": 98, "full": 98}
    assert {arch for arch, _ in cells("psa-figure-convergence")} == {"[1*1024]", "[18*18]"}
    assert {arch for arch, _ in cells("psa-figure-late")} == {"[18*18]", "[17*17]", "[10*10]", "[4*2]"}


def planned(device: str, **only: tuple[str, ...]) -> Plan:
    """Return the plan of some networks of the study on a device."""
    execution = Execution(device, "float32", False, "auto", 1, 2, str(DATA_DIR))
    request = Request(execution, seed=1, trials=10, only=Only(values=only))
    return build.plan(load_experiment("psa"), resolved("psa-paper"), request)


@needs_mnist
def test_all_modes_of_a_network_form_one_block_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "total_memory", lambda device: 80 * 2**30)
    made = planned("cuda", arch=("[1*8]", "[18*18]", "[1*2048]"))
    assert [block.width for block in made.manifest.blocks] == [60, 60, 60]
    for block in made.manifest.blocks:
        values = [made.manifest.conditions[member.condition].values for member in block.members]
        assert len({each["arch"] for each in values}) == 1
        assert Counter(each["mode"] for each in values) == dict.fromkeys(MODES, 10)


@needs_mnist
def test_a_network_too_large_for_one_block_is_dealt_into_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "total_memory", lambda device: 3 * 2**30)
    made = planned("cuda", arch=("[1*2048]",))
    widths = [block.width for block in made.manifest.blocks]
    assert len(widths) > 1
    assert len(set(widths)) == 1
    assert all(block.memory <= 3 * 2**30 for block in made.manifest.blocks)


@needs_mnist
def test_modes_share_blocks_on_a_cpu() -> None:
    made = planned("cpu", arch=("[1*8]",))
    sizes = [len({member.condition for member in block.members}) for block in made.manifest.blocks]
    assert set(sizes) == {2}


@needs_mnist
def test_the_whole_study_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    place = ["--data-dir", str(DATA_DIR), "--results-dir", str(tmp_path), "--device", "cpu", "--jobs", "2"]
    assert invoke(["run", "psa-paper", "--dry-run", "--json", *place]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert sum(len(block["members"]) for block in plan["blocks"]) == 5_880
    assert plan["seconds"] is None  # no block of this work has run on this machine


def test_a_subset_is_chosen_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = ["--results-dir", str(tmp_path), "--device", "cpu", "--jobs", "0", "--quiet", "--seed", "1"]
    small = ["-s", "data=digits", "-s", "meta_loops=1", "--trials", "1"]
    assert invoke(["run", "psa-paper", "--only", "arch=1*8,4*4", "--only", "mode=none", *small, *place]) == 0
    from xfw.store.results import open_run
    from xfw.store.rundir import find_run

    with open_run(find_run(tmp_path, "@last")) as results:
        values = [(each["arch"], each["mode"]) for each in results.conditions]
    assert values == [("[1*8]", "none"), ("[4*4]", "none")]


def test_another_list_takes_the_place_of_the_studys(tmp_path: Path) -> None:
    (tmp_path / "nets.txt").write_text("# mine\n2*2\n3*3\n")
    made = resolve(load_experiment("psa"), named=named("psa-paper"), overrides=[f"arch=@{tmp_path / 'nets.txt'}"])
    assert {config.arch for config in made.configs} == {"[2*2]", "[3*3]"}
    assert attrs.asdict(made.configs[0])["family"] == "simplemlp"
