"""Whole runs: what they store, that they go on, and that execution changes nothing (spec 10.14-10.28)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from xfw.cli.main import invoke
from xfw.engine.session import Interrupted, Session
from xfw.plugins.registry import load_experiment
from xfw.store.commit import Restored
from xfw.store.rundir import find_run
from xfw.testing.blocks import block_session, train_block
from xfw_netfragments.analysis.weights import of_trial
from xfw_netfragments.layer import Layer, initial_weights
from xfw_netfragments.steps import Recall

Run = Any
SMALL = ["train.epochs=3", "data.train=15", "data.validation=2"]
POINTS = ["evaluate.samples=4", "evaluate.noise=[0.1]", "evaluate.line_interrupt=[3]"]
BERNOULLI = ["s2.activation=bernoulli", "s1.activation=bernoulli", "s1.filters=large"]


def block(*keys: str, **how: Any) -> Any:
    how = {"trials": 1, "strategy": "pool", **how}
    return train_block(load_experiment("netfragments"), small(*keys), **how)


def small(*keys: str) -> list[str]:
    """Return the keys on top of the small settings."""
    given = {key.partition("=")[0] for key in keys}
    return [*(key for key in (*SMALL, *POINTS) if key.partition("=")[0] not in given), *keys]


def same(first: Any, second: Any, *, lanes: tuple[int, int] = (0, 0)) -> None:
    """Compare records (times apart) and parameters of two blocks bit for bit."""
    assert np.array_equal(first.parameters()[lanes[0]], second.parameters()[lanes[1]])
    for stream, variables in first.commit.records.items():
        for name, values in variables.items():
            if name != "wall_time":
                own, other = values[:, lanes[0]], second.record(stream, name)[:, lanes[1]]
                equal = own.tolist() == other.tolist() if own.dtype.kind in "OUT" else None
                assert equal or np.array_equal(own, other, equal_nan=True), (stream, name)


# --- what a run stores ---------------------------------------------------------------------------------------


def test_a_run_stores_weights_epochs_points_and_baselines(run: Run) -> None:
    results = run("--trials", "2", "-s", "evaluate.line_interrupt=[2]")
    assert results.coordinate("epoch").tolist() == [0, 1, 2]
    assert results.count("evaluation").tolist() == [2, 2]
    assert results.values("evaluation", "noise").tolist() == [[0.1, 0.0]] * 2
    assert results.values("evaluation", "line_interrupt").tolist() == [[0, 2]] * 2
    assert results.values("evaluation", "activation").tolist() == [["0.5"] * 2] * 2
    assert results.values("evaluation", "image_set").tolist() == [["straight"] * 2] * 2
    assert results.array("baseline/0").shape == (2, 4, 6, 4, 32, 32)
    assert results.array("baseline_weights").shape == (2, 4)
    for place in range(2):
        weight = of_trial(results, place)
        last = {
            name: results.values("epoch", name)[place, -1] for name in ("weights_nonzero", "weight_sum", "weights_one")
        }
        assert np.count_nonzero(weight) == last["weights_nonzero"]
        assert weight.sum(dtype=np.float64) == pytest.approx(last["weight_sum"])
        assert (weight == 1).sum() == last["weights_one"]
    assert not np.array_equal(of_trial(results, 0), of_trial(results, 1))


def test_weights_of_chosen_epochs_are_stored(run: Run) -> None:
    results = run("-s", "store.weights_at=[1]", "-s", "train.epochs=3")
    arrays = {name: results.array(name, 0) for name in results.arrays()} | results.ragged(0)
    assert len(arrays["w_value_e1"]) == results.values("epoch", "weights_nonzero")[0, 1]
    assert len(arrays["w_value"]) == results.values("epoch", "weights_nonzero")[0, 3]


def test_weights_stay_between_0_and_1_and_never_decrease() -> None:
    session = block_session(load_experiment("netfragments"), small(), trials=1, strategy="pool")
    session.start(None)
    session.trainer.begin(session.epochs[0], 0, 0)
    weight = session.block.parameters["weight"][0]
    for step in range(15):
        before = weight.clone()
        session.trainer.step(step)
        growth = weight - before
        assert growth.min() >= 0
        assert 0.2 - 1e-6 <= growth.max() <= 0.2 + 1e-6 or growth.max() < 0.2
        assert weight.min() >= 0
        assert weight.max() <= 1
    assert (weight.numpy()[initial_weights(Layer()) == 1] == 1).all()


def test_the_clean_point_equals_its_baseline() -> None:
    found = block("evaluate.noise=[0]", "evaluate.line_interrupt=[]")
    values = {name: found.record("evaluation", name)[0, 0] for name in ("accuracy", "recall", "precision")}
    assert values == {"accuracy": 1, "recall": 1, "precision": 1}
    assert found.record("evaluation", "noise_reduction")[0, 0] == 0
    assert found.record("evaluation", "line_reconstruction")[0, 0] == 0
    active = found.record("evaluation", "active_cells")[0, 0]
    assert active + found.record("evaluation", "inactive_cells")[0, 0] == 4 * 32 * 32


@pytest.mark.slow
def test_a_trained_network_behaves_as_the_paper_says() -> None:
    keys = ["random=published", "evaluate.theta=[0.3,0.5,0.7]", "evaluate.power=[1.2+0.2t]"]
    points = ["evaluate.noise=[0.02,0.1,0.2]", "evaluate.line_interrupt=[2,7]"]
    found = train_block(load_experiment("netfragments"), [*keys, *points], preset="train_v2", trials=1, strategy="pool")

    def value(name: str, theta: float, noise: float, hole: int) -> float:
        columns = [found.record("evaluation", key)[:, 0] for key in ("theta", "noise", "line_interrupt")]
        (row,) = np.flatnonzero((columns[0] == theta) & (columns[1] == noise) & (columns[2] == hole))
        return float(found.record("evaluation", name)[row, 0])

    assert value("noise_reduction", 0.5, 0.1, 0) > 0.9
    assert value("recall", 0.5, 0.1, 0) > 0.35
    for name in ("recall", "precision"):
        assert value(name, 0.5, 0.2, 0) < value(name, 0.5, 0.02, 0)
    assert value("line_reconstruction", 0.5, 0.0, 7) < value("line_reconstruction", 0.5, 0.0, 2)
    assert value("recall", 0.3, 0.1, 0) >= value("recall", 0.7, 0.1, 0)
    assert value("noise_reduction_silent", 0.5, 0.1, 0) > 0.95


# --- determinism and execution -------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [[], BERNOULLI, ["random=published"]])
def test_equal_seeds_give_equal_bits_and_others_do_not(keys: list[str]) -> None:
    first, again = block(*keys), block(*keys)
    same(first, again)
    other = block(*keys, "published_seed=2") if keys == ["random=published"] else block(*keys, seed=2)
    assert not np.array_equal(first.parameters(), other.parameters())


@pytest.mark.parametrize("keys", [[], BERNOULLI])
def test_a_trial_alone_has_the_numbers_it_has_among_others(keys: list[str]) -> None:
    among = block(*keys, trials=3)
    same(block(*keys, trials=3, only=[1]), among, lanes=(0, 1))


def test_strategies_give_the_same_bits() -> None:
    same(block(strategy="serial"), block(strategy="pool"))
    same(block(strategy="stack"), block(strategy="pool"))


@pytest.mark.parametrize("theta", ["0.5", "bernoulli"])
def test_points_do_not_depend_on_which_others_there_are(theta: str) -> None:
    keys = [f"evaluate.theta=[{theta}]", "evaluate.power=[1.2+0.2t]"]
    many = block(f"evaluate.theta=[0.3,{theta}]", "evaluate.power=[0.6+0.2t,1.2+0.2t]", "evaluate.noise=[0.2,0.1]")
    few = block(*keys, "evaluate.noise=[0.1]", "evaluate.line_interrupt=[]")
    columns = {name: many.record("evaluation", name)[:, 0] for name in ("activation", "gamma_start", "noise")}
    chosen = (columns["gamma_start"] == 1.2) & (columns["noise"] == 0.1)
    (row,) = [place for place in np.flatnonzero(chosen) if columns["activation"][place] == theta]
    for name in ("noise_reduction", "recall", "precision", "active_cells", "overlap_mean"):
        assert many.record("evaluation", name)[row, 0] == few.record("evaluation", name)[0, 0]


def test_repeats_redraw_and_the_first_is_the_only_one() -> None:
    keys = ["evaluate.theta=[bernoulli]", "evaluate.line_interrupt=[]"]
    once, thrice = block(*keys), block(*keys, "evaluate.repeats=3")
    assert thrice.record("evaluation", "repeat")[:, 0].tolist() == [0, 1, 2]
    recalls = thrice.record("evaluation", "recall")[:, 0]
    assert len(set(recalls.tolist())) == 3
    assert recalls[0] == once.record("evaluation", "recall")[0, 0]


def test_a_bernoulli_network_is_compared_with_another_draw_of_itself() -> None:
    found = block("evaluate.theta=[bernoulli]", "evaluate.noise=[0]", "evaluate.line_interrupt=[]")
    assert 0 < found.record("evaluation", "recall")[0, 0] < 1


def test_a_known_step_is_not_computed_again_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["data.lines=four", "train.epochs=12", "data.train=40"]
    with_recall = block(*keys)
    monkeypatch.setattr(Recall, "enabled", False)
    same(with_recall, block(*keys))


def test_recall_notices_weights_that_others_changed() -> None:
    weight = initial_weights(Layer())
    recall = Recall(weight, certain=True)
    from xfw_netfragments.sparse import Change

    recall.keep(3, [0.0], Change(np.zeros(0, np.intp), np.zeros(0, np.float32)))
    assert recall.outcome(3, weight) is not None
    assert recall.outcome(4, weight) is None
    weight[0, 0, 0, 0] = 0.5
    assert recall.outcome(3, weight) is None
    assert Recall(weight, certain=False).outcome(3, weight) is None


def test_pictures_change_nothing(tmp_path: Path) -> None:
    same(block(), block("plot.live=true"))


def test_the_initial_validation_moves_the_published_stream_only() -> None:
    off = "train.initial_validation=false"
    published = [block("random=published", *keys).parameters() for keys in ([], [off])]
    assert not np.array_equal(*published)
    with_it, without = block(), block(off)
    assert np.array_equal(with_it.parameters(), without.parameters())
    for name in ("support_active_mean", "changing_steps"):
        assert np.array_equal(with_it.record("epoch", name)[1:], without.record("epoch", name)[1:])
    assert np.isnan(without.record("epoch", "support_active_mean")[0, 0])
    assert with_it.record("epoch", "support_active_mean")[0, 0] == pytest.approx(11 / 6)


# --- the step of fixed shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [[], ["s2.activation=bernoulli"], ["s1.filters=large", "s1.activation=clip"]])
def test_the_dense_step_trains_the_same_weights(keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from xfw_netfragments.model import Fragments

    host = block("train.epochs=1", *keys)
    monkeypatch.setattr(Fragments, "host", property(lambda self: False))
    dense = block("train.epochs=1", *keys)
    assert np.array_equal(host.parameters(), dense.parameters())
    for name in ("train_support_active_mean", "train_support_active_std", "train_norm_factor", "changing_steps"):
        np.testing.assert_allclose(host.record("epoch", name), dense.record("epoch", name), rtol=1e-6)


def test_the_dense_step_runs_under_vmap(monkeypatch: pytest.MonkeyPatch) -> None:
    from xfw_netfragments.model import Fragments

    monkeypatch.setattr(Fragments, "host", property(lambda self: False))
    keys = ["train.epochs=1", "data.train=4"]
    alone, stacked = block(*keys, trials=2), block(*keys, trials=2, strategy="stack")
    assert np.array_equal(alone.parameters(), stacked.parameters())


def test_full_statistics_change_no_weight_and_add_inactive_cells_of_training() -> None:
    keys = ["train.epochs=1", "data.train=4"]
    plain, complete = block(*keys), block(*keys, "store.full_statistics=true")
    assert np.array_equal(plain.parameters(), complete.parameters())
    name = "support_inactive_mean"
    assert np.isnan(plain.record("epoch", f"train_{name}")[1, 0])
    assert complete.record("epoch", f"train_{name}")[1, 0] > 0
    np.testing.assert_allclose(*(each.record("epoch", f"validation_{name}") for each in (plain, complete)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("strategy", ["stack", "streams"])
def test_a_gpu_trains_the_weights_of_a_cpu(strategy: str) -> None:
    keys = ["random=published", "train.epochs=1", "data.train=300", "evaluate.noise=[0.1]"]
    found = [
        train_block(
            load_experiment("netfragments"), keys, preset="net_fragments", trials=2, device=device, strategy=how
        )
        for device, how in (("cpu", "pool"), ("cuda", strategy))
    ]
    assert np.array_equal(found[0].parameters(), found[1].parameters())
    for name in ("recall", "precision", "noise_reduction"):
        assert np.array_equal(*(each.record("evaluation", name) for each in found))
    for name in ("active_mean", "active_std", "active_max", "inactive_mean", "inactive_std", "inactive_max"):
        # The same supports, summed in another order in float64.
        both = [each.record("epoch", f"validation_support_{name}") for each in found]
        np.testing.assert_allclose(*both, rtol=1e-10)


# --- going on ------------------------------------------------------------------------------------------------


class StopAfter:
    """A control that asks to stop after some questions."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left < 0

    def note(self, _text: str) -> None:
        """Show nothing."""

    def progress(self, *_progress: Any) -> None:
        """Take no note."""


