"""psa through the engine: the ratchet's rules in the records, independence of trials, and going on from a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from xfw.cli.main import invoke
from xfw.data.sources import Sources
from xfw.engine.rng import key_words, keyed_order
from xfw.seeds import derive, generator
from xfw.store.results import Results
from xfw_psa import ablation, data, model
from xfw_psa.config import Config

Run = Callable[..., Results]
INTEGERS = ("val_correct", "lkg_correct", "accepted", "ablated_layer", "ablated_unit", "finite")


def column(results: Results, variable: str) -> np.ndarray:
    return results.values("epoch", variable)


def weights(results: Results, trial: int = 0) -> dict[str, np.ndarray]:
    stored = {name: results.array(name)[trial] for name in results.arrays() if name.startswith("lkg/")}
    stored = stored or {name: each for name, each in results.ragged(trial).items() if name.startswith("lkg/")}
    return {name.removeprefix("lkg/"): each for name, each in stored.items()}


def assert_equal_records(one: Results, other: Results, mine: slice = slice(None), theirs: slice = slice(None)) -> None:
    for variable in (*INTEGERS, "train_loss"):
        assert np.array_equal(column(one, variable)[mine], column(other, variable)[theirs]), variable


def test_acceptance_follows_the_scores(run: Run) -> None:
    results = run("-s", "mode=none,hidden,output", "-s", "lr=0.03", "--trials", "2", loops=8)
    scores, best, accepted = (column(results, name) for name in ("val_correct", "lkg_correct", "accepted"))
    running = np.maximum.accumulate(scores, axis=1)
    before = np.concatenate([np.full((len(scores), 1), -1), running[:, :-1]], axis=1)
    assert np.array_equal(best, running)
    assert np.array_equal(accepted.astype(bool), scores > before)
    assert not accepted.all()
    last = [int(np.flatnonzero(row)[-1]) + 1 for row in accepted]
    assert results.array("bounty_loop").tolist() == last


def test_equal_scores_are_rejected(run: Run) -> None:
    results = run("-s", "mode=none", "-s", "lr=1e-30")
    assert column(results, "accepted").astype(int).tolist() == [[1, 0, 0]]
    assert len(set(column(results, "val_correct")[0].tolist())) == 1


def test_loops_after_the_first_are_damaged_where_the_mode_is_ablative(run: Run) -> None:
    results = run("-s", "mode=all")
    layers = dict(zip(results.parameters["mode"], column(results, "ablated_layer").tolist(), strict=True))
    for mode, drawn in layers.items():
        damaged = mode in ("full", "hidden", "output")
        assert [layer >= 0 for layer in drawn] == [False, damaged, damaged], mode


def test_test_accuracy_is_that_of_the_best_network(run: Run) -> None:
    results = run("-s", "mode=output", "-s", "lr=0.05", loops=6)
    network = model.build(Config(arch="1*4"))
    network.load_state_dict({name: torch.from_numpy(each) for name, each in weights(results).items()})
    images, labels = data.standardise(*data.load(Config(data="digits"), Sources())["test"].tensors)
    assert results.array("test_correct").tolist() == [int((network(images).argmax(-1) == labels).sum())]


def test_unused_regularisers_change_nothing(run: Run) -> None:
    results = run("-s", "mode=none,decay,dropout", "-s", "weight_decay=0", "-s", "dropout=0")
    for other in (1, 2):
        assert_equal_records(results, results, slice(0, 1), slice(other, other + 1))


def test_unpaired_modes_have_streams_of_their_own(run: Run) -> None:
    results = run("-s", "mode=none,decay", "-s", "weight_decay=0", "-s", "pair_modes=false")
    assert len(set(results.key)) == 2
    first, second = column(results, "train_loss")
    assert not np.array_equal(first, second)


def reference(config: Config, key: int, loops: int) -> dict[str, list[int]]:
    """Train one trial in the plainest way, in float64, with torch's own AdamW and the same random keys."""
    sets = data.load(config, Sources())
    train, validation = (
        [part.double() if part.is_floating_point() else part for part in data.standardise(*sets[name].tensors)]
        for name in ("train", "validation")
    )
    torch.manual_seed(derive(key, "init") % 2**63)
    network = model.build(config).double()
    best, best_score, record = {k: v.clone() for k, v in network.state_dict().items()}, -1, {"scores": [], "units": []}
    for loop in range(1, loops + 1):
        network.load_state_dict(best)
        target = ablation.draw(config, config.maps, generator(key, "ablation", loop)) if loop > 1 else None
        with torch.no_grad():
            for name, index in ablation.zeroed(target, config.maps) if target else []:
                network.get_parameter(name)[index] = 0.0
        update = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.decay)
        order = keyed_order(key_words([key], "cpu"), loop - 1, len(train[1]))[0]
        for batch in order.split(config.batch_size):
            update.zero_grad()
            torch.nn.functional.cross_entropy(network(train[0][batch]), train[1][batch]).backward()
            update.step()
        with torch.no_grad():
            score = int((network(validation[0]).argmax(-1) == validation[1]).sum())
        record["scores"].append(score)
        record["units"].append(target.unit if target else -1)
        if score > best_score:
            best, best_score = {k: v.clone() for k, v in network.state_dict().items()}, score
    return record | {"best": best}  # type: ignore[dict-item]


