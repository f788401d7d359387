"""What a trial records and what it depends on (acceptance tests P1 to P8, P11, D6, E1), on tiny networks.

Axes: T trial of the block, G iteration, K task.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from xfw.config.structure import flatten, unstructure
from xfw.engine.rng import Rng, key_words
from xfw.engine.session import Interrupted, Session
from xfw.experiment import Experiment
from xfw.plan.trials import members_of
from xfw.store import segments
from xfw.store.commit import Committer, load_state
from xfw.testing.blocks import Trained, block_session
from xfw_neuronal_decay.config import Config
from xfw_neuronal_decay.data import Phase, epochs
from xfw_neuronal_decay.model import loss_terms

LENGTH, TASKS = 12, 3
WHOLE = LENGTH * TASKS
TINY = ("n_neurons=16", f"iterations_per_task={LENGTH}", "batch_size=256")
SUBSETS = ("eval_mode=subset", "test_size=100", "batch_size=32")
VARIABLES = ("loss", "loss_ce", "penalty", "correct", "tested")
REPLAY = "1,4,5,6,7,8,9,10,11,12,13,14"

Train = Callable[..., Trained]


def tiny(*overrides: str) -> list[str]:
    keys = {text.partition("=")[0]: text for text in (*TINY, "number=1", *overrides)}
    return list(keys.values())


def made(experiment: Experiment, *overrides: str, **how: Any) -> Session:
    session = block_session(experiment, tiny(*overrides), preset="quick", **how)
    session.start(None)
    return session


def stepped(session: Session, task: int, upto: int) -> None:
    """Take the steps of a task before ``upto``."""
    session.trainer.begin(session.epochs[task], task)
    for step in range(upto):
        session.trainer.step(step)


def same_records(one: Trained, other: Trained, mine: Any = slice(None), theirs: Any = slice(None)) -> bool:
    return all(
        np.array_equal(one.record("iteration", name)[:, mine], other.record("iteration", name)[:, theirs])
        for name in VARIABLES
    )


# --- what is recorded ------------------------------------------------------------------------------------


def test_every_task_is_recorded_from_its_first_iteration_on(train: Train) -> None:
    trained = train("number=4", *SUBSETS, trials=2)
    correct_GTK, tested_GTK = (trained.record("iteration", name) for name in ("correct", "tested"))
    assert correct_GTK.shape == (WHOLE, 2, TASKS)
    for task, size in enumerate((128, 128, 192)):
        begun = LENGTH * task
        assert (correct_GTK[:begun, :, task] == -1).all()
        assert (tested_GTK[:begun, :, task] == -1).all()
        own = slice(begun, begun + LENGTH)
        assert (tested_GTK[own, :, : task + 1] == size).all()
        assert (correct_GTK[begun:, :, task] >= 0).all()
    assert (correct_GTK <= tested_GTK).all()
    assert trained.commit.arrays["switch_indices"][0].tolist() == [LENGTH, 2 * LENGTH, 3 * LENGTH]


def test_the_loss_is_the_cross_entropy_and_the_penalty(train: Train) -> None:
    trained = train("number=1,4", trials=2)
    loss, loss_ce, penalty = (trained.record("iteration", name) for name in ("loss", "loss_ce", "penalty"))
    assert loss == pytest.approx(loss_ce + penalty, rel=1e-6)
    assert (penalty[:, :2] == 0).all()
    assert (penalty[:, 2:] > 0).all()


def answers_of(session: Session, lane: int, task: int, step: int) -> list[int]:
    """Test one trial's network on the subsets of an iteration, task by task and image by image."""
    config: Config = session.configs[lane]
    phase = Phase.of(epochs(config)[task].label)
    key = key_words([int(session.block.members[lane].key, 16)], "cpu")[0]
    images, labels = session.block.data["test"].tensors
    network, count = session.block.module(lane), len(labels) // config.tasks
    found = []
    for seen in range(task + 1):
        rng = Rng(key, torch.tensor(task), torch.tensor(step))
        order = rng.permutation(f"subset{seen + 1}", count) if phase.tested < count else torch.arange(count)
        chosen = order[: phase.tested] + seen * count
        with torch.no_grad():
            answers = network(images[chosen].float() / 255.0)[0].argmax(1)
        found.append(int((answers == labels[chosen]).sum()))
    return found


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_record_g_shows_the_network_after_g_updates(experiment: Experiment, train: Train, strategy: str) -> None:
    overrides = ("number=4", *SUBSETS)
    recorded = train(*overrides, trials=2, strategy=strategy).record("iteration", "correct")
    for task, step in ((0, 0), (0, 5), (1, 0), (1, 7), (2, 0)):
        session = made(experiment, *overrides, trials=2, strategy=strategy)
        for earlier in range(task):
            stepped(session, earlier, LENGTH)
        stepped(session, task, step)
        for lane in range(2):
            expected = answers_of(session, lane, task, step)
            assert recorded[LENGTH * task + step, lane, : task + 1].tolist() == expected, (task, step)


