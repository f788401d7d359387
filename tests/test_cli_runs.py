"""``xfw runs``, ``show``, ``resume``, ``export`` and ``clean``."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import attrs
import pytest
import xarray
from xfw.cli.main import invoke
from xfw.cli.runs import overall
from xfw.store import claims
from xfw.store.claims import BlockState
from xfw.store.commit import Committer
from xfw.store.rundir import create_run, list_runs
from xfw.testing import small
from xfw.testing.runs import RECORDS, commit_rows, finish_block, finished_run, make_manifest, metrics_of, small_run

SWEEP = {"net.mode": ["none", "output"]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(run_id, **options):
    """Make a finished run with an id of our choice."""
    return finished_run(Path("results"), run=run_id, **options)


def printed(capsys, *arguments, code=0):
    assert invoke(arguments) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def as_json(capsys, *arguments):
    return json.loads(printed(capsys, *arguments, "--json"))


# --- runs and show ---------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first(capsys):
    named("demo-20260101-000000-aaaa")
    named("demo-20260102-000000-bbbb", sweep=SWEEP)
    lines = [line for line in printed(capsys, "runs").splitlines() if "──" not in line]
    assert [line.split()[0] for line in lines] == [
        "run",
        "demo-20260102-000000-bbbb",
        "demo-20260101-000000-aaaa",
    ]
    assert lines[1].split()[1:] == ["quick", "2", "4/4", "done", "yes"]


def test_no_runs_are_no_error(capsys):
    assert printed(capsys, "runs") == "there are no runs in results\n"
    assert as_json(capsys, "runs") == {"schema": 1, "runs": []}


def test_runs_of_one_experiment_only(capsys):
    named("demo-20260101-000000-aaaa")
    named("other-20260102-000000-bbbb", experiment="other")
    assert [entry["run"] for entry in as_json(capsys, "runs", "demo")["runs"]] == ["demo-20260101-000000-aaaa"]
    assert "did you mean 'demo'" in printed(capsys, "runs", "dmeo", code=2)


def test_run_list_as_json(capsys):
    run = named("demo-20260101-000000-aaaa", sweep=SWEEP)
    (entry,) = as_json(capsys, "runs")["runs"]
    assert entry == {
        "run": run.id,
        "experiment": "demo",
        "preset": "quick",
        "created": "2026-01-02T03:04:05+00:00",
        "state": "done",
        "conditions": 2,
        "trials": 4,
        "done": 4,
        "sealed": True,
        "stale": False,
        "path": "results/demo/demo-20260101-000000-aaaa",
    }


def test_damaged_run_is_listed_as_such(capsys):
    run = named("demo-20260101-000000-aaaa")
    (run.path / "run.toml").write_text("run = ")
    (entry,) = as_json(capsys, "runs")["runs"]
    assert entry["state"] == "damaged"
    assert "damaged" in printed(capsys, "runs")


@pytest.mark.parametrize(
    ("blocks", "state"),
    [
        (["done", "done"], "done"),
        (["done", "pending"], "pending"),
        (["done", "interrupted", "failed"], "failed"),
        (["lost", "running", "failed"], "running"),
        ([], "pending"),
    ],
)
def test_state_of_a_run_is_the_most_urgent_of_its_blocks(blocks, state):
    assert overall([BlockState(each, 1) for each in blocks]) == state


def test_show_prints_configuration_blocks_and_streams(capsys):
    named("demo-20260101-000000-aaaa", sweep=SWEEP, blocks=2)
    text = printed(capsys, "show", "@last")
    for part in ("demo-20260101-000000-aaaa", "4 of 4 done", "data.name", "command line", "none, output"):
        assert part in text
    assert "stream epoch: 4 rows of correct, loss, accepted, per_class" in text
    assert "blocks: 2 done" in text


def test_show_says_how_a_block_ran_once_that_is_known(capsys):
    run = create_run(Path("results"), make_manifest(blocks=2), RECORDS)
    plan = run.manifest.blocks[0]
    layout = {"strategy": "stack", "lowering": "twin, modules"}
    Committer(run.block_dir(0)).commit(attrs.evolve(commit_rows(plan.members, plan.width, 0, 2), layout=layout))
    first, second = as_json(capsys, "show", "demo")["blocks"]
    assert (first["ran"], second["ran"]) == ("stack (twin, modules)", "")
    text = printed(capsys, "show", "demo")
    assert "stack (twin, modules)" in text
    assert f"{second['strategy']}, planned" in text


def test_show_says_why_a_block_failed(capsys):
    run = create_run(Path("results"), make_manifest(blocks=2), RECORDS)
    claims.claim_block(run.block_dir(1), "cpu")
    claims.write_end(run.block_dir(1), claims.End(1, "failed", "ValueError: no", claims.now()))
    assert "ValueError: no" in printed(capsys, "show", "demo")
    content = as_json(capsys, "show", "demo")
    assert (content["state"], content["sealed"], content["streams"]) == ("failed", False, [])
    assert [block["state"] for block in content["blocks"]] == ["pending", "failed"]


def test_show_as_json_holds_everything(capsys):
    named("demo-20260101-000000-aaaa", sweep=SWEEP)
    content = as_json(capsys, "show", "demo")
    assert content["condition_values"] == [{"net.mode": "none"}, {"net.mode": "output"}]
    assert content["config"]["data"] == {"name": "digits"}
    assert content["execution"]["device"] == "cpu"
    assert content["streams"][0]["rows"] == 4


# --- resume ----------------------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(small.install(tmp_path)))


@pytest.mark.usefixtures("experiment")
def test_resume_finishes_a_run_and_then_adds_nothing(capsys):
    run = small_run(Path("results"), trials=2, blocks=2)
    assert f"{run.id}: 2 of 2 blocks done" in printed(capsys, "resume", "@last", "--jobs", "0", "--quiet")
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert as_json(capsys, "resume", run.id, "--jobs", "0") == {
        "schema": 1,
        "run": run.id,
        "path": str(run.path),
        "blocks": ["done", "done"],
        "exit_code": 0,
    }
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


@pytest.mark.usefixtures("experiment")
def test_resume_seals_again_what_was_deleted(capsys):
    run = small_run(Path("results"))
    invoke(["resume", run.id, "--jobs", "0", "--quiet"])
    before = metrics_of(run)
    run.run_file.unlink()
    printed(capsys, "resume", run.id, "--jobs", "0", "--quiet")
    assert metrics_of(run) == before


@pytest.mark.usefixtures("experiment")
def test_resume_of_a_failing_run_gives_1(capsys):
    run = small_run(Path("results"), config={"fail_in": 1})
    assert "asked to fail" in printed(capsys, "resume", run.id, "--jobs", "0", code=1)


@pytest.mark.usefixtures("experiment")
def test_resume_refuses_another_version_unless_told(capsys):
    run = small_run(Path("results"), versions={"small": "0.9"})
    assert "--allow-version-change" in printed(capsys, "resume", run.id, "--jobs", "0", code=2)
    printed(capsys, "resume", run.id, "--jobs", "0", "--quiet", "--allow-version-change")


# --- export ----------------------------------------------------------------------------------------------


def test_csv_has_a_table_of_trials_and_one_per_stream(capsys):
    run = named("demo-20260101-000000-aaaa", sweep=SWEEP)
    paths = printed(capsys, "export", "demo", "--format", "csv").split()
    assert paths == [f"{run.report_dir}/{run.id}.{name}.csv" for name in ("trials", "epoch")]
    with Path(paths[0]).open() as file:
        trials = list(csv.DictReader(file))
    assert [row["net.mode"] for row in trials] == ["none", "none", "output", "output"]
    assert [row["best"] for row in trials] == ["0", "10", "100", "110"]
    with Path(paths[1]).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert rows[-1]["epoch"] == "4"
    assert (rows[-1]["correct"], rows[-1]["accepted"], rows[-1]["per_class[2]"]) == ("113", "0", "113.2")


def test_csv_leaves_padding_out(capsys):
    run = create_run(Path("results"), make_manifest(blocks=2), RECORDS)
    finish_block(run, 0, 4)
    finish_block(run, 1, 2, end="failed")
    from xfw.store.seal import seal

    seal(run)
    path = printed(capsys, "export", "demo", "--format", "csv").split()[1]
    assert len(Path(path).read_text().splitlines()) == 1 + 4 + 2


def test_json_export_is_one_valid_file(capsys, tmp_path):
    run = named("demo-20260101-000000-aaaa", sweep=SWEEP)
    content = as_json(capsys, "export", run.id, "--format", "json", "-o", str(tmp_path / "out"))
    assert content["files"] == [str(tmp_path / "out" / f"{run.id}.json")]
    stored = json.loads(Path(content["files"][0]).read_text())
    assert stored["tables"]["trials"]["status"] == ["done"] * 4
    assert stored["tables"]["epoch"]["accepted"][:2] == [True, False]
    assert stored["conditions"] == [{"net.mode": "none"}, {"net.mode": "output"}]


def test_h5_export_is_readable_as_netcdf(capsys):
    run = named("demo-20260101-000000-aaaa")
    path = printed(capsys, "export", "demo", "--format", "h5").strip()
    with xarray.open_datatree(path, engine="netcdf4") as tree:
        assert tree["metrics/epoch/correct"].shape == (2, 4)
    assert Path(path).read_bytes() == run.run_file.read_bytes()


def test_parquet_without_pyarrow_says_what_to_do(capsys, monkeypatch):
    named("demo-20260101-000000-aaaa")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    error = printed(capsys, "export", "demo", "--format", "parquet", code=2)
    assert "needs the package pyarrow" in error
    assert "pip install pyarrow" in error


def test_parquet_export_has_one_file_per_table(capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    named("demo-20260101-000000-aaaa")
    paths = printed(capsys, "export", "demo", "--format", "parquet").split()
    assert parquet.read_table(paths[1]).column("correct").to_pylist() == [0, 1, 2, 3, 10, 11, 12, 13]


def test_export_of_an_unsealed_run_says_what_to_do(capsys):
    run = create_run(Path("results"), make_manifest(), RECORDS)
    assert f"xfw resume {run.id}" in printed(capsys, "export", "demo", "--format", "csv", code=2)


# --- clean -----------------------------------------------------------------------------------------------


def run_ids():
    return [run.id for run in list_runs(Path("results"))]


@pytest.fixture
def two_runs():
    return [named(f"demo-2026010{day}-000000-aaaa") for day in (1, 2)]


def test_dry_run_lists_and_deletes_nothing(capsys, two_runs):
    first = two_runs[0]
    size = sum(path.stat().st_size for path in first.path.rglob("*") if path.is_file())
    text = printed(capsys, "clean", first.id, "--dry-run")
    assert f"{first.path}  {size:,} bytes\n" in text
    assert f"total: 1 run, {size:,} bytes" in text
    assert "," in f"{size:,}"
    assert len(run_ids()) == 2


def test_clean_asks_and_no_is_the_default(monkeypatch, two_runs):
    from click.testing import CliRunner
    from xfw.cli.clean import clean

    name = two_runs[0].id
    assert "Remove them?" in CliRunner().invoke(clean, [name], input="\n").output
    assert len(run_ids()) == 2
    CliRunner().invoke(clean, [name], input="y\n")
    assert run_ids() == [two_runs[1].id]


def test_clean_all_removes_every_run_and_nothing_else(capsys, two_runs, tmp_path):
    kept = [Path("results/notes.txt"), Path("results/demo/report/a.csv"), Path("results/demo/stray/x"), Path("y")]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    named("other-20260101-000000-aaaa", experiment="other")
    printed(capsys, "clean", "--all", "--yes")
    assert run_ids() == []
    assert all(path.read_text() == "kept" for path in kept)
    assert Path("results/demo").is_dir()


def test_run_named_twice_counts_once(capsys, two_runs):
    last = two_runs[1].id
    content = as_json(capsys, "clean", last, "@last", "demo", "--yes")
    assert [Path(entry["path"]).name for entry in content["runs"]] == [last]
    assert content["total"] == content["runs"][0]["bytes"]
    assert content["removed"]
    assert run_ids() == [two_runs[0].id]


@pytest.mark.parametrize("name", ["../x", "demo/demo-20260101-000000-aaaa", "/tmp", "..", "results"])
def test_clean_never_takes_a_path(capsys, two_runs, name):
    Path("x").mkdir()
    printed(capsys, "clean", name, "--yes", code=2)
    assert len(run_ids()) == 2
    assert Path("x").is_dir()


def test_one_unknown_run_removes_none(capsys, two_runs):
    error = printed(capsys, "clean", two_runs[0].id, "demo-20260102-000000-aaab", "--yes", code=2)
    assert "did you mean 'demo-20260102-000000-aaaa'" in error
    assert len(run_ids()) == 2


def test_clean_without_names_or_with_both_is_wrong(capsys, two_runs):
    assert "say which runs to remove" in printed(capsys, "clean", "--yes", code=2)
    printed(capsys, "clean", "demo", "--all", "--yes", code=2)
    assert len(run_ids()) == 2


def test_running_run_is_not_removed(capsys, two_runs):
    run = create_run(Path("results"), make_manifest(), RECORDS)
    claims.claim_block(run.block_dir(0), "cpu")
    assert f"is being run by process {os.getpid()}" in printed(capsys, "clean", "--all", "--yes", code=2)
    assert len(run_ids()) == 3


def test_run_that_is_about_to_start_is_not_removed_and_counts_as_running(capsys, two_runs):
    run = create_run(Path("results"), make_manifest(), RECORDS, claimed=True)
    assert f"is being run by process {os.getpid()}" in printed(capsys, "clean", "@last", "--yes", code=2)
    assert as_json(capsys, "runs")["runs"][0]["state"] == "running"
    assert run.id in run_ids()


@pytest.mark.parametrize("name", ["claim-1.toml", "end-1.toml"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: (path.unlink(), path.mkdir())])
def test_run_with_a_damaged_claim_is_listed_and_stops_nobody_and_can_be_removed(capsys, two_runs, name, damage):
    path = two_runs[0].block_dir(0) / name
    damage(path)
    os.utime(two_runs[0].block_dir(0) / "claim-1.toml", (0, 0))
    found = {entry["run"]: entry for entry in as_json(capsys, "runs")["runs"]}
    assert (found[two_runs[0].id]["state"], found[two_runs[1].id]["state"]) == ("damaged", "done")
    assert f"{name} is damaged" in found[two_runs[0].id]["error"]
    for command in (["show", two_runs[0].id], ["resume", two_runs[0].id]):
        assert f"{name} is damaged" in printed(capsys, *command, code=2)
    printed(capsys, "clean", two_runs[0].id, "--yes")
    assert run_ids() == [two_runs[1].id]


def test_damaged_run_can_be_removed(capsys, two_runs):
    (two_runs[0].path / "run.toml").write_text("run = [")
    printed(capsys, "clean", two_runs[0].id, "--yes")
    assert run_ids() == [two_runs[1].id]


def test_links_inside_a_run_are_removed_and_not_followed(capsys, two_runs):
    Path("outside").mkdir()
    Path("outside/file").write_text("kept")
    (two_runs[0].path / "artifacts").symlink_to(Path("outside").absolute())
    printed(capsys, "clean", two_runs[0].id, "--yes")
    assert Path("outside/file").read_text() == "kept"


def test_json_needs_an_answer_given_before(capsys, two_runs):
    assert "--dry-run or --yes" in printed(capsys, "clean", "demo", "--json", code=2)
    content = as_json(capsys, "clean", "demo", "--dry-run")
    assert not content["removed"]
    assert len(run_ids()) == 2


def test_nothing_to_clean_is_no_error(capsys):
    assert printed(capsys, "clean", "--all") == "total: 0 runs, 0 bytes\n"


def test_interrupted_removal_can_be_repeated(capsys, two_runs, monkeypatch):
    def fail(path, *arguments, **options):
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr("xfw.cli.clean.shutil.rmtree", fail)
        assert "Device or resource busy" in printed(capsys, "clean", two_runs[0].id, "--yes", code=1)
    assert two_runs[0].id in run_ids()
    printed(capsys, "clean", two_runs[0].id, "--yes")
    assert run_ids() == [two_runs[1].id]
