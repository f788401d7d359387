"""Sealed files: what they hold, and that readers which know nothing of xfw can read them."""

from __future__ import annotations

import attrs
import h5py
import numpy as np
import pytest
import xarray
from xfw.experiment import Array, Records
from xfw.manifest import BlockPlan, Member
from xfw.store import claims
from xfw.store.commit import Commit, Committer
from xfw.store.hdf5 import CHUNK_BYTES, chunk_shape
from xfw.store.rundir import create_run
from xfw.store.seal import seal
from xfw.testing.runs import RECORDS, commit_rows, finish_block, finished_run, make_manifest

SWEEP = {"mode": ["none", "output"]}


@pytest.fixture
def run(tmp_path):
    return finished_run(tmp_path, trials=3, sweep=SWEEP, blocks=2, idle=2)


def one_block(tmp_path, commit, records=None, **options):
    """Seal a run of one block that consists of one commit."""
    run = create_run(tmp_path, make_manifest(**options), records or Records())
    claim = claims.claim_block(run.block_dir(0), "cpu")
    Committer(run.block_dir(0)).commit(commit)
    claims.write_end(run.block_dir(0), claims.End(claim.attempt, "done", "", claims.now()))
    seal(run)
    return run


def bare_commit(**changes):
    fields = {"records": {}, "arrays": {}, "state": {}, "position": {}, "layout": {}, "status": ["done", "done"]}
    return Commit(**(fields | {"final": True} | changes))


def test_trials_are_ordered_by_condition_then_trial(run):
    with h5py.File(run.run_file) as file:
        assert file["trial"][:].tolist() == [0, 1, 2, 0, 1, 2]
        assert file["condition"][:].tolist() == [0, 0, 0, 1, 1, 1]
        assert file["param/mode"].asstr()[:].tolist() == ["none"] * 3 + ["output"] * 3


def test_metrics_are_trial_by_row_and_idle_lanes_never_appear(run):
    with h5py.File(run.run_file) as file:
        expected = [[100 * c + 10 * t + row for row in range(4)] for c in (0, 1) for t in (0, 1, 2)]
        assert file["metrics/epoch/correct"][:].tolist() == expected
        assert file["metrics/epoch/epoch"][:].tolist() == [1, 2, 3, 4]
        assert file["metrics/epoch/per_class"].shape == (6, 4, 3)
        assert file["arrays/best"][:].tolist() == [0, 10, 20, 100, 110, 120]


def test_element_types_are_those_declared(run):
    with h5py.File(run.run_file) as file:
        group = file["metrics/epoch"]
        assert [group[name].dtype for name in ("correct", "loss", "accepted", "per_class")] == [
            np.int64,
            np.float32,
            np.int8,
            np.float64,
        ]
        assert group["accepted"].attrs["dtype"] == "bool"
        assert group["per_class"].attrs["units"] == "%"
        assert group["loss"].attrs["long_name"] == "mean loss"
        assert group["loss"].attrs["schema"] == 1


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_named_dimensions(run, engine):
    with xarray.open_datatree(run.run_file, engine=engine) as tree:
        epoch = tree["metrics/epoch"]
        assert epoch["per_class"].dims == ("member", "epoch", "class")
        assert epoch["correct"].sel(epoch=3).values.tolist() == [2, 12, 22, 102, 112, 122]
        assert epoch["accepted"].dtype == np.bool_
        assert tree["arrays/best"].dims == ("member",)
        assert tree["param/mode"].values.tolist() == ["none"] * 3 + ["output"] * 3
        assert tree["status"].values.tolist() == ["done"] * 6
        assert tree.attrs["format"] == "xfw-run"


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_nested_arrays_and_ragged_ones(tmp_path, engine):
    square = np.arange(18.0).reshape(2, 3, 3)
    per_trial = [np.ones((2, 5)), np.zeros((4, 4))]
    run = one_block(tmp_path, bare_commit(arrays={"lkg/0.weight": square, "mask": per_trial}))
    with xarray.open_datatree(run.run_file, engine=engine) as tree:
        assert tree["arrays/lkg/0.weight"].dims == ("member", "axis1_3", "axis2_3")
        np.testing.assert_array_equal(tree["arrays/lkg/0.weight"].values, square)
        assert tree["ragged/0/mask"].shape == (2, 5)
        assert tree["ragged/1/mask"].dims == ("axis1_4", "axis2_4")