def test_the_first_record_of_a_task_is_the_network_at_the_end_of_the_one_before(
    experiment: Experiment, train: Train
) -> None:
    recorded = train("number=1", trials=1).record("iteration", "correct")
    session = made(experiment, "number=1", trials=1)
    stepped(session, 0, LENGTH)
    assert recorded[LENGTH, 0, :2].tolist() == answers_of(session, 0, 1, 0)


def test_the_last_update_is_not_tested_but_made(experiment: Experiment, train: Train) -> None:
    trained = train("number=1", trials=1)
    session = made(experiment, "number=1", trials=1)
    for task in range(TASKS):
        stepped(session, task, LENGTH)
    assert np.array_equal(trained.parameters(), session.trainer.network.arena_TP.numpy())


# --- independence ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_an_experiment_alone_has_the_numbers_it_has_among_all(train: Train, strategy: str) -> None:
    among = train(f"number={REPLAY}", trials=2, strategy=strategy)
    for number, place in ((4, 1), (12, 9)):
        alone = train(f"number={number}", trials=2, strategy=strategy)
        mine = slice(2 * place, 2 * place + 2)
        assert same_records(among, alone, mine)
        assert np.array_equal(among.parameters()[mine], alone.parameters())


def test_the_order_of_experiments_and_trials_changes_nothing(train: Train) -> None:
    forward = train("number=1,4,6", trials=2)
    backward = train("number=6,4,1", trials=2, only=[5, 4, 3, 2, 1, 0])
    assert same_records(forward, backward, slice(None), [1, 0, 3, 2, 5, 4])


def test_equal_seeds_give_equal_bits_and_others_do_not(train: Train) -> None:
    first, again, other = (train("number=4", seed=seed) for seed in (0, 0, 2**32 - 1))
    assert same_records(first, again)
    assert not np.array_equal(first.record("iteration", "loss")[0], other.record("iteration", "loss")[0])


def test_stacked_trials_follow_single_ones_in_float64(train: Train) -> None:
    how: dict[str, Any] = {"trials": 3, "dtype": "float64"}
    overrides = ("number=1,4,9", "iterations_per_task=20", *SUBSETS)
    stacked, single = (train(*overrides, strategy=strategy, **how) for strategy in ("stack", "serial"))
    assert stacked.commit.layout["lowering"] == "twin"
    difference = np.linalg.norm(stacked.parameters() - single.parameters(), axis=1)
    assert (difference <= 1e-10 * np.linalg.norm(single.parameters(), axis=1)).all()
    assert np.array_equal(stacked.record("iteration", "correct"), single.record("iteration", "correct"))


def test_gradients_of_one_step_agree_between_strategies(experiment: Experiment) -> None:
    rows = []
    for strategy, trials in (("serial", 1), ("stack", 1), ("stack", 3)):
        session = made(experiment, "number=4", trials=trials, strategy=strategy)
        session.trainer.gradients(session.epochs[0])
        rows.append(session.trainer.network.gradients_TP[0].clone())
    for other in rows[1:]:
        assert (other - rows[0]).norm() <= 1e-5 * rows[0].norm()


