"""Times that are predicted from earlier runs, and when the model is used instead."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
import xfw
from xfw.config.resolve import resolve
from xfw.experiment import Experiment, Records
from xfw.manifest import Execution
from xfw.plan.build import Plan, Request, plan
from xfw.plan.history import BlockTiming, History, block_timings, history_of
from xfw.plan.table import origin_of_times, total_seconds
from xfw.store import claims
from xfw.store.claims import End, claim_block, write_end
from xfw.store.rundir import RunDir, create_run
from xfw.testing.plugins import make_experiment


@attrs.frozen
class Config:
    width: int = xfw.key(4, help="hidden units", ge=1)
    passes: int = xfw.key(100, help="epochs", ge=1)
    batch: int = xfw.key(20, help="examples", ge=1)


def build_model(config: Config) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, config.width), torch.nn.ReLU(), torch.nn.Linear(config.width, 2))


def load_data(config: Config) -> Mapping[str, xfw.Dataset]:
    return {"train": xfw.Dataset((torch.zeros(50, 3),))}


DEMO = make_experiment(
    Config,
    "xfw",
    build_model=build_model,
    load_data=load_data,
    plan_passes=lambda config: [xfw.Pass(batch_size=config.batch)] * config.passes,
)
EXECUTION = Execution("cpu", "float32", False, "auto", 1, 1, "")


def planned(*overrides: str, history: History | None = None, trials: int = 4, **changes: Any) -> Plan:
    execution = attrs.evolve(EXECUTION, **changes)
    request = Request(execution=execution, seed=1, trials=trials, history=history or History())
    return plan(DEMO, resolve(DEMO, overrides=overrides), request)


def measured(made: Plan, seconds: float) -> History:
    return history_of(DEMO, [BlockTiming(made.manifest, made.manifest.blocks[0], seconds)])


def test_a_block_of_the_same_work_takes_what_it_took() -> None:
    history = measured(planned(), 80.0)
    made = planned(history=history)
    assert made.estimates[0].seconds == pytest.approx(80.0)
    assert origin_of_times(made) == "from earlier runs"


def test_more_passes_take_more_time() -> None:
    history = measured(planned("passes=100"), 80.0)
    assert planned("passes=300", history=history).estimates[0].seconds == pytest.approx(240.0)


def test_another_number_of_trials_is_scaled_as_the_model_scales() -> None:
    history = measured(planned(trials=4), 80.0)
    model = [planned(trials=count).estimates[0].least for count in (4, 12)]
    assert planned(trials=12, history=history).estimates[0].seconds == pytest.approx(80.0 * model[1] / model[0])


def test_the_block_of_nearest_width_is_taken() -> None:
    timed = [
        BlockTiming(made.manifest, made.manifest.blocks[0], seconds)
        for made, seconds in ((planned(trials=1), 20.0), (planned(trials=12), 90.0))
    ]
    assert planned(trials=12, history=history_of(DEMO, timed)).estimates[0].seconds == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [(("width=5",), {}), (("batch=10",), {}), ((), {"dtype": "float64"}), ((), {"strategy": "serial"})],
)
def test_other_work_has_no_time(overrides: tuple[str, ...], changes: dict[str, Any]) -> None:
    history = measured(planned(), 80.0)
    made = planned(*overrides, history=history, **changes)
    assert [estimate.seconds for estimate in made.estimates] == [None]
    assert total_seconds(made) is None
    assert origin_of_times(made) == "not known before blocks like these have run here"


def test_only_some_blocks_may_be_known() -> None:
    history = measured(planned("width=4"), 80.0)
    made = planned("width=4,5", history=history)
    assert [estimate.seconds is None for estimate in made.estimates] == [False, True]
    assert origin_of_times(made) == "not known before blocks like these have run here; 1 of 2 have"


@pytest.mark.parametrize(("passes", "seconds"), [(100, 9.0), (10, 80.0)])
def test_short_blocks_say_nothing(passes: int, seconds: float) -> None:
    assert measured(planned(f"passes={passes}"), seconds) == History()


def test_runs_of_another_configuration_are_left_out() -> None:
    made = planned()
    odd = attrs.evolve(made.manifest, config={"depth": 3})
    assert history_of(DEMO, [BlockTiming(odd, odd.blocks[0], 80.0)]) == History()


def finished(results_dir: Path, monkeypatch: pytest.MonkeyPatch, *, seconds: float, state: str = "done") -> RunDir:
    """Return a run whose only block ended ``seconds`` after its claim."""
    run = create_run(results_dir, planned().manifest, Records())
    began = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(claims, "now", lambda: began.isoformat(timespec="milliseconds"))
    claim = claim_block(run.block_dir(0), "cpu")
    assert claim is not None
    ended = (began + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    write_end(run.block_dir(0), End(1, state, "", ended))
    return run


def test_finished_blocks_are_read_from_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment: Experiment = DEMO
    run = finished(tmp_path, monkeypatch, seconds=81.5)
    finished(tmp_path, monkeypatch, seconds=5.0, state="failed")
    (found,) = block_timings(tmp_path, experiment.name)
    assert (found.seconds, found.manifest.run) == (81.5, run.id)


def test_blocks_of_other_machines_and_damaged_runs_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(tmp_path, monkeypatch, seconds=81.5)
    damaged = finished(tmp_path, monkeypatch, seconds=81.5)
    (damaged.path / "run.toml").write_text("format = 'x")
    assert len(list(block_timings(tmp_path, DEMO.name))) == 1
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert list(block_timings(tmp_path, DEMO.name)) == []
