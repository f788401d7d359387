"""Run directories: made once, found by name, never by path."""

from __future__ import annotations

import tomllib

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xfw.errors import UserError
from xfw.experiment import Array, Records, Stream, Variable
from xfw.manifest import Source
from xfw.store import schema
from xfw.store.rundir import RunDir, create_run, find_run, list_runs, new_run_id
from xfw.testing.runs import RECORDS, make_manifest


def make_run(results, run_id=None, experiment="demo"):
    manifest = make_manifest(experiment=experiment)
    return create_run(results, attrs.evolve(manifest, run=run_id or manifest.run), RECORDS)


def test_manifest_is_read_as_it_was_written(tmp_path):
    manifest = make_manifest(trials=3, sweep={"net.lr": [0.1, 1]}, blocks=2, idle=1, source=Source("demo-x", "00"))
    run = create_run(tmp_path, manifest, RECORDS)
    assert RunDir(run.path).manifest == manifest


def test_absent_values_are_left_out_of_the_file(tmp_path):
    manifest = make_manifest(config={"a": None, "b": [1, 2], "c": {"d": None, "e": "x"}})
    run = create_run(tmp_path, manifest)
    assert tomllib.loads((run.path / "run.toml").read_text())["config"] == {"b": [1, 2], "c": {"e": "x"}}
    assert run.manifest.source is None


values = st.one_of(st.integers(-(2**62), 2**62), st.floats(allow_nan=False), st.text(), st.booleans())
nested = st.recursive(
    st.one_of(values, st.lists(st.integers(0, 9))),
    lambda inner: st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(config=st.dictionaries(st.text(min_size=1), nested, max_size=4), swept=st.lists(values, min_size=1, max_size=3))
def test_any_configuration_survives_the_file(tmp_path_factory, config, swept):
    manifest = make_manifest(config=config, sweep={"k": swept}, trials=1)
    run = create_run(tmp_path_factory.mktemp("results"), manifest)
    assert run.manifest == manifest


def test_directory_is_made_by_experiment_and_run(tmp_path):
    run = make_run(tmp_path / "deep" / "results")
    assert run.path.parent == tmp_path / "deep" / "results" / "demo"
    assert run.results_dir == tmp_path / "deep" / "results"
    assert run.block_dir(3) == run.path / "blocks" / "0003"
    assert run.block_dir(0).is_dir()


def test_taken_id_is_replaced_by_a_fresh_one(tmp_path):
    first = make_run(tmp_path, "demo-20260101-000000-aaaa")
    second = make_run(tmp_path, "demo-20260101-000000-aaaa")
    assert first.id == "demo-20260101-000000-aaaa" != second.id
    assert second.manifest.run == second.id


def test_run_without_an_id_gets_one(tmp_path):
    run = create_run(tmp_path, make_manifest(run=""))
    assert run.id.startswith("demo-")
    assert run.manifest.run == run.id


def test_fresh_ids_sort_by_time(tmp_path):
    name, date, time, random = new_run_id("neuronal_decay").rsplit("-", 3)
    assert (name, len(date), len(time), len(random)) == ("neuronal_decay", 8, 6, 4)


def test_results_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="cannot write to results directory") as caught:
        make_run(tmp_path / "results")
    assert caught.value.exit_code == 2
    assert "--results-dir" in caught.value.hint


def test_runs_are_listed_oldest_first_over_all_experiments(tmp_path):
    ids = ["zeta-20260101-000000-0000", "demo-20260102-000000-ffff", "demo-20260102-000001-0000"]
    for run_id in reversed(ids):
        make_run(tmp_path, run_id, run_id.partition("-")[0])
    assert [run.id for run in list_runs(tmp_path)] == ids


