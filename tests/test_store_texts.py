"""Texts, arrays of unequal shape and large arrays, from the block that records them to whoever reads them."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from xfw.cli.main import invoke
from xfw.engine.recorder import Recorder
from xfw.errors import UserError
from xfw.experiment import Array, Records, Stream, Variable
from xfw.store import artifacts, claims, export
from xfw.store.commit import Commit, Committer
from xfw.store.merge import merge
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir, create_run, find_run
from xfw.store.seal import seal
from xfw.testing.plugins import write_distribution
from xfw.testing.runs import make_manifest, metrics_of

PLUGIN = """
import attrs
import numpy as np
import xfw
from xfw.testing.small import *
from xfw.testing import small


@xfw.hookimpl
def declare_records(config):
    variables = (
        xfw.Variable("loss", "float32", "mean training loss"),
        xfw.Variable("verdict", "text", "what became of the epoch"),
        xfw.Variable("task", "text", "same for all"),
        xfw.Variable("pair", "text", "two words", axes=("word",)),
    )
    arrays = (xfw.Array("label", "text", "name of the trial"), xfw.Array("path", "int64", "way", "cm"))
    return xfw.Records((xfw.Stream("epoch", "epoch", variables, first=1),), arrays, "epoch/loss")


@xfw.hookimpl
def on_epoch_end(block, metrics):
    names = [f"trial {member.trial} – ε{block.epoch}" for member in block.members]
    pairs = [["a", str(block.epoch)] for _ in block.members]
    block.record("epoch", loss=metrics["loss"], verdict=names, task="rotate", pair=pairs)


@xfw.hookimpl
def on_end(block):
    block.array("label", [f"t{member.trial}" for member in block.members])
    block.ragged("path", [np.arange(member.trial + 1) for member in block.members])
    block.ragged("words", [np.array(["x"] * (member.trial + 1), object) for member in block.members])
    block.ragged("even", [np.full((2, 2), float(member.trial)) for member in block.members])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    """Yield a run of three trials that were trained and committed in small pieces; its plugin is installed."""
    folder = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(write_distribution(folder, "texts", PLUGIN)))
        patch.setenv("XFW_COMMIT_SECONDS", "0")
        assert trained(folder, "--trials", "3", "--seed", "1", "--block-size", "2") == 0
        yield find_run(folder, "@last")


def trained(folder: Path, *arguments: str) -> int:
    place = ["--results-dir", str(folder), "--jobs", "0", "--device", "cpu", "--quiet"]
    return invoke(["run", "texts", *place, *arguments])


def test_texts_come_back_as_they_were_recorded(run: RunDir) -> None:
    with open_run(run) as results:
        assert results.values("epoch", "verdict").tolist() == [
            [f"trial {trial} – ε{epoch}" for epoch in range(4)] for trial in range(3)
        ]
        assert set(results.values("epoch", "task").flat) == {"rotate"}
        assert results.values("epoch", "pair")[2].tolist() == [["a", str(epoch)] for epoch in range(4)]
        assert results.array("label").tolist() == ["t0", "t1", "t2"]
        assert str(results.row("epoch", 1, 3)["verdict"]) == "trial 1 – ε3"


def test_ragged_arrays_come_back_in_their_shapes(run: RunDir) -> None:
    with open_run(run) as results:
        assert [results.ragged(place)["path"].tolist() for place in range(3)] == [[0], [0, 1], [0, 1, 2]]
        assert [len(results.ragged(place)["words"]) for place in range(3)] == [1, 2, 3]
        assert results.array("even")[:, 1, 1].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_texts(run: RunDir, engine: str) -> None:
    with xarray.open_datatree(run.run_file, engine=engine) as tree:
        verdict = tree["metrics/epoch/verdict"]
        assert verdict.dims == ("member", "epoch")
        assert str(verdict.values[1, 2]) == "trial 1 – ε2"
        assert tree["metrics/epoch/pair"].dims == ("member", "epoch", "word")


