"""Which stored trials a target measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
import xfw
from xfw.analysis.matching import Published, Stored, published
from xfw.analysis.targets import read_targets
from xfw.experiment import Experiment
from xfw.store.merge import merge
from xfw.store.results import open_run
from xfw.store.rundir import RunDir, create_run
from xfw.store.seal import seal
from xfw.testing.plugins import make_experiment
from xfw.testing.runs import RECORDS, finish_block, finished_run, make_manifest

SWEEP = {"net.mode": ["none", "output"]}


@attrs.frozen
class Net:
    mode: str = xfw.key("none", choices=("none", "output"), help="mode")


@attrs.frozen
class Data:
    name: str = xfw.key("digits", help="data")


@attrs.frozen
class Config:
    lr: float = xfw.key(0.1, gt=0, help="learning rate")
    data: Data = attrs.field(factory=Data)
    net: Net = attrs.field(factory=Net)


METRICS = (
    xfw.Metric("best", "best", "1", lambda results: results.array("best").astype(float)),
    xfw.Metric("correct", "correct", "%", lambda results: results.values("epoch", "correct"), series="epoch"),
    xfw.Metric("grid", "of a stage that did not run", "1", lambda results: results.array("nowhere")),
)
PRESETS = {"paper": xfw.Preset({}, help="paper")}


def experiment() -> Experiment:
    return make_experiment(
        Config, define_metrics=lambda: METRICS, define_presets=lambda: PRESETS, declare_records=lambda config: RECORDS
    )


def wanted(text: str) -> Published:
    targets = read_targets(f'schema = 1\n[[target]]\nname = "a"\n{text}', "demo")
    return published(experiment(), targets)[0]


def measured(text: str, runs: Sequence[RunDir]) -> list[list[float]]:
    """Return the sorted values of each group of a target's trials."""
    with Stored(experiment(), runs) as stored:
        return [sorted(sample.values.tolist()) for sample in stored.samples(wanted(text))]


EXACT = 'metric = "best"\nkind = "exact"\nvalue = 0\n'


def test_the_whole_configuration_has_to_agree(tmp_path: Path) -> None:
    run = finished_run(tmp_path, trials=3, sweep=SWEEP)
    assert measured(f'{EXACT}where = {{ "net.mode" = "output" }}', [run]) == [[100, 110, 120]]
    assert measured(f'{EXACT}where = {{ "net.mode" = "output", lr = 0.2 }}', [run]) == [[]]


def test_ignored_keys_may_differ_and_so_may_a_table_of_keys(tmp_path: Path) -> None:
    run = finished_run(tmp_path, config={"lr": 0.7, "data": {"name": "mnist"}})
    assert measured(EXACT, [run]) == [[]]
    assert measured(f'{EXACT}ignore = ["lr"]', [run]) == [[]]
    assert measured(f'{EXACT}ignore = ["lr", "data"]', [run]) == [[0, 10]]


def test_keys_that_are_newer_than_the_run_have_their_default(tmp_path: Path) -> None:
    assert measured(EXACT, [finished_run(tmp_path, config={"lr": 0.1})]) == [[0, 10]]


def test_pooled_conditions_of_paired_trials_all_count(tmp_path: Path) -> None:
    run = finished_run(tmp_path, trials=2, sweep=SWEEP)
    assert len(set(open_run(run).key)) == 2
    assert measured(f'{EXACT}where = {{ "net.mode" = "all" }}', [run]) == [[0, 10, 100, 110]]


def test_a_repeated_trial_counts_once(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path, trials=2), finished_run(tmp_path, trials=3)]
    assert measured(EXACT, runs) == [[0, 10, 20]]


def test_trials_that_went_on_from_another_run_are_not_measured_whatever_became_of_them(tmp_path: Path) -> None:
    """A network of 100 epochs that trains for 100 more has the configuration of one of 100 epochs, and its key."""
    whole, further = finished_run(tmp_path, trials=2), finished_run(tmp_path, trials=3, first_epoch=4)
    assert measured(EXACT, [further, whole]) == [[0, 10]]
    assert measured(EXACT, [further]) == [[]]
    merged = merge([whole, finished_run(tmp_path, trials=2, seed=8, first_epoch=4)], tmp_path, ())
    assert measured(EXACT, [merged]) == [[0, 10]]


def test_only_the_named_trials_are_measured(tmp_path: Path) -> None:
    assert measured(f"{EXACT}trials = [0, 2]", [finished_run(tmp_path, trials=4)]) == [[0, 20]]


def test_unfinished_trials_are_not_measured(tmp_path: Path) -> None:
    run = create_run(tmp_path, make_manifest(trials=2, blocks=2), RECORDS)
    finish_block(run, 0)
    finish_block(run, 1, end="interrupted")
    seal(run)
    text = 'metric = "correct"\nkind = "exact"\nvalue = 0\nat = { epoch = 2 }'
    assert measured(text, [run]) == [[1]]


@pytest.mark.parametrize(
    ("at", "row"), [("{ epoch = 3 }", 2), ("{ correct = 13 }", 3), ("{ epoch = 4, accepted = false }", 3)]
)
def test_at_chooses_one_row_of_each_trial(tmp_path: Path, at: str, row: int) -> None:
    text = f'metric = "correct"\nkind = "exact"\nvalue = 0\ntrials = [1]\nat = {at}'
    assert measured(text, [finished_run(tmp_path)]) == [[10 + row]]


def test_at_that_fits_no_row_is_no_data_and_two_rows_are_an_error(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    text = 'metric = "correct"\nkind = "exact"\nvalue = 0\n'
    assert measured(f"{text}at = {{ epoch = 99 }}", [run]) == [[]]
    with pytest.raises(xfw.UserError, match="`at` fits 2 rows of stream 'epoch'"):
        measured(f"{text}at = {{ accepted = true }}", [run])


def test_a_run_without_the_metrics_records_is_no_data(tmp_path: Path) -> None:
    assert measured('metric = "grid"\nkind = "exact"\nvalue = 0', [finished_run(tmp_path)]) == [[]]