def test_what_is_not_a_run_is_not_listed(tmp_path):
    run = make_run(tmp_path)
    (tmp_path / "demo" / "report").mkdir()
    (tmp_path / "demo" / "demo-20260101-000000-aaaa").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "demo")
    (tmp_path / "demo" / "demo-20260101-000000-bbbb").symlink_to(run.path)
    assert [each.id for each in list_runs(tmp_path)] == [run.id]
    assert list_runs(tmp_path / "absent") == []


@pytest.mark.parametrize("text", ["@last", "demo", "demo-20260103-000000-cccc"])
def test_newest_run_is_found_by_last_experiment_and_id(tmp_path, text):
    for run_id in ("demo-20260101-000000-aaaa", "demo-20260103-000000-cccc", "demo-20260102-000000-bbbb"):
        make_run(tmp_path, run_id)
    assert find_run(tmp_path, text).id == "demo-20260103-000000-cccc"


def test_experiment_may_be_written_with_dashes(tmp_path):
    run = make_run(tmp_path, "neuronal_decay-20260101-000000-aaaa", "neuronal_decay")
    assert find_run(tmp_path, "neuronal-decay").id == run.id


PATHS = ["../x", "demo/demo-20260101-000000-aaaa", "/etc", "..", ".", "", "~", "a\\b", "a\0b", "-rf", "demo\n", "*"]


@pytest.mark.parametrize("text", PATHS)
def test_names_from_outside_never_become_paths(tmp_path, text):
    make_run(tmp_path / "results", "demo-20260101-000000-aaaa")
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match="is not the name of a run") as caught:
        find_run(tmp_path / "results", text)
    assert caught.value.exit_code == 2


def test_unknown_run_names_the_nearest(tmp_path):
    make_run(tmp_path, "demo-20260101-000000-aaaa")
    with pytest.raises(UserError, match="did you mean 'demo-20260101-000000-aaaa'"):
        find_run(tmp_path, "demo-20260101-000000-aaab")
    with pytest.raises(UserError, match="did you mean 'demo'"):
        find_run(tmp_path, "demos")


def test_no_runs_at_all_is_said(tmp_path):
    with pytest.raises(UserError, match="there are no runs in"):
        find_run(tmp_path, "@last")


@pytest.mark.parametrize("content", ["run = [", "run = 3", ""])
def test_damaged_manifest_is_named(tmp_path, content):
    run = make_run(tmp_path)
    (run.path / "run.toml").write_text(content)
    with pytest.raises(UserError, match=r"run\.toml") as caught:
        _ = RunDir(run.path).manifest
    assert caught.value.exit_code == 2


def test_manifest_of_a_newer_format_is_refused(tmp_path):
    run = make_run(tmp_path)
    path = run.path / "run.toml"
    _, _, body = path.read_text().partition("\n")
    path.write_text(body.replace("format = 1", "format = 2"))
    with pytest.raises(UserError, match="newer xfw"):
        _ = RunDir(run.path).manifest


def test_declaration_is_read_as_it_was_written(tmp_path):
    run = make_run(tmp_path)
    assert run.records == RECORDS


def test_run_without_declaration_declares_nothing(tmp_path):
    assert create_run(tmp_path, make_manifest()).records == Records()


def test_declarations_of_conditions_are_joined_by_name():
    loss, extra = Variable("loss", "float32", "loss"), Variable("extra", "int64", "extra")
    one = Records((Stream("epoch", "epoch", (loss,)),), (Array("a", "int64", "a"),), "epoch")
    two = Records((Stream("epoch", "epoch", (loss, extra)),), (Array("b", "int64", "b"),), "other")
    joined = schema.merge([one, two])
    assert [variable.name for variable in joined.streams[0].variables] == ["loss", "extra"]
    assert {array.name for array in joined.arrays} == {"a", "b"}
    assert joined.default == "epoch"


def test_array_declarations_may_be_patterns():
    records = Records(arrays=(Array("lkg/*", "float32", "weights"),))
    assert schema.declared_array(records, "lkg/0.weight").long_name == "weights"
    assert schema.declared_array(records, "other") is None