@pytest.mark.parametrize("strategy", ["stack", "serial"])
@pytest.mark.parametrize("family", ["resmlp", "simplemlp"])
def test_trials_follow_the_plain_algorithm_in_float64(run: Run, family: str, strategy: str) -> None:
    modes = ("none", "decay", "full", "hidden", "output")
    shared = {"arch": "[2*6,1*4]", "family": family, "data": "digits", "lr": 0.01, "weight_decay": 0.01}
    keys = [text for name, value in shared.items() if name != "arch" for text in ("-s", f"{name}={value}")]
    results = run(
        *keys, "-s", f"mode={','.join(modes)}", "-s", "keep_weights=true",
        "--dtype", "float64", "--strategy", strategy, "--block-size", "5", arch="[2*6,1*4]", loops=3,
    )  # fmt: skip
    for place, mode in enumerate(modes):
        expected = reference(Config(mode=mode, **shared), int(results.key[place], 16), 3)
        assert column(results, "val_correct")[place].tolist() == expected["scores"], mode
        assert column(results, "ablated_unit")[place].tolist() == expected["units"], mode
        for name, stored in weights(results, place).items():
            assert np.abs(stored - expected["best"][name].numpy()).max() < 1e-6  # type: ignore[index]  # stored in float32


def test_trial_does_not_depend_on_its_neighbours(run: Run) -> None:
    whole = run("-s", "mode=none,dropout,hidden", "--trials", "3", "--block-size", "9")
    alone = run("-s", "mode=dropout", "--trials", "3", "--only", "trial=2")
    assert_equal_records(whole, alone, slice(5, 6))


def test_trial_does_not_depend_on_blocks_jobs_or_the_order_of_modes(run: Run) -> None:
    one = run("-s", "mode=none,hidden", "--trials", "2", "--block-size", "4")
    other = run("-s", "mode=hidden,none", "--trials", "2", "--block-size", "1", jobs="2")
    assert_equal_records(one, other, slice(0, 2), slice(2, 4))
    assert_equal_records(one, other, slice(2, 4), slice(0, 2))


def test_three_loops_and_four_more_are_seven(run: Run) -> None:
    whole = run("-s", "mode=hidden,dropout", "-s", "keep_weights=true", "--trials", "2", loops=7)
    first = run("-s", "mode=hidden,dropout", "-s", "keep_weights=true", "--trials", "2", loops=3)
    more = run("--from", first.run, "-s", "meta_loops=4")
    for variable in (*INTEGERS, "train_loss"):
        joined = np.concatenate([column(first, variable), column(more, variable)], axis=1)
        assert np.array_equal(joined, column(whole, variable)), variable
    assert more.coordinate("epoch").tolist() == [4, 5, 6, 7]
    assert more.array("loops_done").tolist() == [7] * 4
    for name in ("bounty_loop", "test_correct"):
        assert np.array_equal(more.array(name), whole.array(name))
    for trial in range(4):
        stored, expected = weights(more, trial), weights(whole, trial)
        assert all(np.array_equal(stored[name], expected[name]) for name in expected)


def test_network_goes_through_several_modes(run: Run) -> None:
    first = run("-s", "mode=hidden", "--trials", "1", loops=2)
    second = run("--from", first.run, "-s", "mode=output", "-s", "meta_loops=2")
    third = run("--from", second.run, "-s", "mode=hidden", "-s", "meta_loops=2")
    assert third.coordinate("epoch").tolist() == [5, 6]
    assert third.array("loops_done").tolist() == [6]
    best = [int(column(each, "lkg_correct")[0, -1]) for each in (first, second, third)]
    assert best == sorted(best)


def test_stored_weights_of_the_blocks_serve_where_the_sealed_file_has_none(run: Run) -> None:
    first = run("-s", "mode=none", "-s", "keep_weights=false", loops=2)
    assert not any(name.startswith("lkg/") for name in first.arrays())
    more = run("--from", first.run, "-s", "mode=output", "-s", "meta_loops=1")
    assert more.array("loops_done").tolist() == [3]


