"""Reading sealed runs, and what a run started with --from gets of them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from xfw.errors import UserError
from xfw.experiment import Records
from xfw.manifest import Member
from xfw.store import claims
from xfw.store.atomic import sha256_of
from xfw.store.commit import Commit, Committer
from xfw.store.lineage import trial_sources
from xfw.store.results import Results, open_run
from xfw.store.rundir import create_run
from xfw.store.seal import seal
from xfw.testing.runs import RECORDS, finished_run, make_manifest

SWEEP = {"net.mode": ["none", "output"]}


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path, trials=2, sweep=SWEEP, blocks=2, idle=1)


@pytest.fixture
def results(run):
    with open_run(run) as opened:
        yield opened


def test_identity_and_configuration(results, run):
    assert (results.run, results.experiment, results.preset, results.seed) == (run.id, "demo", "quick", 7)
    assert results.config == {"lr": 0.1, "data": {"name": "digits"}}
    assert results.provenance["data.name"] == "command line"
    assert results.default == "epoch/correct"


def test_trials_conditions_and_parameters(results):
    assert results.trial.tolist() == [0, 1, 0, 1]
    assert results.condition.tolist() == [0, 0, 1, 1]
    assert results.parameters == {"net.mode": ["none", "none", "output", "output"]}
    assert results.condition_labels() == ["net.mode=none", "net.mode=output"]
    assert results.status == ["done"] * 4


def test_run_without_sweep_is_labelled_by_its_preset(tmp_path):
    with open_run(finished_run(tmp_path)) as results:
        assert results.condition_labels() == ["quick"]
        assert results.parameters == {}


def test_streams_variables_and_values(results):
    assert results.streams() == ["epoch"]
    assert results.variables("epoch") == ["correct", "loss", "accepted", "per_class"]
    assert results.values("epoch", "correct").tolist() == [[b + r for r in range(4)] for b in (0, 10, 100, 110)]
    assert results.values("epoch", "accepted").dtype == np.bool_
    assert results.coordinate("epoch").tolist() == [1, 2, 3, 4]
    assert results.coordinate_name("epoch") == "epoch"
    assert results.count("epoch").tolist() == [4] * 4


def test_units_and_names(results):
    assert results.unit("epoch/per_class") == "%"
    assert results.long_name("epoch/loss") == "mean loss"
    assert results.long_name("best") == "best number of correct predictions"
    assert results.unit("best") == "1"


def test_arrays(results):
    assert results.arrays() == ["best"]
    assert results.array("best").tolist() == [0, 10, 100, 110]
    assert results.array("best", 2) == 100


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda results: results.values("epoch", "los"), "did you mean 'loss'"),
        (lambda results: results.values("epok", "loss"), "did you mean 'epoch'"),
        (lambda results: results.array("bets"), "did you mean 'best'"),
        (lambda results: results.unit("nothing"), "holds nothing named"),
    ],
)
def test_unknown_names_suggest_the_nearest(results, ask, message):
    with pytest.raises(UserError, match=message):
        ask(results)


def test_run_that_was_never_sealed_says_what_to_do(tmp_path):
    run = create_run(tmp_path, make_manifest(), RECORDS)
    with pytest.raises(UserError, match=f"xfw resume {run.id}") as caught:
        open_run(run)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("keep", [0, 10, 2000, -1])
def test_truncated_file_is_refused_and_left_alone(run, keep):
    data = run.run_file.read_bytes()[:keep]
    run.run_file.write_bytes(data)
    with pytest.raises(UserError, match=r"run\.h5 is damaged") as caught:
        open_run(run)
    assert caught.value.exit_code == 2
    assert run.run_file.read_bytes() == data


def test_damaged_values_are_noticed_by_their_checksum(tmp_path):
    run = create_run(tmp_path, make_manifest(), Records())
    claims.claim_block(run.block_dir(0), "cpu")
    values = np.random.default_rng(1).normal(size=(3000, 2))
    Committer(run.block_dir(0)).commit(Commit({"s": {"v": values}}, {}, {}, {}, {}, ["done"] * 2, final=True))
    seal(run)
    with h5py.File(run.run_file) as file:
        chunk = file["metrics/s/v"].id.get_chunk_info(0)
    data = bytearray(run.run_file.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    run.run_file.write_bytes(data)
    with pytest.raises(UserError, match=r"run\.h5 is damaged: these are not the bytes that were sealed"):
        open_run(run)
    with open_run(run, as_is=True) as results, pytest.raises(UserError, match=r"run\.h5 is damaged: metrics/s/v"):
        results.values("s", "v")


def test_other_hdf5_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w"):
        pass
    with pytest.raises(UserError, match="not a file of format 'xfw-run'"):
        Results(tmp_path / "x.h5")


@pytest.mark.parametrize(("version", "fine"), [("1.0", True), ("1.7", True), ("2.0", False)])
def test_readers_take_every_minor_version_of_their_major(run, version, fine):
    with h5py.File(run.run_file, "a") as file:
        file.attrs["format_version"] = version
    if fine:
        assert open_run(run, as_is=True).trial.tolist() == [0, 1, 0, 1]
    else:
        with pytest.raises(UserError, match=r"format version 2\.0"):
            open_run(run, as_is=True)


def test_content_hash_follows_the_bytes(run):
    before = sha256_of(run.run_file)
    seal(run)
    assert sha256_of(run.run_file) == before
    with pytest.raises(UserError, match="cannot read"):
        sha256_of(run.path / "absent.h5")


def test_source_of_a_trial_holds_configuration_arrays_and_last_row(run):
    one, two = trial_sources(run, [Member(0, 1, ""), Member(5, 0, "")], {0: 1, 5: 0})
    assert (one.condition, one.trial, two.condition, two.trial) == (1, 1, 0, 0)
    assert one.config == {"lr": 0.1, "data": {"name": "digits"}, "net": {"mode": "output"}}
    assert int(one.arrays["best"]) == 110
    assert one.rows("epoch") == 4
    assert int(one.last("epoch")["correct"]) == 113
    assert one.last("epoch")["per_class"].shape == (3,)
    assert (one.rows("other"), one.last("other")) == (0, {})


def test_weights_come_from_the_final_state_of_the_block(run):
    (source,) = trial_sources(run, [Member(0, 1, "")], {0: 1})
    found = source.weights("best")
    np.testing.assert_array_equal(found["weight"], [[1.0, 1.0]])
    np.testing.assert_array_equal(found["bias"], [0.5])
    np.testing.assert_array_equal(source.weights("parameters")["bias"], [4.0])
    assert source.weights("absent") is None


def test_weights_in_the_sealed_file_come_first(tmp_path):
    run = create_run(tmp_path, make_manifest(), Records())
    claims.claim_block(run.block_dir(0), "cpu")
    arrays = {"best/0.weight": np.arange(8.0).reshape(2, 2, 2)}
    Committer(run.block_dir(0)).commit(Commit({}, arrays, {}, {}, {}, ["done"] * 2, final=True))
    seal(run)
    (run.block_dir(0) / "state-1.h5").unlink()
    (source,) = trial_sources(run, [Member(0, 1, "")], {0: 0})
    np.testing.assert_array_equal(source.weights("best")["0.weight"], [[4, 5], [6, 7]])
    assert source.weights("other") is None


def test_weights_of_unequal_shape_are_found_too(tmp_path):
    run = create_run(tmp_path, make_manifest(), Records())
    claims.claim_block(run.block_dir(0), "cpu")
    arrays = {"best/w": [np.zeros((2, 3)), np.ones((4, 1))]}
    Committer(run.block_dir(0)).commit(Commit({}, arrays, {}, {}, {}, ["done"] * 2, final=True))
    seal(run)
    (source,) = trial_sources(run, [Member(0, 1, "")], {0: 0})
    assert source.weights("best")["w"].shape == (4, 1)
    with open_run(run) as results:
        assert results.arrays() == []
        assert results.ragged(0)["best/w"].shape == (2, 3)


def test_trial_that_the_source_lacks_is_refused(run):
    with pytest.raises(UserError, match="no trial 5 to start from") as caught:
        trial_sources(run, [Member(0, 5, "")], {0: 0})
    assert caught.value.exit_code == 2