def test_a_block_of_many_strengths_and_rates_is_a_loop_over_experiments(train: Train) -> None:
    numbers = ("1", "4", "6", "8", "9")
    together = train(f"number={','.join(numbers)}", trials=1, dtype="float64")
    assert together.commit.layout["lowering"] == "twin"
    for place, number in enumerate(numbers):
        alone = train(f"number={number}", trials=1, dtype="float64", strategy="serial")
        difference = np.linalg.norm(together.parameters()[place] - alone.parameters()[0])
        assert difference <= 1e-10 * np.linalg.norm(alone.parameters()[0]), number


# --- pairing ---------------------------------------------------------------------------------------------


def starts(experiment: Experiment, *overrides: str) -> dict[str, Any]:
    session = made(experiment, *overrides, trials=1)
    session.trainer.begin(session.epochs[0], 0)
    return {
        "weights": session.trainer.network.arena_TP.numpy().copy(),
        "order": session.trainer._batches[session.epochs[0]].order_TN.numpy().copy(),
        "subset": Rng(session.parts.words_T2[0], torch.tensor(0), torch.tensor(3)).permutation("subset1", 50).numpy(),
    }


def test_equal_trials_of_experiments_are_paired(experiment: Experiment) -> None:
    first, fourth = (starts(experiment, f"number={number}") for number in (1, 4))
    assert all(np.array_equal(first[name], fourth[name]) for name in first)


@pytest.mark.parametrize(("mode", "paired"), [("as_published", False), ("declared", True)])
def test_widths_as_published_are_samples_of_their_own(experiment: Experiment, mode: str, paired: bool) -> None:
    """Experiments 11 and 12 stay paired with each other, and are paired with 1 only where their networks differ."""
    keys = {}
    for number in (1, 11, 12):
        config = Config(number=number, width_mode=mode)
        independent = experiment.hooks.select_unpaired_keys(config=config)
        keys[number] = members_of(0, flatten(unstructure(config)), [0], 1, independent)[0].key
    assert keys[11] == keys[12]
    assert (keys[1] == keys[11]) == paired


# --- resuming --------------------------------------------------------------------------------------------


class StopBefore:
    """Ask to stop before a step, counted over the whole trial."""

    def __init__(self, step: int | None) -> None:
        self.step, self.done = step, 0

    def stop_requested(self) -> bool:
        return self.step is not None and self.done >= self.step

    def note(self, text: str) -> None:
        """Show nothing."""

    def progress(self, done: int, *_more: Any) -> None:
        self.done = done


def part(experiment: Experiment, folder: Path, step: int | None, strategy: str) -> None:
    """Train up to a step, or to the end, going on from what the folder holds."""
    restored = load_state(folder)
    session = block_session(experiment, tiny("number=1,4", *SUBSETS), preset="quick", trials=2, strategy=strategy)
    session.committer, session.control = Committer(folder, restored), StopBefore(step)
    if restored is None:
        session.start(None)
    else:
        session.load(restored)
    if step is None:
        session.run()
    else:
        with pytest.raises(Interrupted):
            session.run()


@pytest.mark.parametrize("strategy", ["stack", "serial"])
def test_a_trial_that_was_stopped_goes_on_to_the_same_bits(
    experiment: Experiment, tmp_path: Path, strategy: str
) -> None:
    """Stops after the first step, within a pass and a task, and around both switches."""
    stops = [1, 5, LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH + 3, WHOLE - 1]
    for name, steps in (("whole", []), ("parts", stops)):
        (tmp_path / name).mkdir()
        for step in (*steps, None):
            part(experiment, tmp_path / name, step, strategy)
    found = []
    for name in ("whole", "parts"):
        last = load_state(tmp_path / name)
        assert last is not None
        found.append((segments.read_all(tmp_path / name, last.segments)["iteration"], last.state, last.arrays))
    (records, state, arrays), (other_records, other_state, other_arrays) = found
    assert records["loss"].shape == (WHOLE, 4)
    assert all(np.array_equal(records[name], other_records[name]) for name in VARIABLES)
    assert np.array_equal(state["parameters"], other_state["parameters"])
    assert all(np.array_equal(arrays[name], other_arrays[name]) for name in arrays)