def interrupted(session: Session) -> Any:
    with pytest.raises(Interrupted):
        session.run()
    return session.committer.last  # type: ignore[attr-defined]


@pytest.mark.parametrize("stop", [1, 9, 22, 46, 47])
@pytest.mark.parametrize("keys", [[], BERNOULLI, ["random=published"]])
def test_a_resumed_block_equals_an_uninterrupted_one(keys: list[str], stop: int) -> None:
    def session() -> Session:
        return block_session(load_experiment("netfragments"), small(*keys), trials=2, strategy="pool")

    whole = block(*keys, trials=2)
    first = session()
    first.control = StopAfter(stop)
    first.start(None)
    cut = interrupted(first)
    second = session()
    second.load(
        Restored(
            state=cut.state,
            arrays=cut.arrays,
            position=cut.position,
            layout=cut.layout,
            status=tuple(cut.status),
            rows={},
            segments=(),
            elapsed=0.0,
            final=False,
        )
    )
    second.run()
    rest = second.committer.last  # type: ignore[attr-defined]
    assert np.array_equal(rest.state["parameters"], whole.parameters())
    for stream in ("epoch", "evaluation"):
        for name, values in whole.commit.records[stream].items():
            parts = [each.records.get(stream, {}).get(name) for each in (cut, rest)]
            joined = np.concatenate([part for part in parts if part is not None])
            if name != "wall_time" and joined.dtype.kind == "f":
                assert np.array_equal(joined, values, equal_nan=True), (stream, name)