def test_texts_are_exported(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--results-dir", str(run.results_dir)]
    assert invoke(["export", run.id, "--format", "csv", *place]) == 0
    paths = capsys.readouterr().out.split()
    with Path(paths[1]).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (rows[5]["verdict"], rows[5]["pair[1]"]) == ("trial 1 – ε1", "1")
    assert invoke(["export", run.id, "--format", "json", *place]) == 0
    stored = json.loads(Path(capsys.readouterr().out.strip()).read_text(encoding="utf-8"))
    assert stored["tables"]["trials"]["label"] == ["t0", "t1", "t2"]


def test_texts_are_exported_as_parquet(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert invoke(["export", run.id, "--format", "parquet", "--results-dir", str(run.results_dir)]) == 0
    table = parquet.read_table(capsys.readouterr().out.split()[1])
    assert table.column("verdict").to_pylist()[5] == "trial 1 – ε1"


def test_texts_are_merged_with_empty_ones_as_padding(run: RunDir, tmp_path: Path) -> None:
    assert trained(tmp_path, "-s", "epochs=2", "--seed", "2") == 0
    merged = merge([run, find_run(tmp_path, "@last")], tmp_path, ())
    with open_run(merged) as results:
        assert results.values("epoch", "verdict")[3].tolist() == ["trial 0 – ε0", "trial 0 – ε1", "", ""]
        assert results.array("label").tolist() == ["t0", "t1", "t2", "t0"]
        assert results.ragged(2)["path"].tolist() == [0, 1, 2]


def test_runs_with_texts_can_be_compared_as_bytes(run: RunDir) -> None:
    assert metrics_of(run) == metrics_of(run)


@pytest.mark.parametrize("values", [[1, 2], ["a", None], [b"a", "b"]])
def test_what_is_no_text_is_refused(values: Any) -> None:
    declared = Records((Stream("s", "row", (Variable("t", "text", "text"),)),))
    with pytest.raises(UserError, match=r"record: variable 't' of stream 's': found .*, expected text"):
        Recorder(declared, 2, torch.device("cpu")).record("s", {"t": values})


def test_one_text_for_each_trial_is_needed() -> None:
    declared = Records((Stream("s", "row", (Variable("t", "text", "text"),)),))
    with pytest.raises(UserError, match="expected one entry for each trial"):
        Recorder(declared, 3, torch.device("cpu")).record("s", {"t": ["a", "b"]})


# --- large arrays ----------------------------------------------------------------------------------------


def sealed(folder: Path, arrays: Any, **options: Any) -> RunDir:
    """Return a run of two trials with these arrays."""
    declared = Records(arrays=(Array("mask", "float32", "mask", "cm", axes=("row", "column")),))
    run = create_run(folder, make_manifest(**options), declared)
    claim = claims.claim_block(run.block_dir(0), "cpu")
    assert claim is not None
    commit = Commit({}, arrays, {}, {}, {}, ["done", "done"], final=True)
    Committer(run.block_dir(0)).commit(commit)
    claims.write_end(run.block_dir(0), claims.End(1, "done", "", claims.now()))
    seal(run)
    return run


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let artifacts begin at 400 bytes."""
    monkeypatch.setattr(artifacts, "LIMIT", 400)


MASK = np.arange(2 * 10 * 12, dtype=np.float32).reshape(2, 10, 12)


def test_the_limit_is_64_mebibytes() -> None:
    assert artifacts.LIMIT == 64 * 1024 * 1024


@pytest.mark.usefixtures("small_limit")
def test_a_large_array_becomes_a_file_for_each_trial(tmp_path: Path) -> None:
    run = sealed(tmp_path, {"mask": MASK, "small": np.zeros((2, 3))})
    with open_run(run) as results:
        assert results.arrays() == ["small", "mask"]
        assert results.shape("mask") == (2, 10, 12)
        assert (results.array("mask") == MASK).all()
        assert (results.array("mask", 1) == MASK[1]).all()
        assert (results.unit("mask"), results.long_name("mask")) == ("cm", "mask")
        for place, artifact in enumerate(results.artifacts):
            data = (run.path / artifact.path).read_bytes()
            assert artifact.sha256 == hashlib.sha256(data).hexdigest()
            assert (artifact.nbytes, artifact.trial, artifact.array) == (len(data), place, "mask")
            assert (np.load(run.path / artifact.path) == MASK[place]).all()


def test_every_column_of_the_list_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "file-format.md").read_text(encoding="utf-8")
    text = page.partition("\n### Artifacts\n")[2].partition("\n#")[0]
    assert re.findall(r"^\| `(\w+)` ", text, re.MULTILINE) == [name for name, _, _ in artifacts.COLUMNS]


@pytest.mark.usefixtures("small_limit")
def test_xarray_reads_the_list_of_artifacts(tmp_path: Path) -> None:
    run = sealed(tmp_path, {"mask": MASK})
    with xarray.open_datatree(run.run_file, engine="netcdf4") as tree:
        assert tree["artifacts/nbytes"].dims == ("artifact",)
        assert tree["artifacts/array"].values.tolist() == ["mask", "mask"]


@pytest.mark.usefixtures("small_limit")
def test_large_and_small_arrays_of_one_name_are_ragged(tmp_path: Path) -> None:
    with open_run(sealed(tmp_path, {"mask": [MASK[0], MASK[1, :2]]})) as results:
        assert results.arrays() == []
        assert results.ragged_shapes(0) == {"mask": (10, 12)}
        assert (results.ragged(0)["mask"] == MASK[0]).all()
        assert (results.ragged(1)["mask"] == MASK[1, :2]).all()


@pytest.mark.usefixtures("small_limit")
def test_sealing_again_writes_no_artifact_again(tmp_path: Path) -> None:
    run = sealed(tmp_path, {"mask": MASK})
    before = {path: path.stat().st_mtime_ns for path in (run.path / "artifacts").rglob("*.npy")}
    seal(run)
    assert {path: path.stat().st_mtime_ns for path in (run.path / "artifacts").rglob("*.npy")} == before
    assert len(before) == 2


@pytest.mark.usefixtures("small_limit")
def test_a_merged_run_has_artifacts_of_its_own(tmp_path: Path) -> None:
    parts = [sealed(tmp_path, {"mask": MASK + seed}, seed=seed, created=f"2026-01-0{seed}") for seed in (1, 2)]
    merged = merge(parts, tmp_path, ())
    for part in parts:
        for path in part.path.rglob("*.npy"):
            path.unlink()
    with open_run(merged) as results:
        assert results.array("mask")[:, 0, 0].tolist() == [1, 2, 121, 122]


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("change", ["damage", "remove"])
def test_a_damaged_or_missing_artifact_is_named(tmp_path: Path, change: str) -> None:
    run = sealed(tmp_path, {"mask": MASK})
    path = next((run.path / "artifacts").rglob("0-*.npy"))
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    with open_run(run) as results, pytest.raises(UserError, match=str(path.name)):
        results.array("mask")


def test_an_older_file_without_origins_is_read(tmp_path: Path) -> None:
    import h5py

    run = sealed(tmp_path, {"small": np.zeros((2, 3))})
    copy = tmp_path / "old.h5"
    copy.write_bytes(run.run_file.read_bytes())
    with h5py.File(copy, "r+") as file:
        del file["origin"], file.attrs["merged_json"]
        file.attrs["format_version"] = "1.0"
    with Results(copy) as results:
        assert (results.origin, results.merged, results.artifacts) == ([run.id] * 2, [], [])


# --- exported tables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
def test_exported_numbers_are_the_stored_ones_with_and_without_pyarrow(tmp_path, monkeypatch, there):
    """Trials of unequal length, more rows than a piece holds, numbers that are not finite, texts with commas."""
    variables = (Variable("x", "float64", "x"), Variable("y", "float32", "y", axes=("k",)), Variable("t", "text", "t"))
    run = create_run(tmp_path, make_manifest(trials=3, blocks=3), Records((Stream("s", "row", variables),)))
    chance, expected = np.random.default_rng(0), {}
    for plan in run.manifest.blocks:
        rows = (5, 0, 40)[plan.index]
        x = chance.standard_normal((rows, 1)) * 10.0 ** chance.integers(-300, 300, (rows, 1))
        x[: min(rows, 1)], x[min(rows, 1) : 2] = np.nan, np.inf
        values = {
            "x": x,
            "y": chance.random((rows, 1, 2), np.float32),
            "t": np.array([[f'"{row}", ε'] for row in range(rows)], object).reshape(rows, 1),
        }
        expected[plan.index] = values
        claims.claim_block(run.block_dir(plan.index), "cpu")
        Committer(run.block_dir(plan.index)).commit(Commit({"s": values}, {}, {}, {}, {}, ["done"], final=True))
        claims.write_end(run.block_dir(plan.index), claims.End(1, "done", "", claims.now()))
    seal(run)
    monkeypatch.setattr(export, "ROWS", 30)
    if not there:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    _, path = export.write(run, "csv", tmp_path)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    (path,) = export.write(run, "json", tmp_path)
    table = json.loads(path.read_text())["tables"]["s"]
    x, y, t = (np.concatenate([expected[index][name][:, 0] for index in range(3)]) for name in "xyt")
    assert [line["trial"] for line in lines] == ["0"] * 5 + ["2"] * 40
    assert [float(line["x"] or "nan") for line in lines] == pytest.approx(x.tolist(), rel=0, abs=0, nan_ok=True)
    assert [float(line["y[1]"]) for line in lines] == y[:, 1].tolist()
    assert [line["t"] for line in lines] == t.tolist()
    assert [np.nan if v is None else v for v in table["x"]] == pytest.approx(
        [v if np.isfinite(v) else np.nan for v in x.tolist()], rel=0, abs=0, nan_ok=True
    )
    assert table["y[0]"] == y[:, 0].tolist()
    assert table["t"] == t.tolist()