# --- options ---------------------------------------------------------------------------------------------


def test_thinned_evaluations_are_those_of_every_iteration(train: Train) -> None:
    every, third = train(*SUBSETS), train(*SUBSETS, "eval_every=5")
    kept = [place for place in range(WHOLE) if place % LENGTH % 5 == 0 or place % LENGTH == LENGTH - 1]
    whole, thinned = (each.record("iteration", "correct") for each in (every, third))
    assert np.array_equal(thinned[kept], whole[kept])
    assert (np.delete(thinned, kept, axis=0) == -1).all()
    assert np.array_equal(every.parameters(), third.parameters())


def test_a_mean_penalty_is_divided_by_the_batch(train: Train) -> None:
    summed, mean = (train("number=4", f"penalty_reduction={each}", trials=1) for each in ("sum", "mean_batch"))
    first = summed.record("iteration", "penalty")[0, 0]
    assert mean.record("iteration", "penalty")[0, 0] == pytest.approx(first / 256, rel=1e-6)


def test_one_rotation_is_one_task(train: Train) -> None:
    trained = train("rotations=[0]")
    assert trained.record("iteration", "correct").shape == (LENGTH, 2, 1)


def test_a_batch_above_the_images_is_all_of_them(train: Train) -> None:
    trained = train("batch_size=5000", "rotations=[0]", "iterations_per_task=2")
    assert trained.status == ["done", "done"]


def test_the_first_batch_and_its_penalty_are_those_of_a_plain_network(experiment: Experiment, train: Train) -> None:
    trained = train("number=4", trials=1, dtype="float64")
    session = made(experiment, "number=4", trials=1, dtype="float64")
    session.trainer.begin(session.epochs[0], 0)
    images, labels = (part[0] for part in session.trainer._batches[session.epochs[0]].take(256))
    phase = Phase.of(session.epochs[0].label)
    loss_ce, penalty = loss_terms(session.block.module(0), (images.float().double() / 255.0, labels), phase)  # type: ignore[arg-type]
    assert trained.record("iteration", "loss_ce")[0, 0] == pytest.approx(loss_ce.item(), rel=1e-6)
    assert trained.record("iteration", "penalty")[0, 0] == pytest.approx(penalty.item(), rel=1e-6)


def test_the_profiled_variant_stores_times_and_operations(train: Train) -> None:
    trained = train("number=15,16", "profile=true", trials=2)
    for name in ("wall_time_total", "wall_time_training", "wall_time_evaluation"):
        values = trained.record("profile", name)
        assert values.shape == (1, 4)
        assert (values > 0).all()
    assert np.isnan(trained.record("profile", "wall_time_training_device")).all()
    counted = [int(each) for each in trained.commit.arrays["multiply_accumulates"]]
    forward = 256 * (784 * 16 + 16 * 16 + 10 * 16)
    assert counted == [forward, forward, forward + 256 * 32, forward + 256 * 32]
    assert sum("multiply-accumulates" in line for line in trained.log) == 4


def test_profiling_changes_no_record(train: Train) -> None:
    assert same_records(train("number=1,4"), train("number=1,4", "profile=true"))


def test_the_log_has_sizes_parameters_tasks_and_a_line_every_so_often(train: Train) -> None:
    log = "\n".join(train("number=4", "log_every=5", trials=2).log)
    assert "training images by task: 1500, 3000, 4500; test images of each task: 297; device cpu" in log
    assert "lambda=0.0001" in log
    assert "task 2 of 3: 80 degrees, 3000 images, batch 512, 12 iterations" in log
    lines = [line for line in log.splitlines() if line.startswith("experiment 4 trial ")]
    assert [line.split(":")[0].split()[-1] for line in lines] == [str(each) for each in (0, 0, 5, 5, 10, 10)] * 3
    assert all(len(line.split("loss ")[1].split(",")[0].split(".")[1]) == 6 for line in lines)


def test_the_log_says_where_an_iteration_was_not_tested(train: Train) -> None:
    log = train("eval_every=11", "log_every=5").log
    assert "\n".join(log).count("task 1 not tested") == 2 * 2 * TASKS