def test_two_runs_one_after_the_other_equal_one(run: Run) -> None:
    whole = run("-s", "train.epochs=4", "-s", "random=published")
    first = run("-s", "train.epochs=2", "-s", "random=published")
    second = run("--from", first.run, "-s", "train.epochs=4", small=False, seed=None)
    assert np.array_equal(of_trial(second, 0), of_trial(whole, 0))
    assert second.coordinate("epoch").tolist() == [3, 4]
    for name in ("support_active_mean", "changing_steps", "weight_sum"):
        assert np.array_equal(second.values("epoch", name)[0], whole.values("epoch", name)[0, 3:])


def test_a_run_from_one_with_as_many_epochs_trains_nothing_and_says_so(run: Run, tmp_path: Path) -> None:
    first = run()
    second = run("--from", first.run, small=False, seed=None)
    assert np.array_equal(of_trial(second, 0), of_trial(first, 0))
    log = (find_run(tmp_path, second.run).block_dir(0) / "log.txt").read_text()
    assert "nothing to train: the weights have 2 epochs behind them, train.epochs=2" in log


def test_stored_weights_are_evaluated_without_training(run: Run) -> None:
    trained = run("-s", "evaluate.noise=[0.1,0.2]")
    again = run("--stage", "evaluate", "--from", trained.run, "-s", "evaluate.noise=[0.2]", small=False, seed=None)
    assert np.array_equal(of_trial(again, 0), of_trial(trained, 0))
    recall = [results.values("evaluation", "recall")[0].tolist() for results in (trained, again)]
    place = trained.values("evaluation", "noise")[0].tolist().index(0.2)
    assert recall[1][0] == recall[0][place]


