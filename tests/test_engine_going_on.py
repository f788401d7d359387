"""Trials with passes or stages behind them: epochs of a whole life, stages that are given, stored trials."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import torch
import xfw
from torch import nn
from xfw.errors import UserError
from xfw.experiment import Experiment
from xfw.plan.build import stages_to_run
from xfw.store.state import Restored
from xfw.testing.blocks import block_session, train_block
from xfw.testing.plugins import make_experiment


@attrs.frozen(kw_only=True)
class Config:
    done: int = xfw.key(0, ge=0, help="passes that are behind the trials")


def made(seen: list[tuple[int, float]], **changes: Any) -> Experiment:
    def on_start(block: Any) -> None:
        block.done_epochs = block.configs[0].done

    def train_step(model: Any, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        return {"sum": batch[0].sum().double(), "first": batch[0][0].double()}

    def on_epoch_end(block: Any, metrics: Any) -> None:
        seen.append((block.epoch, float(metrics["first"][0])))

    hooks = {
        "load_data": lambda config: {"train": xfw.Dataset((torch.arange(40),))},
        "build_model": lambda config: nn.Linear(1, 1),
        "plan_passes": lambda config: [xfw.Pass(40)] * 4,
        "declare_records": lambda config: xfw.Records(),
        "train_step": train_step,
        "on_start": on_start,
        "on_epoch_end": on_epoch_end,
    }
    return make_experiment(Config, "lives", **(hooks | changes))


def test_passes_that_are_done_are_left_out_and_the_rest_has_its_own_order() -> None:
    whole: list[tuple[int, float]] = []
    train_block(made(whole), trials=1)
    rest: list[tuple[int, float]] = []
    train_block(made(rest), ["done=2"], trials=1)
    assert [epoch for epoch, _ in whole] == [0, 1, 2, 3]
    assert rest == whole[2:]


@pytest.mark.parametrize("done", [4, 7])
def test_nothing_is_trained_where_all_passes_are_done(done: int) -> None:
    seen: list[tuple[int, float]] = []
    assert train_block(made(seen), [f"done={done}"], trials=1).status == ["done"]
    assert seen == []


@pytest.mark.parametrize("done", [0, 2, 4, 7])
def test_a_resumed_block_knows_what_it_has_behind_it_as_if_it_had_never_stopped(done: int) -> None:
    whole = block_session(made([]), [f"done={done}"], trials=1)
    whole.start(None)
    whole.run()
    last: Any = whole.committer.last  # type: ignore[attr-defined]
    resumed = block_session(made([]), [f"done={done}"], trials=1)
    resumed.load(Restored(last.state, {}, last.position, {}, (), {}, 0, final=False, elapsed=0.0))
    assert (resumed.block.epoch, resumed.block.done_epochs) == (whole.block.epoch, whole.block.done_epochs) == (3, done)


@pytest.mark.parametrize("stored", [(), ("train",)])
def test_a_later_stage_does_without_one_whose_product_is_given(stored: tuple[str, ...]) -> None:
    known = [xfw.Stage("train", "", given=True), xfw.Stage("probe", "", 2), xfw.Stage("report", "", 1)]
    assert stages_to_run(known, "probe", stored) == ("probe",)
    assert stages_to_run(known, "report", stored) == ("probe", "report")
    assert stages_to_run(known, None, stored) == ("train", "probe", "report")
    assert stages_to_run(known, "train", stored) == ("train",)


def test_the_log_counts_the_rows_of_a_stream_as_the_sealed_file_does() -> None:
    """Rows of cells, and rows of a run that goes on, have no number of an epoch."""
    probe = xfw.Stream("probe", "cell", (xfw.Variable("found", "int64", "found"),), first=5)

    def run_cell(block: Any, cell: int) -> None:
        block.record("probe", found=[10 * cell] * block.size)

    hooks = {"define_stages": lambda: [xfw.Stage("probe", "look", cells=3)], "run_cell": run_cell}
    experiment = made([], declare_records=lambda: xfw.Records((probe,)), **hooks)
    log = train_block(experiment, trials=1).log
    assert [line for line in log if "found" in line] == ["found=0 cell=5", "found=10 cell=6", "found=20 cell=7"]
    resumed = block_session(experiment, trials=1, log=(again := []).append)
    position = {**resumed.position, "cell": 2}
    resumed.load(Restored(dict(resumed._state(final=False)), {}, position, {}, (), {"probe": 2}, 1, False, 0.0))
    resumed.run()
    assert [line for line in again if "found" in line] == ["found=20 cell=7"]


def test_a_block_in_memory_has_no_other_runs_to_read() -> None:
    session = block_session(made([]), trials=1)
    with pytest.raises(UserError, match="belongs to no folder of runs"):
        session.block.stored_trials("lives-1")
