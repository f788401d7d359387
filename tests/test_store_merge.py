"""``xfw merge``: parts together are the whole, in any order; what does not fit is refused with the differences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xfw.cli.main import invoke
from xfw.cli.run import Options, source_run
from xfw.errors import UserError
from xfw.experiment import Array, Records, Stream, Variable
from xfw.manifest import BlockPlan, Condition, Manifest, Member
from xfw.store import claims
from xfw.store.atomic import sha256_of
from xfw.store.commit import Commit, Committer
from xfw.store.export import trial_table
from xfw.store.lineage import trial_sources
from xfw.store.merge import merge
from xfw.store.results import open_run
from xfw.store.rundir import RunDir, create_run
from xfw.store.seal import seal
from xfw.testing.runs import RECORDS, finished_run, make_manifest, metrics_of

MODES = ("none", "output", "hidden")
LATER = "2026-02-01T00:00:00+00:00"


def trained(manifest: Manifest, results_dir: Path, declared: Records = RECORDS, **changes: Any) -> RunDir:
    """Return a sealed run whose numbers are a formula of swept value, trial, seed and row, not of any position."""
    run = create_run(results_dir, manifest, declared)
    for plan in manifest.blocks:
        directory = run.block_dir(plan.index)
        claim = claims.claim_block(directory, "cpu")
        assert claim is not None
        Committer(directory).commit(attrs.evolve(formula(manifest, plan), **changes))
        claims.write_end(directory, claims.End(claim.attempt, "done", "", claims.now()))
    seal(run)
    return run


def formula(manifest: Manifest, plan: BlockPlan) -> Commit:
    values = [manifest.conditions[member.condition].values.get("mode", "none") for member in plan.members]
    base = np.array(
        [100 * MODES.index(v) + 10 * m.trial + manifest.seed for v, m in zip(values, plan.members, strict=True)]
    )
    rows = 2 + base[0] // 10 % 3  # blocks stop at different rows
    grid = base[None] + np.arange(rows)[:, None]
    return Commit(
        records={
            "epoch": {
                "correct": grid.astype(np.int64),
                "loss": (1 / (1 + grid)).astype(np.float32),
                "accepted": grid % 2 == 0,
                "per_class": grid[..., None] + np.arange(3) / 10,
            }
        },
        arrays={"best": base, "weights/w": base[:, None] + np.arange(5.0)},
        state={},
        position={},
        layout={"strategy": "serial"},
        status=["done"] * len(base),
        final=True,
    )


def plan_of(members: Sequence[tuple[str, int]], modes: Sequence[str] = MODES, **changes: Any) -> Manifest:
    """Return a plan of these (mode, trial) pairs, each in a block of its own, conditions in the order of ``modes``."""
    present = [mode for mode in modes if any(mode == each for each, _ in members)]
    blocks = tuple(
        BlockPlan(number, (Member(present.index(mode), trial, f"{trial:016x}"),), 1, "serial", 10, 1000)
        for number, (mode, trial) in enumerate(members)
    )
    conditions = tuple(Condition(number, {"mode": mode}) for number, mode in enumerate(present))
    return attrs.evolve(make_manifest(), **{"axes": ("mode",), "conditions": conditions, "blocks": blocks} | changes)


def content(run: RunDir) -> dict[str, Any]:
    """Return everything a sealed file holds, apart from names of runs and times."""
    found: dict[str, Any] = {**metrics_of(run)}
    with open_run(run) as results:
        found |= {
            name: getattr(results, name) for name in ("key", "status", "conditions", "axes", "config", "parameters")
        }
        found |= {name: getattr(results, name).tolist() for name in ("trial", "condition", "seeds")}
        found["streams"] = {name: results.count(name).tolist() for name in results.streams()}
        found["hash"] = run.manifest.config_hash if run.manifest.merged else None
    return found


ALL = [(mode, trial) for mode in MODES for trial in range(3)]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(owners=st.lists(st.integers(0, 2), min_size=9, max_size=9), order=st.permutations(range(3)))
def test_parts_are_the_whole_in_any_order(tmp_path_factory: Any, owners: list[int], order: list[int]) -> None:
    folder = tmp_path_factory.mktemp("merge")
    whole = trained(plan_of(ALL), folder)
    parts = []
    for part in sorted(set(owners)):
        members = [pair for pair, owner in zip(ALL, owners, strict=True) if owner == part]
        parts.append(trained(plan_of(members, created=f"2026-01-0{part + 1}T00:00:00+00:00"), folder))
    if len(parts) < 2:
        return
    shuffled = [parts[place] for place in order if place < len(parts)]
    first, second = content(merge(parts, folder, ())), content(merge(shuffled, folder, ()))
    assert first == second
    assert by_trial(merge(parts, folder, ())) == by_trial(whole)


def by_trial(run: RunDir) -> dict[tuple[str, int], Any]:
    """Return all that is recorded of each trial, by mode and index, without padding."""
    found = {}
    with open_run(run) as results:
        for place, (mode, trial) in enumerate(zip(results.parameters["mode"], results.trial.tolist(), strict=True)):
            count = int(results.count("epoch")[place])
            rows = {name: results.values("epoch", name)[place, :count].tolist() for name in results.variables("epoch")}
            arrays = {name: results.array(name, place).tolist() for name in results.arrays()}
            found[mode, trial] = (results.key[place], rows, arrays)
    return found


def test_parts_by_trial_give_the_file_of_the_whole(tmp_path: Path) -> None:
    whole = trained(plan_of(ALL), tmp_path)
    parts = [trained(plan_of([pair for pair in ALL if pair[1] in kept]), tmp_path) for kept in ((0,), (1, 2))]
    merged = merge(parts, tmp_path, ())
    assert content(merged) | {"hash": None} == content(whole)


def test_a_merged_run_can_be_merged_again(tmp_path: Path) -> None:
    plans = [plan_of([(mode, trial) for mode in MODES], created=f"2026-01-0{trial + 1}") for trial in range(3)]
    one, two, three = (trained(plan, tmp_path) for plan in plans)
    twice = merge([merge([one, two], tmp_path, ()), three], tmp_path, ())
    assert content(twice) == content(merge([one, two, three], tmp_path, ()))
    with open_run(twice) as results:
        assert results.origin == [one.id, two.id, three.id] * 3


def test_origins_and_hashes_are_kept_and_the_parts_stay_as_they_are(tmp_path: Path) -> None:
    parts = [trained(plan_of([("none", trial)], created=f"2026-01-0{trial + 1}"), tmp_path) for trial in (0, 1)]
    before = {path: path.read_bytes() for part in parts for path in part.path.rglob("*") if path.is_file()}
    merged = merge(parts, tmp_path, ())
    assert [(each.run, each.sha256) for each in merged.manifest.merged] == [
        (part.id, sha256_of(part.run_file)) for part in parts
    ]
    assert {path: path.read_bytes() for path in before} == before


def test_seeds_may_differ_and_are_kept_for_each_trial(tmp_path: Path) -> None:
    parts = [trained(plan_of([("none", 0), ("none", 1)], seed=seed), tmp_path) for seed in (5, 9)]
    with open_run(merge(parts, tmp_path, ())) as results:
        assert results.seed == -1
        assert list(zip(results.trial.tolist(), results.seeds.tolist(), strict=True)) == [
            (0, 5),
            (0, 9),
            (1, 5),
            (1, 9),
        ]
        assert results.array("best").tolist() == [5, 9, 15, 19]
        assert next(trial_table(results))["seed"].tolist() == [5, 9, 5, 9]


def test_keys_that_differ_become_swept_keys(tmp_path: Path) -> None:
    first = finished_run(tmp_path, config={"lr": 0.1, "data": {"name": "digits", "size": 8}})
    second = finished_run(tmp_path, config={"lr": 0.2, "data": {"name": "digits"}}, seed=8, created=LATER)
    with open_run(merge([first, second], tmp_path, ())) as results:
        assert results.axes == ["data.size", "lr"]
        assert results.parameters == {"lr": [0.1, 0.1, 0.2, 0.2], "data.size": [8, 8, None, None]}
        assert results.config == {"data": {"name": "digits"}}
    with h5py.File(results.path) as file:
        assert file["param/lr"][:].tolist() == [0.1, 0.1, 0.2, 0.2]


def test_equal_configurations_are_one_condition(tmp_path: Path) -> None:
    swept = finished_run(tmp_path, sweep={"lr": [0.1, 0.2]}, config={"width": 4})
    plain = finished_run(tmp_path, config={"width": 4, "lr": 0.2}, seed=8, created=LATER)
    with open_run(merge([swept, plain], tmp_path, ())) as results:
        assert results.conditions == [{"lr": 0.1}, {"lr": 0.2}]
        assert results.condition.tolist() == [0, 0, 1, 1, 1, 1]


def test_streams_of_unequal_length_are_padded(tmp_path: Path) -> None:
    short, long = finished_run(tmp_path, rows=2), finished_run(tmp_path, rows=4, seed=8)
    with open_run(merge([short, long], tmp_path, ())) as results:
        assert results.count("epoch").tolist() == [2, 4, 2, 4]
        assert results.values("epoch", "correct").tolist() == [
            [0, 1, -1, -1],
            [0, 1, 2, 3],
            [10, 11, -1, -1],
            [10, 11, 12, 13],
        ]
        assert results.coordinate("epoch").tolist() == [1, 2, 3, 4]


def test_arrays_of_unequal_shape_become_ragged(tmp_path: Path) -> None:
    parts = []
    for seed, size in ((1, 2), (2, 3)):
        arrays = {"w": np.full((1, size), seed), "bad": [np.ones(seed)]}
        parts.append(trained(plan_of([("none", 0)], seed=seed), tmp_path, arrays=arrays))
    with open_run(merge(parts, tmp_path, ())) as results:
        assert results.arrays() == []
        found = [{name: value.tolist() for name, value in results.ragged(place).items()} for place in (0, 1)]
    assert found == [{"w": [1, 1], "bad": [1.0]}, {"w": [2, 2, 2], "bad": [1.0, 1.0]}]


def test_recorded_coordinates_that_differ_are_kept_for_each_trial(tmp_path: Path) -> None:
    records = Records((Stream("s", "step", (Variable("step", "int64", "step"), Variable("x", "float64", "x"))),))
    parts = []
    for seed in (1, 2):
        rows = {"step": np.array([[10 * seed], [20 * seed]]), "x": np.array([[1.0], [2.0]])}
        parts.append(trained(plan_of([("none", 0)], seed=seed), tmp_path, records, records={"s": rows}))
    with open_run(merge(parts, tmp_path, ())) as results:
        assert results.values("s", "trial_step").tolist() == [[10, 20], [20, 40]]


def test_xarray_reads_a_merged_file(tmp_path: Path) -> None:
    parts = [trained(plan_of([("none", trial)]), tmp_path) for trial in (0, 1)]
    with xarray.open_datatree(merge(parts, tmp_path, ()).run_file, engine="netcdf4") as tree:
        assert tree["metrics/epoch/per_class"].dims == ("member", "epoch", "class")
        assert tree["origin"].values.tolist() == [part.id for part in parts]


# --- what is refused -------------------------------------------------------------------------------------


def refused(runs: Sequence[RunDir], tmp_path: Path) -> str:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        merge(runs, tmp_path, ())
    assert caught.value.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before
    return str(caught.value)


def test_the_same_trial_twice_is_refused_with_its_name(tmp_path: Path) -> None:
    first = trained(plan_of([("none", 0), ("output", 1)]), tmp_path)
    second = trained(plan_of([("output", 1), ("none", 1)]), tmp_path)
    text = refused([first, second], tmp_path)
    assert "1 trials are there twice" in text
    assert "mode=output trial 1, seed 7" in text
    assert first.id in text
    assert second.id in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (attrs.evolve(RECORDS.streams[0], schema=2), "stream epoch: "),
        (attrs.evolve(RECORDS.streams[0], first=0), "coordinate epoch from 1, schema 1; "),
        (
            attrs.evolve(RECORDS.streams[0], variables=(Variable("correct", "float64", "x"),)),
            "variable epoch/correct: ",
        ),
    ],
)
def test_another_schema_is_refused_with_the_differences(tmp_path: Path, changed: Stream, message: str) -> None:
    other = create_run(tmp_path, make_manifest(seed=8, created=LATER), Records((changed,)))
    assert message in refused([finished_run(tmp_path), done(other)], tmp_path)


def done(run: RunDir) -> RunDir:
    """Seal a run whose blocks have ended without a record."""
    for block in run.manifest.blocks:
        claim = claims.claim_block(run.block_dir(block.index), "cpu")
        assert claim is not None
        claims.write_end(run.block_dir(block.index), claims.End(1, "done", "", claims.now()))
    seal(run)
    return run


def test_another_array_is_refused(tmp_path: Path) -> None:
    other = create_run(tmp_path, make_manifest(seed=8), attrs.evolve(RECORDS, arrays=(Array("best", "float32", "x"),)))
    assert "array best: " in refused([finished_run(tmp_path), done(other)], tmp_path)


def test_another_experiment_or_stage_is_refused(tmp_path: Path) -> None:
    other = finished_run(tmp_path, experiment="other", stages=("train", "evaluate"), seed=8)
    text = refused([finished_run(tmp_path), other], tmp_path)
    assert "experiment: " in text
    assert "stages: " in text


def test_unfinished_runs_and_a_single_one_are_refused(tmp_path: Path) -> None:
    finished, pending = finished_run(tmp_path), create_run(tmp_path, make_manifest(seed=8), RECORDS)
    assert f"xfw resume {pending.id}" in refused([finished, pending], tmp_path)
    assert "two runs or more" in refused([finished, finished], tmp_path)


def test_nothing_is_left_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [trained(plan_of([("none", trial)]), tmp_path) for trial in (0, 1)]

    def full(*_: Any, **__: Any) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr("xfw.store.seal.hdf5.write_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        merge(parts, tmp_path, ())
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == sorted(part.id for part in parts)


# --- the command, and the other commands on a merged run ---------------------------------------------------


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mapping[str, Any]:
    monkeypatch.chdir(tmp_path)
    parts = [trained(plan_of([("none", 0), ("output", 0)], seed=seed), Path("results")) for seed in (1, 2)]
    assert invoke(["merge", *(part.id for part in parts), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found | {"parts": [part.id for part in parts]}


def test_the_command_says_what_it_made(merged: Mapping[str, Any]) -> None:
    assert (merged["trials"], merged["conditions"], sorted(merged["merged"])) == (4, 2, sorted(merged["parts"]))
    assert Path(merged["path"], "run.h5").is_file()


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert invoke(arguments) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def test_other_commands_take_a_merged_run(merged: Mapping[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(capsys, "show", merged["run"])
    assert "seed       several" in shown
    assert f"merged     {', '.join(merged['merged'])}" in shown
    assert "4 of 4 done" in shown
    assert "done" in printed(capsys, "runs", "demo")
    assert "2 of 2 blocks done" not in printed(capsys, "resume", merged["run"])
    exported = printed(capsys, "export", merged["run"], "--format", "csv").splitlines()
    assert len(Path(exported[0]).read_text().splitlines()) == 5
    assert "1 run" in printed(capsys, "clean", merged["run"], "--yes")


def test_resume_says_that_nothing_is_left_to_do(merged: Mapping[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(merged["path"]).rglob("*")}
    assert "nothing to do" in printed(capsys, "resume", merged["run"])
    assert {path: path.stat().st_mtime_ns for path in Path(merged["path"]).rglob("*")} == before
    Path(merged["path"], "run.h5").unlink()
    error = printed(capsys, "resume", merged["run"], code=2)
    assert f"xfw merge {' '.join(merged['merged'])}" in error


def test_a_merged_run_is_tracked_by_its_parts(merged: Mapping[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    error = printed(capsys, "resume", merged["run"], "--track", "wandb", code=2)
    assert f"track its parts: {', '.join(merged['merged'])}" in error


def test_from_starts_from_a_part_and_not_from_a_merged_run(merged: Mapping[str, Any]) -> None:
    options = Options(source=merged["run"], results_dir=Path("results"))
    with pytest.raises(UserError, match=f"start from one of its parts: {', '.join(merged['merged'])}"):
        source_run(options, "demo")


def test_a_merged_run_is_sealed_by_nobody(merged: Mapping[str, Any]) -> None:
    with pytest.raises(UserError, match="was merged"):
        seal(RunDir(Path(merged["path"])))


def test_a_block_reads_the_trials_of_a_part_and_not_of_a_merged_run(tmp_path: Path) -> None:
    """Trial 0 may be there once for each seed: neither of the two is meant."""
    parts = [finished_run(tmp_path, trials=2, seed=seed) for seed in (7, 8)]
    with pytest.raises(UserError, match="was merged") as caught:
        trial_sources(merge(parts, tmp_path, ()), [Member(0, 0, "")], {0: 0})
    assert all(part.id in str(caught.value) for part in parts)