def test_exported_weights_come_back_bit_identical(run: Run, tmp_path: Path) -> None:
    trained = run()
    place = ["--results-dir", str(tmp_path), "-o", str(tmp_path / "files")]
    assert invoke(["analyze", trained.run, "weights", *place]) == 0
    path = tmp_path / "files" / "weights_0_0.npz"
    again = run("-s", f"weights={path}", "--stage", "evaluate")
    assert np.array_equal(of_trial(again, 0), of_trial(trained, 0))
    assert np.array_equal(again.values("evaluation", "recall"), trained.values("evaluation", "recall"))


def test_weights_of_a_file_count_as_the_epochs_they_have(run: Run, tmp_path: Path) -> None:
    whole = run("-s", "train.epochs=3")
    trained = run("-s", "train.epochs=2")
    invoke(["analyze", trained.run, "weights", "--results-dir", str(tmp_path), "-o", str(tmp_path)])
    keys = ("-s", f"weights={tmp_path / 'weights_0_0.npz'}", "-s", "train.start_epoch=2", "-s", "train.epochs=3")
    assert np.array_equal(of_trial(run(*keys), 0), of_trial(whole, 0))


# --- baselines and refusals ----------------------------------------------------------------------------------


def test_a_baseline_of_another_run_gives_the_same_points(run: Run) -> None:
    trained = run()
    keys = ("--stage", "evaluate", "--from", trained.run)
    again = run(*keys, "-s", f"evaluate.baseline={trained.run}", small=False, seed=None)
    assert np.array_equal(again.values("evaluation", "recall"), trained.values("evaluation", "recall"))