def test_mode_to_start_from_is_named_where_there_are_several(run: Run, tmp_path: Path) -> None:
    first = run("-s", "mode=none,hidden", loops=2)
    more = run("--from", first.run, "-s", "resume_from=none", "-s", "mode=output", "-s", "meta_loops=1")
    start = int(column(first, "lkg_correct")[0, -1])
    assert int(column(more, "lkg_correct")[0, 0]) >= start
    assert (tmp_path / "psa" / more.run / "run.toml").read_text().count(first.run) >= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-s", "arch=1*5"), "[1*5]"),
        (("--seed", "6"), "seed"),
    ],
)
def test_going_on_is_refused_where_it_cannot_be(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    first = run("-s", "mode=none", loops=1)
    place = ("--results-dir", str(tmp_path), "--jobs", "0")
    assert invoke(["run", "psa", "--from", first.run, *place, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_damaged_source_is_refused_and_left_alone(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run("-s", "mode=none", loops=1)
    path = first.path
    first.close()
    path.write_bytes(cut := path.read_bytes()[:2000])
    assert invoke(["run", "psa", "--from", "@last", "--results-dir", str(tmp_path), "--jobs", "0"]) == 2
    assert "run.h5" in capsys.readouterr().err
    assert path.read_bytes() == cut


def test_weight_file_is_a_starting_point_with_its_score(run: Run, tmp_path: Path) -> None:
    first = run("-s", "mode=none", loops=3)
    state = {name: torch.from_numpy(each) for name, each in weights(first).items()}
    torch.save({"model_state": state, "global_meta_loops": 3, "bounty_meta_loop": 3}, tmp_path / "lkg.pt")
    more = run("-s", f"init_from={tmp_path / 'lkg.pt'}", "-s", "mode=none", loops=2)
    whole = run("-s", "mode=none", loops=5)
    assert np.array_equal(column(more, "val_correct"), column(whole, "val_correct")[:, 3:])
    assert more.coordinate("epoch").tolist() == [4, 5]


def test_diverged_loop_is_rejected_and_its_neighbour_unharmed(run: Run) -> None:
    results = run("-s", "mode=none", "-s", "lr=1e-3,1e30", "--block-size", "2", loops=3)
    alone = run("-s", "mode=none", "-s", "lr=1e-3", loops=3)
    assert_equal_records(results, alone, slice(0, 1))
    assert not column(results, "finite")[1].all()
    rejected = ~column(results, "finite")[1].astype(bool)
    assert not column(results, "accepted")[1].astype(bool)[rejected].any()


def test_log_has_one_line_per_loop(run: Run, tmp_path: Path) -> None:
    results = run("-s", "mode=none", loops=2)
    best = 100 * column(results, "lkg_correct")[0] / 300
    current = 100 * column(results, "val_correct")[0] / 300
    log = (tmp_path / "psa" / results.run / "blocks" / "0000" / "log.txt").read_text().splitlines()
    lines = [line for line in log if "Loop" in line]
    assert not any("Ablated" in line for line in log)
    expected = [
        f"trial 0 | Loop {loop}/2 (Global: {loop}) | Current: {current[loop - 1]:.2f}% | "
        f"LKG: {best[loop - 1]:.2f}% | Bounty: {best[loop - 1]:.2f}%"
        for loop in (1, 2)
    ]
    assert [line[line.index("trial") :] for line in lines] == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-s", "lr=0"), "$.lr"),
        (("-s", "batch_size=0"), "$.batch_size"),
        (("-s", "meta_loops=0"), "$.meta_loops"),
        (("-s", "dropout=1"), "$.dropout"),
        (("-s", "weight_decay=-1"), "$.weight_decay"),
        (("-s", "mode=hiden"), "$.mode"),
        (("-s", "arch=[4*4,]"), "[4*4,]"),
        (("-s", "share_order=true"), "$.share_order"),
        (("-s", "init_from=none.pt"), "none.pt"),
        (("--trials", "0"), "--trials"),
        (("--device", "tpu"), "tpu"),
        (("--num-runs", "10"), "--trials"),
        (("--data-dir", "nowhere", "-s", "data=mnist"), "nowhere"),
    ],
)
def test_bad_values_exit_2_and_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert invoke(["run", "psa", "--results-dir", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_num_workers_says_that_it_has_no_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ("--results-dir", str(tmp_path), "--dry-run")
    assert invoke(["run", "psa", "-s", "num_workers=2", *place]) == 0
    assert "no effect" in capsys.readouterr().err


def test_shared_analyzers_work_from_the_sealed_file(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run("-s", "mode=none,hidden", "--trials", "2", loops=2)
    results.close()
    capsys.readouterr()
    assert invoke(["analyze", "@last", "--json", "--results-dir", str(tmp_path)]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert {row["metric"] for row in tables["summary"]} == {"val_peak", "test_accuracy", "bounty_loop"}
    assert [row["test"] for row in tables["compare"]] == ["paired"] * 3


def test_network_that_the_last_step_of_loop_one_ruins_is_rejected(run: Run) -> None:
    results = run("-s", "mode=none", "-s", "lr=1e30", "-s", "batch_size=1197", arch="2*32", loops=1)
    assert np.isfinite(column(results, "train_loss")).all()
    assert not column(results, "accepted").any()
    assert not column(results, "finite").any()
    assert column(results, "lkg_correct").tolist() == [[-1]]


def test_debug_names_the_silenced_unit_in_the_log(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["xfw", "run", "psa", "--debug"])  # the command that the run records
    results = run("-s", "mode=output", "--debug", loops=2)
    layer, unit = (int(column(results, name)[0, 1]) for name in ("ablated_layer", "ablated_unit"))
    log = (tmp_path / "psa" / results.run / "blocks" / "0000" / "log.txt").read_text()
    assert [line.partition(" | Ablated: ")[2] for line in log.splitlines() if "Loop" in line] == [
        "",
        f"map {layer} unit {unit}",
    ]
    assert layer >= 0
