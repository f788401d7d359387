"""What a sealed file proves: that it is what was sealed, from the newest commits, of this run and no other."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
from xfw.cli.main import invoke
from xfw.errors import UserError
from xfw.experiment import Array, Records, Stream, Variable
from xfw.process import block
from xfw.store import artifacts, atomic, claims, proof
from xfw.store.commit import Commit, Committer, load_state
from xfw.store.results import Results, open_run
from xfw.store.rundir import RunDir, create_run
from xfw.store.seal import seal
from xfw.testing.runs import RECORDS, commit_rows, finish_block, finished_run, make_manifest, metrics_of, small_run
from xfw.testing.small import install

GOLDEN = Path(__file__).parent / "golden" / "results"
OLD = "demo-20260102-030405-0101"


def half_sealed(results_dir: Path) -> RunDir:
    """Return a run that was sealed when half of it was done, and then finished by a process that could not seal."""
    run = create_run(results_dir, make_manifest(trials=2, blocks=2), RECORDS)
    finish_block(run, 0)
    plan, directory = run.manifest.blocks[1], run.block_dir(1)
    claims.claim_block(directory, "cpu")
    committer = Committer(directory)
    committer.commit(commit_rows(plan.members, plan.width, 0, 2))
    seal(run)
    committer.commit(commit_rows(plan.members, plan.width, 2, 2, final=True))
    claims.write_end(directory, claims.End(1, "done", "", claims.now()))
    return RunDir(run.path)


@pytest.fixture
def stale(tmp_path: Path) -> RunDir:
    return half_sealed(tmp_path / "results")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = invoke(arguments)
    text = capsys.readouterr()
    return code, text.out + text.err


# --- out of date ---------------------------------------------------------------------------------------------


def test_results_older_than_the_last_commit_are_refused_with_what_to_do(stale):
    with pytest.raises(UserError, match="out of date") as caught:
        open_run(stale)
    assert stale.command("resume") in str(caught.value)
    assert caught.value.exit_code == 2
    with open_run(stale, as_is=True) as results:
        assert results.count("epoch").tolist() == [4, 2]


def test_every_command_names_results_that_are_out_of_date_and_resume_seals_again(stale, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "out of date" in printed(capsys, "runs")[1]
    assert json.loads(printed(capsys, "runs", "--json")[1])["runs"][0]["stale"] is True
    assert "out of date" in printed(capsys, "show", stale.id)[1]
    for command in (["analyze", stale.id], ["export", stale.id, "--format", "csv"], ["merge", stale.id, stale.id]):
        assert printed(capsys, *command)[0] == 2, command
    assert "out of date" in printed(capsys, "export", stale.id, "--format", "csv")[1]
    assert printed(capsys, "export", stale.id, "--format", "csv", "--as-is")[0] == 0
    assert printed(capsys, "resume", stale.id)[0] == 0
    assert json.loads(printed(capsys, "runs", "--json")[1])["runs"][0]["stale"] is False
    with open_run(stale) as results:
        assert results.count("epoch").tolist() == [4, 4]


def test_partial_results_put_back_after_the_end_are_named_and_made_again(tmp_path, monkeypatch, capsys):
    """The case of a last seal that failed, as it can be seen by hand."""
    run = half_sealed(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    partial = run.run_file.read_bytes()
    assert printed(capsys, "resume", run.id)[0] == 0
    whole = metrics_of(run)
    run.run_file.write_bytes(partial)
    for command in ("runs", "show", "analyze"):
        text = printed(capsys, command, *([] if command == "runs" else [run.id]))[1]
        assert "not the bytes that were sealed" in text, command
    assert printed(capsys, "resume", run.id)[0] == 0
    assert metrics_of(run) == whole


def test_blocks_that_were_removed_to_save_room_leave_the_results_readable(tmp_path):
    run = finished_run(tmp_path, blocks=2)
    (run.block_dir(0) / "state-1.h5").unlink()
    open_run(run).close()
    shutil.rmtree(run.path / "blocks")
    open_run(run).close()


@pytest.mark.parametrize("moment", ["write", "rename", "write again"])
def test_results_and_checksum_agree_wherever_sealing_is_cut_short(stale, monkeypatch, moment):
    """Sealing replaces two files one after the other; a kill between any two steps leaves a pair that agrees."""
    before = proof.check(stale.run_file)

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "rename":
            patch.setattr(
                proof.atomic, "rename", lambda source, path: cut() if path == stale.run_file else (source.replace(path))
            )
        else:
            calls = [proof.write] * (moment == "write again")
            patch.setattr(proof, "write", lambda *given: calls.pop()(*given) if calls else cut())
        with pytest.raises(KeyboardInterrupt):
            seal(stale)
    after = proof.check(stale.run_file)
    assert (after == before) == (moment != "write again")
    assert proof.is_stale(stale, after) == (moment != "write again")
    seal(stale)
    assert len(proof.read(stale.run_file)) == 1
    open_run(stale).close()


# --- not the bytes that were sealed --------------------------------------------------------------------------


def test_checksum_is_in_the_form_of_sha256sum(tmp_path):
    run = finished_run(tmp_path)
    found = subprocess.run(["sha256sum", "-c", "run.h5.sha256"], cwd=run.path, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "run.h5: OK\n")


def test_file_that_was_repacked_on_purpose_is_named_and_can_be_read_on_request(tmp_path, monkeypatch, capsys):
    run = finished_run(tmp_path / "results")
    with h5py.File(run.run_file, "a") as file:
        file.attrs["comment"] = "mine"
    with pytest.raises(UserError, match="not the bytes that were sealed") as caught:
        open_run(run)
    assert "--as-is" in str(caught.value)
    monkeypatch.chdir(tmp_path)
    assert printed(capsys, "show", run.id, "--as-is")[1].count("stream epoch: 4 rows") == 1


def test_checksum_that_was_lost_is_named(tmp_path):
    run = finished_run(tmp_path)
    proof.beside(run.run_file).unlink()
    with pytest.raises(UserError, match=r"run\.h5\.sha256 is missing"):
        open_run(run)


def test_exported_file_has_its_checksum_beside_it(tmp_path, monkeypatch, capsys):
    run = finished_run(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    code, text = printed(capsys, "export", run.id, "--format", "h5", "-o", "out")
    assert code == 0
    file = Path(text.strip())
    assert proof.beside(file).is_file()
    Results(file).close()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match="not the bytes"):
        Results(file)


def test_run_of_an_older_format_is_read_sealed_again_and_then_proved(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "results")
    run = RunDir(tmp_path / "results" / "demo" / OLD)
    with open_run(run) as results:
        assert results.seed == 7
        assert results.seeds.tolist() == [7] * 4
        assert results.trial.tolist() == [0, 1, 0, 1]
        assert results.values("epoch", "correct").tolist() == [[b + r for r in range(4)] for b in (0, 10, 100, 110)]
        assert results.values("epoch", "accepted").dtype == np.bool_
        before = {name: results.values("epoch", name).tobytes() for name in results.variables("epoch")}
    assert load_state(run.block_dir(0)).rows == {"epoch": 4}
    seal(run)
    with open_run(run) as results:
        assert results._proof is not None
        assert {name: results.values("epoch", name).tobytes() for name in results.variables("epoch")} == before


def test_refusal_of_the_operating_system_is_not_called_damage(tmp_path):
    run = finished_run(tmp_path)
    script = (
        "import os, sys; from pathlib import Path; from xfw.errors import UserError\n"
        "from xfw.store.rundir import RunDir; from xfw.store.results import open_run\n"
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "try:\n"
        "    while True: os.open(os.devnull, os.O_RDONLY)\n"
        "except OSError: pass\n"
        "try: open_run(RunDir(Path(sys.argv[1])))\n"
        "except UserError as error: os.write(1, str(error).encode())\n"
    )
    found = subprocess.run([sys.executable, "-c", script, str(run.path)], capture_output=True, text=True, check=True)
    assert "cannot read" in found.stdout
    assert "Too many open files" in found.stdout
    assert "damaged" not in found.stdout


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_unreadable_file_keeps_the_reason_of_the_system(tmp_path, number):
    text = str(atomic.unreadable(tmp_path / "x", OSError(number, os.strerror(number))))
    assert os.strerror(number) in text
    assert "damaged" not in text


# --- files of another run ------------------------------------------------------------------------------------


def test_blocks_of_another_run_are_refused_with_both_names(tmp_path):
    mine, other = (finished_run(tmp_path, seed=seed, blocks=2) for seed in (7, 8))
    mine.run_file.unlink()
    shutil.rmtree(mine.path / "blocks")
    shutil.copytree(other.path / "blocks", mine.path / "blocks")
    for reader in (seal, lambda run: load_state(run.block_dir(0))):
        with pytest.raises(UserError, match=f"block 0000 of run {other.id}.* block 0000 of run {mine.id}"):
            reader(mine)


def test_exchanged_blocks_are_refused_with_both_names(tmp_path):
    run = finished_run(tmp_path, trials=2, blocks=2)
    one, two = run.block_dir(0), run.block_dir(1)
    one.rename(tmp_path / "x")
    two.rename(one)
    (tmp_path / "x").rename(two)
    with pytest.raises(UserError, match=r"belongs to block 0001 of run .* found under block 0000"):
        seal(run)


def test_resuming_with_blocks_of_another_run_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))
    mine, other = (small_run(tmp_path, seed=seed) for seed in (7, 8))
    assert block.main(other.path, 0) == 0
    shutil.copy(other.block_dir(0) / "state-1.h5", mine.block_dir(0))
    before = (mine.block_dir(0) / "state-1.h5").read_bytes()
    assert block.main(mine.path, 0) == block.REFUSED
    assert other.id in (claims.block_state(mine.block_dir(0)).end.reason)
    assert (mine.block_dir(0) / "state-1.h5").read_bytes() == before


@pytest.mark.parametrize("name", ["run.toml", "records.json", "run.h5"])
def test_file_of_another_run_is_refused(tmp_path, name):
    mine, other = (finished_run(tmp_path, seed=seed) for seed in (7, 8))
    for file in (name, f"{name}.sha256"):
        if (other.path / file).exists():
            shutil.copy(other.path / file, mine.path / file)
    with pytest.raises(UserError, match=other.id):
        _ = (mine := RunDir(mine.path)).manifest, mine.records, open_run(mine)


def test_state_and_segments_name_run_block_and_attempt(tmp_path):
    run = finished_run(tmp_path, blocks=2)
    for path in (run.block_dir(1) / "state-1.h5", run.block_dir(1) / "segments" / "00002-1.h5"):
        with h5py.File(path) as file:
            content = json.loads(file["content"].asstr()[()])
        assert (content["run"], content["block"], content["attempt"]) == (run.id, "0001", 1)


# --- names and sizes that come from a file -------------------------------------------------------------------


def forged(tmp_path: Path, change: Any) -> Path:
    """Return a sealed file that somebody has changed, with a checksum that agrees."""
    run = finished_run(tmp_path, trials=2, sweep={"lr": [0.1, 0.2]})
    with h5py.File(run.run_file, "a") as file:
        change(file)
    temporary = run.path / "forged"
    run.run_file.rename(temporary)
    proof.replace(run.run_file, temporary)
    return run.run_file


def replaced(path: str, **options: Any) -> Any:
    def change(file: h5py.File) -> None:
        del file[path]
        file.create_dataset(path, **options)

    return change


def attribute(name: str, value: Any) -> Any:
    return lambda file: file.attrs.__setitem__(name, value)


def as_group(file: h5py.File) -> None:
    del file["metrics/epoch/loss"]
    file.create_group("metrics/epoch/loss/x")


DEEP = "[" * 200_000
FORGERIES = {
    "run id with parent folders": attribute("run", "../../x"),
    "absolute run id": attribute("run", "/tmp/x"),
    "experiment with a folder": attribute("experiment", "a/b"),
    "array with parent folders": lambda file: file.move("arrays/best", "arrays/x/..\\.."),
    "unprintable array": lambda file: file.move("arrays/best", "arrays/\x1b[2J"),
    "deep JSON": attribute("config_json", DEEP),
    "JSON of another type": attribute("conditions_json", "{}"),
    "JSON that is none": attribute("axes_json", "{"),
    "too few conditions": attribute("conditions_json", "[{}]"),
    "attribute that is an array": attribute("run", np.zeros((1000,))),
    "too few trials": replaced("trial", data=np.zeros(3, np.int64)),
    "too few names": replaced("status", data=["done"], dtype=h5py.string_dtype()),
    "counts beyond the rows": replaced("metrics/epoch/count", data=np.full(4, 99, np.int64)),
    "too many rows": replaced("metrics/epoch/loss", data=np.zeros((4, 9), np.float32)),
    "no axis of rows": replaced("metrics/epoch/correct", data=np.int64(1)),
    "group in place of a dataset": as_group,
    "terabytes that are not there": replaced("arrays/best", shape=(4, 10**12), dtype="f8", chunks=(1, 1000)),
    "gigabytes of texts that are not there": replaced("status", shape=(10**10,), dtype=h5py.string_dtype()),
    "long fixed texts": replaced("arrays/best", shape=(4, 1000), dtype="S100000", chunks=(1, 1)),
}


def read_all(path: Path) -> None:
    with Results(path) as results:
        for stream in results.streams():
            for variable in results.variables(stream):
                results.values(stream, variable)
        for array in results.arrays():
            results.array(array)
        _ = results.status, results.versions, results.conditions, results.axes, results.config


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_file_ends_in_a_clear_error_before_memory_is_taken(tmp_path, name):
    path = forged(tmp_path, FORGERIES[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"run\.h5"):
        read_all(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("path", ["../outside.npy", "/dev/zero", "artifacts/../../x.npy", "run.toml", "artifacts/link"])
def test_artifact_elsewhere_is_never_opened(tmp_path, path):
    (tmp_path / "outside.npy").write_bytes(b"secret")
    (tmp_path / "run" / "artifacts").mkdir(parents=True)
    (tmp_path / "run" / "artifacts" / "link").symlink_to(tmp_path / "outside.npy")
    artifact = artifacts.Artifact(path, "0" * 64, 1, 0, "big", (1,), "", "1")
    with pytest.raises(UserError, match="an artifact is said to lie at"):
        artifacts.read_array(tmp_path / "run", artifact)


def test_artifact_that_is_a_device_or_states_another_shape_is_refused(tmp_path):
    made = artifacts.write_array(tmp_path, "big", 0, np.zeros(1000, np.float32))
    np.testing.assert_array_equal(artifacts.read_array(tmp_path, made), np.zeros(1000, np.float32))
    path = tmp_path / made.path
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="not a regular file"):
        artifacts.read_array(tmp_path, made)
    with pytest.raises(UserError, match="cannot be that of a file"):
        artifacts.write_array(tmp_path, "../big", 0, np.zeros(1))


# --- what other programs make of it --------------------------------------------------------------------------


def test_fill_values_are_ones_that_no_element_has(tmp_path):
    run = finished_run(tmp_path, trials=2, sweep={"lr": [0.1, 0.2]})
    values = {"i": -9223372036854775806, "f": np.nan}
    with h5py.File(run.run_file) as file:

        def check(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind != "O":
                expected = -127 if item.attrs.get("dtype") == "bool" else values[item.dtype.kind]
                np.testing.assert_equal(item.fillvalue, expected, name)
                assert not (item[()] == expected).any()

        file.visititems(check)


def test_declared_name_and_unit_of_a_coordinate_reach_the_file(tmp_path):
    variables = (Variable("loop", "int64", "loop, counted over all runs", "1"), Variable("v", "float64", "value"))
    run = create_run(tmp_path, make_manifest(), Records((Stream("s", "loop", variables),), (Array("a", "int64", "a"),)))
    claims.claim_block(run.block_dir(0), "cpu")
    records = {"s": {"loop": np.array([[3, 3], [5, 5]]), "v": np.zeros((2, 2))}}
    Committer(run.block_dir(0)).commit(Commit(records, {}, {}, {}, {}, ["done"] * 2, final=True))
    seal(run)
    with h5py.File(run.run_file) as file:
        assert dict(file["metrics/s/loop"].attrs)["long_name"] == "loop, counted over all runs"
        assert file["metrics/s/loop"][:].tolist() == [3, 5]


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_axis_of_trials_has_a_unique_coordinate_so_that_subsets_align(tmp_path, engine):
    run = finished_run(tmp_path, trials=2, sweep={"lr": [0.1, 0.2]})
    with xarray.open_datatree(run.run_file, engine=engine) as tree:
        assert {"member", "trial", "condition"} <= set(tree.coords)
        assert tree["member"].values.tolist() == [0, 1, 2, 3]
        correct = tree["metrics/epoch/correct"].load()
        difference = correct.isel(member=[1, 2, 3]) - correct.isel(member=[0, 1, 2])
        assert difference["member"].values.tolist() == [1, 2]
        assert not difference.any()
        by_condition = correct.groupby(tree["condition"].load()).mean()
        assert by_condition.sel(condition=1, epoch=1).item() == (100 + 110) / 2
        with pytest.raises((KeyError, ValueError)):
            correct.groupby("trial")


def test_seeds_are_texts(tmp_path):
    run = finished_run(tmp_path, seed=2**63 - 1)
    with h5py.File(run.run_file) as file:
        assert file.attrs["seed"] == str(2**63 - 1)
        assert file["seed"].asstr()[:].tolist() == [str(2**63 - 1)] * 2
    with open_run(run) as results:
        assert (results.seed, results.seeds.tolist()) == (2**63 - 1, [2**63 - 1] * 2)
