"""Commits: new records, then the state that counts them; what is left of a kill between the two."""

from __future__ import annotations

import os
import shutil
import threading
from functools import partial
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from xfw.errors import UserError
from xfw.manifest import Member
from xfw.store import atomic, claims, hdf5, segments, state
from xfw.store.commit import Commit, Committer, load_state
from xfw.testing.runs import commit_rows

MEMBERS = (Member(0, 0, "0"), Member(0, 1, "1"))


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def rows(first, count, **changes):
    return attrs.evolve(commit_rows(MEMBERS, 3, first, count), **changes)


def test_state_comes_back_as_it_was_committed(tmp_path):
    commit = rows(0, 2)
    Committer(tmp_path).commit(commit)
    found = load_state(tmp_path)
    assert found.position == {"epoch": 2, "first_epoch": 0}
    assert found.status == ("running", "running")
    assert found.layout == commit.layout
    assert (found.segments, found.rows, found.final) == ((1,), {"epoch": 2}, False)
    for name, values in commit.state.items():
        np.testing.assert_array_equal(found.state[name], values)
        assert found.state[name].dtype == values.dtype


def test_there_is_no_state_before_the_first_commit(tmp_path):
    assert load_state(tmp_path) is None


def test_records_of_all_commits_are_joined(tmp_path):
    committer = Committer(tmp_path)
    committer.commit(rows(0, 2))
    committer.commit(rows(2, 3))
    found = segments.read_all(tmp_path, (1, 1))
    whole = rows(0, 5).records
    for name, values in whole["epoch"].items():
        np.testing.assert_array_equal(found["epoch"][name], values)


def test_commit_without_new_records_writes_no_segment(tmp_path):
    committer = Committer(tmp_path)
    committer.commit(rows(0, 2))
    committer.commit(rows(2, 0))
    assert load_state(tmp_path).segments == (1,)
    assert len(list((tmp_path / "segments").iterdir())) == 1


def test_arrays_of_earlier_commits_and_attempts_are_kept(tmp_path):
    Committer(tmp_path).commit(rows(0, 1, arrays={"a": np.arange(3)}))
    again = Committer(tmp_path, load_state(tmp_path))
    again.commit(rows(1, 1, arrays={"b": [np.ones((2, 2)), np.zeros(3)]}))
    found = load_state(tmp_path)
    assert found.arrays["a"].tolist() == [0, 1, 2]
    assert [value.shape for value in found.arrays["b"]] == [(2, 2), (3,)]


def test_resumed_committer_goes_on_where_the_last_one_stopped(tmp_path):
    Committer(tmp_path).commit(rows(0, 2))
    Committer(tmp_path, load_state(tmp_path)).commit(rows(2, 2))
    found = load_state(tmp_path)
    assert (found.segments, found.rows) == ((1, 1), {"epoch": 4})


def test_recovery_removes_temporaries_and_segments_that_do_not_count(tmp_path):
    committer = Committer(tmp_path)
    committer.commit(rows(0, 2))
    segments.write(tmp_path, 2, {"epoch": 2}, rows(2, 1).records, 1)
    (tmp_path / "segments" / "00003.h5.77.tmp").write_bytes(b"half")
    (tmp_path / "state-1.h5.77.tmp").write_bytes(b"half")
    again = Committer(tmp_path, load_state(tmp_path), attempt=2)
    assert not list(tmp_path.glob("*.tmp"))
    again.commit(rows(2, 2))
    assert sorted(path.name for path in tmp_path.rglob("*.h5")) == ["00001-1.h5", "00002-2.h5", "state-2.h5"]
    assert load_state(tmp_path).segments == (1, 2)