def failed(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert invoke(["run", "netfragments", *arguments]) != 0
    return capfd.readouterr().err


def test_a_baseline_that_does_not_fit_is_refused(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained = run()
    place = ("--results-dir", str(tmp_path), "--device", "cpu", "--jobs", "0", "--quiet")
    keys = ("--from", trained.run, "--stage", "evaluate", "-s", f"evaluate.baseline={trained.run}")
    text = failed(capfd, *place, *keys, "-s", "evaluate.theta=[0.3]", "-s", "evaluate.samples=3")
    assert "the baseline of run" in text
    assert "$.settings" in text
    assert "θ = 0.3" in text
    assert "$.evaluate.samples" in text
    assert "Traceback" not in text


def test_there_must_be_weights_to_evaluate(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = ("--results-dir", str(tmp_path), "--device", "cpu", "--jobs", "0", "--quiet")
    text = failed(capfd, *place, "-s", "train.epochs=0")
    assert "there are no weights to evaluate" in text
    assert "-s weights=FILE or --from RUN" in text


def test_other_precisions_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = ("--results-dir", str(tmp_path), "--device", "cpu", "--jobs", "0", "--quiet")
    assert "S2 is computed in float32" in failed(capfd, *place, "--dtype", "float64")
    assert "--allow-tf32 is refused" in failed(capfd, *place, "--allow-tf32")


def test_live_pictures_are_files_of_the_run(run: Run, tmp_path: Path) -> None:
    results = run("-s", "plot.live=true", "-s", "train.epochs=1", "--trials", "1")
    folder = find_run(tmp_path, results.run).report_dir / "live"
    names = sorted(path.name for path in folder.iterdir())
    assert "kernels.png" in names
    assert "epoch0001_condition0_trial0_image1.png" in names
    assert "epoch0001_condition0_trial0_weights.png" in names


def test_the_default_needs_no_numba(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['numba'] = None; from xfw.cli.main import main; main()"
    keys = ["-s", "train.epochs=1", "-s", "data.train=3", "-s", "evaluate.samples=2", "-s", "kernel=numpy"]
    place = ["--results-dir", str(tmp_path), "--device", "cpu", "--jobs", "0", "--quiet"]
    command = [sys.executable, "-c", hidden, "run", "netfragments", *keys, *place]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