def test_every_axis_has_a_dimension_scale(run):
    with h5py.File(run.run_file) as file:

        def check(name, item):
            if isinstance(item, h5py.Dataset) and not item.is_scale:
                assert all(len(item.dims[axis]) == 1 for axis in range(item.ndim)), name

        file.visititems(check)


def test_one_axis_name_with_two_lengths_gets_two_scales(tmp_path):
    arrays = {"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}
    declared = Records(arrays=tuple(Array(name, "float64", name, axes=("layer",)) for name in arrays))
    run = one_block(tmp_path, bare_commit(arrays=arrays), declared)
    with xarray.open_datatree(run.run_file, engine="h5netcdf") as tree:
        assert tree["arrays/a"].dims == ("member", "layer")
        assert tree["arrays/b"].dims == ("member", "layer_4")


def test_file_is_within_the_format_bounds_and_keeps_the_order_of_creation(run):
    assert run.run_file.read_bytes()[8] <= 2, "version of the superblock: 3 is 1.10 with single-writer access"
    with h5py.File(run.run_file) as file:
        assert list(file)[:4] == ["member", "trial", "condition", "seed"]
        assert list(file["metrics/epoch"])[:4] == ["epoch", "count", "correct", "loss"]


def test_large_datasets_are_compressed_with_checksum_and_small_ones_are_not(tmp_path):
    records = {"step": {"large": np.zeros((2000, 2)), "small": np.zeros((2000, 2), bool)}}
    run = one_block(tmp_path, bare_commit(records=records))
    with h5py.File(run.run_file) as file:
        large, small = file["metrics/step/large"], file["metrics/step/small"]
        assert (large.compression, large.compression_opts, large.shuffle, large.fletcher32) == ("gzip", 4, True, True)
        assert small.compression is None


@pytest.mark.parametrize("shape", [(10, 100), (10, 100_000), (3, 7, 5000, 11), (1000, 3), (2, 10_000_000)])
def test_chunks_hold_one_trial_by_trailing_axes_within_bounds(shape):
    chunk = chunk_shape(shape, 8)
    nbytes = int(np.prod(chunk)) * 8
    assert nbytes <= CHUNK_BYTES[1]
    assert nbytes >= CHUNK_BYTES[0] or chunk == shape
    assert chunk[0] == 1 or chunk[1:] == shape[1:]


def test_rows_beyond_a_trials_count_are_padding(tmp_path):
    run = create_run(tmp_path, make_manifest(trials=2, blocks=2), RECORDS)
    finish_block(run, 0, 4)
    finish_block(run, 1, 2, end="failed")
    seal(run)
    with h5py.File(run.run_file) as file:
        group = file["metrics/epoch"]
        assert group["count"][:].tolist() == [4, 2]
        assert group["correct"][1].tolist() == [10, 11, -1, -1]
        assert np.isnan(group["loss"][1, 2:]).all()
        assert group["accepted"][1].tolist() == [1, 0, 0, 0]
        assert file["status"].asstr()[:].tolist() == ["done", "failed"]
        assert file["arrays/best"][:].tolist() == [0, -1]


def test_status_of_a_block_that_never_started_is_pending(tmp_path):
    run = create_run(tmp_path, make_manifest(trials=2, blocks=2), RECORDS)
    finish_block(run, 1)
    seal(run)
    with h5py.File(run.run_file) as file:
        assert file["status"].asstr()[:].tolist() == ["pending", "done"]
        assert file["attempts"][:].tolist() == [0, 1]
        assert file["metrics/epoch/count"][:].tolist() == [0, 4]


def test_diverged_trial_keeps_its_status_in_an_interrupted_block(tmp_path):
    run = create_run(tmp_path, make_manifest(trials=2), RECORDS)
    plan = run.manifest.blocks[0]
    claim = claims.claim_block(run.block_dir(0), "cpu")
    commit = attrs.evolve(commit_rows(plan.members, plan.width, 0, 2), status=["running", "diverged"])
    Committer(run.block_dir(0)).commit(commit)
    claims.write_end(run.block_dir(0), claims.End(claim.attempt, "interrupted", "", claims.now()))
    seal(run)
    with h5py.File(run.run_file) as file:
        assert file["status"].asstr()[:].tolist() == ["interrupted", "diverged"]


def test_nothing_recorded_yet_can_be_sealed(tmp_path):
    run = create_run(tmp_path, make_manifest(), RECORDS)
    seal(run)
    with h5py.File(run.run_file) as file:
        assert file["status"].asstr()[:].tolist() == ["pending", "pending"]
        assert "metrics" not in file


def test_sealing_twice_gives_equal_bytes(run):
    first = run.run_file.read_bytes()
    seal(run)
    assert run.run_file.read_bytes() == first


def test_how_trials_are_dealt_over_blocks_does_not_change_the_metrics(tmp_path):
    files = [finished_run(tmp_path / str(n), trials=4, sweep=SWEEP, blocks=n).run_file for n in (1, 3)]
    with h5py.File(files[0]) as one, h5py.File(files[1]) as three:
        for name in one["metrics/epoch"]:
            np.testing.assert_array_equal(one[f"metrics/epoch/{name}"][()], three[f"metrics/epoch/{name}"][()])


def test_trailing_axes_of_unequal_length_are_padded(tmp_path):
    members = [Member(0, 0, "0"), Member(0, 1, "1")]
    plans = tuple(BlockPlan(i, (member,), 1, "serial", 1, 1) for i, member in enumerate(members))
    run = create_run(tmp_path, attrs.evolve(make_manifest(trials=2), blocks=plans), Records())
    for index, layers in enumerate((2, 3)):
        claims.claim_block(run.block_dir(index), "cpu")
        values = np.full((1, 1, layers), index, np.int64)
        Committer(run.block_dir(index)).commit(bare_commit(records={"s": {"v": values}}, status=["done"]))
    seal(run)
    with h5py.File(run.run_file) as file:
        assert file["metrics/s/v"][:, 0].tolist() == [[0, 0, -1], [1, 1, 1]]


def test_recorded_coordinate_becomes_the_scale(tmp_path):
    epochs = np.array([[4, 4], [5, 5]])
    run = one_block(tmp_path, bare_commit(records={"epoch": {"epoch": epochs, "loss": np.ones((2, 2))}}), RECORDS)
    with h5py.File(run.run_file) as file:
        assert file["metrics/epoch/epoch"][:].tolist() == [4, 5]
        assert file["metrics/epoch/epoch"].is_scale


def test_coordinate_that_differs_between_trials_is_kept_per_trial(tmp_path):
    epochs = np.array([[4, 5], [5, 6]])
    run = one_block(tmp_path, bare_commit(records={"epoch": {"epoch": epochs, "loss": np.ones((2, 2))}}), RECORDS)
    with h5py.File(run.run_file) as file:
        assert file["metrics/epoch/epoch"][:].tolist() == [1, 2]
        assert file["metrics/epoch/trial_epoch"][:].tolist() == [[4, 5], [5, 6]]


def test_nested_stream_names_become_groups(tmp_path):
    run = one_block(tmp_path, bare_commit(records={"record/detail": {"q": np.ones((2, 2, 5))}}))
    with xarray.open_datatree(run.run_file, engine="netcdf4") as tree:
        assert tree["metrics/record/detail/q"].dims == ("member", "row", "axis1_5")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1, 0.5], [1.0, 0.5]),
        ([True, False], [1, 0]),
        (["a", 1], ["a", "1"]),
        ([[1], [2]], ["[1]", "[2]"]),
    ],
)
def test_swept_values_are_numbers_booleans_or_text(tmp_path, values, expected):
    run = finished_run(tmp_path, trials=1, sweep={"net.x": values})
    with h5py.File(run.run_file) as file:
        column = file["param/net.x"]
        found = column.asstr()[:] if h5py.check_string_dtype(column.dtype) else column[:]
        assert found.tolist() == expected


def test_long_configurations_fit_into_the_attributes(tmp_path):
    run = finished_run(tmp_path, config={"text": "x" * 200_000})
    with h5py.File(run.run_file) as file:
        assert len(file.attrs["config_json"]) > 200_000