def test_attempt_that_was_taken_for_lost_cannot_commit_any_more(tmp_path):
    claims.claim_block(tmp_path, "cpu")
    old = Committer(tmp_path, attempt=1, fence=partial(claims.check_newest, tmp_path, 1))
    old.commit(rows(0, 2))
    claims.write_end(tmp_path, claims.End(1, "interrupted", "", claims.now()))
    claims.claim_block(tmp_path, "cpu")
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*.h5")}
    with pytest.raises(claims.Superseded, match="attempt 2 has taken over; attempt 1 writes nothing more"):
        old.commit(rows(2, 2))
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.h5")} == before


@pytest.mark.parametrize("late", ["before", "after"])
def test_commit_that_was_under_way_when_a_later_attempt_began_is_whole_or_does_not_count(tmp_path, late):
    """An old writer looks, is frozen, and commits when the new one has read its state, or has committed too."""
    old = Committer(tmp_path, attempt=1)
    old.commit(rows(0, 2))
    new = Committer(tmp_path, load_state(tmp_path), attempt=2)
    if late == "before":
        old.commit(rows(2, 1))
        assert len(segments.read_all(tmp_path, load_state(tmp_path).segments)["epoch"]["loss"]) == 3
    new.commit(rows(2, 2))
    if late == "after":
        old.commit(rows(2, 1))
    found = load_state(tmp_path)
    assert (found.segments, found.rows) == ((1, 2), {"epoch": 4})
    assert len(segments.read_all(tmp_path, found.segments)["epoch"]["loss"]) == 4
    Committer(tmp_path, found, attempt=3).commit(rows(4, 1))
    assert sorted(path.name for path in tmp_path.rglob("*.h5")) == [
        "00001-1.h5",
        "00002-2.h5",
        "00003-3.h5",
        "state-3.h5",
    ]


def test_files_of_the_first_version_are_read_and_gone_on_from(tmp_path, monkeypatch):
    describe = state.describe
    monkeypatch.setattr(state, "describe", lambda restored: describe(restored) | {"segments": 1})
    Committer(tmp_path, attempt=0).commit(rows(0, 2))
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.rglob("*.h5")) == ["00001.h5", "state.h5"]
    Committer(tmp_path, load_state(tmp_path), attempt=2).commit(rows(2, 1))
    found = load_state(tmp_path)
    assert found.segments == (0, 2)
    assert len(segments.read_all(tmp_path, found.segments)["epoch"]["loss"]) == 3
    assert not (tmp_path / "state.h5").exists()


def test_segment_whose_state_was_never_written_does_not_count(tmp_path, monkeypatch):
    committer = Committer(tmp_path)
    committer.commit(rows(0, 2))
    fail_on(monkeypatch, "state-1.h5")
    with pytest.raises(UserError, match="the disk is full"):
        committer.commit(rows(2, 2))
    found = load_state(tmp_path)
    assert (found.segments, found.rows, found.position) == ((1,), {"epoch": 2}, {"epoch": 2, "first_epoch": 0})


def test_failed_commit_can_be_repeated(tmp_path, monkeypatch):
    committer = Committer(tmp_path)
    with monkeypatch.context() as patch:
        fail_on(patch, "state-1.h5")
        with pytest.raises(UserError):
            committer.commit(rows(0, 2))
    committer.commit(rows(0, 3))
    assert load_state(tmp_path).rows == {"epoch": 3}
    assert len(segments.read_all(tmp_path, (1,))["epoch"]["loss"]) == 3


def fail_on(patch, name):
    """Let the disk be full when a file of this name is written."""
    write = atomic.write_synced

    def full(path, parts, last=None):
        if path.name.startswith(name):
            raise OSError(28, "No space left on device")
        write(path, parts, last)

    patch.setattr(atomic, "write_synced", full)


@pytest.mark.parametrize("keep", [0, 100, 600, 5000, -1])
def test_truncated_state_is_refused_and_left_alone(tmp_path, keep):
    Committer(tmp_path).commit(rows(0, 2))
    path = tmp_path / "state-1.h5"
    path.write_bytes(path.read_bytes()[:keep])
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"state-1\.h5 is damaged") as caught:
        load_state(tmp_path)
    assert caught.value.exit_code == 2
    assert path.read_bytes() == before


@settings(max_examples=50, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_changed_byte_of_a_state_is_noticed(tmp_path_factory, place, flip):
    path = tmp_path_factory.mktemp("block")
    Committer(path).commit(rows(0, 1))
    data = bytearray((path / "state-1.h5").read_bytes())
    position = int(place * len(data))
    padding = 84 <= position < 512  # of the header, which holds nothing there
    data[position] ^= flip
    (path / "state-1.h5").write_bytes(data)
    if padding:
        assert load_state(path) is not None
    else:
        with pytest.raises(UserError, match=r"state-1\.h5 is damaged"):
            load_state(path)


def test_truncated_segment_is_refused_by_name(tmp_path):
    Committer(tmp_path).commit(rows(0, 2))
    path = segments.path_of(tmp_path, 1, 1)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"segments/00001-1\.h5 is damaged"):
        segments.read_all(tmp_path, (1,))


def test_missing_segment_is_refused_by_name(tmp_path):
    Committer(tmp_path).commit(rows(0, 2))
    segments.path_of(tmp_path, 1, 1).unlink()
    with pytest.raises(UserError, match=r"cannot read .*00001-1\.h5") as caught:
        segments.read_all(tmp_path, (1,))
    assert caught.value.exit_code == 2


def test_segment_of_another_place_is_refused(tmp_path):
    committer = Committer(tmp_path)
    committer.commit(rows(0, 2))
    committer.commit(rows(2, 2))
    segments.path_of(tmp_path, 1, 1).replace(segments.path_of(tmp_path, 2, 1))
    os.link(segments.path_of(tmp_path, 2, 1), segments.path_of(tmp_path, 1, 1))
    with pytest.raises(UserError, match="holds segment 1"):
        segments.read_all(tmp_path, (1, 1))


def test_variables_of_a_stream_must_have_equally_many_rows(tmp_path):
    bad = {"epoch": {"a": np.zeros((2, 3)), "b": np.zeros((1, 3))}}
    with pytest.raises(ValueError, match="different numbers of rows"):
        Committer(tmp_path).commit(rows(0, 0, records=bad))


def test_commits_are_at_least_ten_seconds_apart(tmp_path):
    clock = Clock()
    committer = Committer(tmp_path, clock=clock)
    assert not committer.due()
    clock.now += 9.9
    assert not committer.due()
    clock.now += 0.2
    assert committer.due()
    committer.commit(rows(0, 1))
    assert not committer.due()


def test_slow_commits_are_fifty_durations_apart(tmp_path, monkeypatch):
    clock = Clock()
    committer = Committer(tmp_path, clock=clock)
    write = atomic.write_synced

    def slow(path, parts, last=None):
        clock.now += 0.5
        write(path, parts, last)

    monkeypatch.setattr(atomic, "write_synced", slow)
    committer.commit(rows(0, 1))  # two files: one second
    clock.now += 49.9
    assert not committer.due()
    clock.now += 0.2
    assert committer.due()


def test_shortest_time_of_zero_commits_whenever_asked(tmp_path):
    committer = Committer(tmp_path, shortest=0)
    committer.commit(rows(0, 1))
    assert committer.due()


def test_time_of_earlier_attempts_is_added(tmp_path):
    clock = Clock()
    first = Committer(tmp_path, clock=clock)
    clock.now += 5
    first.commit(rows(0, 1))
    clock.now += 1000
    second = Committer(tmp_path, load_state(tmp_path), clock=clock)
    clock.now += 2
    second.commit(rows(1, 1))
    assert load_state(tmp_path).elapsed == 7.0


arrays = hnp.arrays(
    st.sampled_from([np.int64, np.float32, np.float64, np.bool_]), hnp.array_shapes(max_dims=3, min_side=0, max_side=4)
)


@settings(max_examples=40, deadline=None)
@given(state=st.dictionaries(st.from_regex(r"[a-z]{1,5}(/[a-z.0-9]{1,5}x)?", fullmatch=True), arrays, max_size=4))
def test_any_arrays_come_back(tmp_path_factory, state):
    if any(f"{name}/".startswith(f"{other}/") for name in state for other in state if name != other):
        return
    path = tmp_path_factory.mktemp("block")
    Committer(path).commit(Commit({}, {}, state, {}, {}, ["running"]))
    found = load_state(path).state
    assert list(found) == list(state)
    for name, values in state.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape


def test_first_commit_of_a_large_block_waits_for_fifty_of_its_expected_duration(tmp_path):
    now = [0.0]
    committer = Committer(tmp_path, clock=lambda: now[0])
    committer.expect(10**9)  # two seconds at the assumed rate
    now[0] = 99.0
    assert not committer.due()
    now[0] = 100.0
    assert committer.due()


def test_a_measured_duration_counts_more_than_an_expected_one(tmp_path):
    now = [0.0]
    committer = Committer(tmp_path, clock=lambda: now[0])
    committer.expect(10**12)
    committer.commit(rows(0, 1))
    now[0] = 11.0
    assert committer.due()


def test_a_commit_writes_new_arrays_only(tmp_path):
    """Whatever has been set so far, the next commit is as small as what is new, and nothing is lost."""
    committer = Committer(tmp_path)
    large, sizes = np.random.default_rng(0).random((2, 100_000)), []
    for number in range(4):
        before = sum(path.stat().st_size for path in tmp_path.rglob("*.h5"))
        arrays = {"large": large} if number == 0 else {"small": np.array([number, number])} if number == 2 else {}
        committer.commit(attrs.evolve(rows(number, 1), arrays=arrays))
        sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("*.h5")) - before)
    assert sizes[0] > large.nbytes
    assert max(sizes[1:]) < 50_000
    again = Committer(tmp_path, load_state(tmp_path), attempt=2)
    again.commit(attrs.evolve(rows(4, 1), arrays={"small": np.array([7, 8])}))
    found = load_state(tmp_path)
    np.testing.assert_array_equal(found.arrays["large"], large)
    assert found.arrays["small"].tolist() == [7, 8]
    assert load_state(tmp_path, with_state=False).arrays == {}


def test_going_on_from_a_state_that_holds_its_arrays_keeps_them(tmp_path):
    """xfw 0.1 kept arrays in the state, which the next commit replaces."""
    golden = Path(__file__).parent / "golden" / "results" / "demo" / "demo-20260102-030405-0101" / "blocks" / "0001"
    shutil.copytree(golden, tmp_path / golden.parent.parent.name / "blocks" / "0001")
    block_dir = tmp_path / golden.parent.parent.name / "blocks" / "0001"
    old = load_state(block_dir)
    assert old.arrays["best"].tolist() == [100, 110] or old.arrays["best"].tolist() == [10, 110]
    committer = Committer(block_dir, old, attempt=2)
    committer.commit(Commit({}, {}, old.state, old.position, old.layout, old.status, final=True))
    assert [path.name for path in block_dir.glob("state*")] == ["state-2.h5"]
    assert load_state(block_dir).arrays["best"].tolist() == old.arrays["best"].tolist()


def test_a_file_that_is_replaced_while_it_is_read_is_never_called_damaged(tmp_path: Path) -> None:
    """A reader that meets a writer sees one of the two files whole."""
    path, kind = tmp_path / "state-1.h5", "xfw-race 1"
    done = threading.Event()

    def write(number: int) -> None:
        def fill(file: h5py.File) -> None:
            file["value"] = np.full(200_000, number, dtype=np.int64)

        hdf5.write_sealed(path, kind, fill)

    def keep_writing() -> None:
        number = 0
        while not done.is_set():
            number += 1
            write(number)

    write(0)
    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        for _ in range(150):
            with hdf5.read_sealed(path, kind) as file:
                assert len(np.unique(file["value"][()])) == 1
    finally:
        done.set()
        writer.join()
