"""``--track``: what trackers are told, when they are refused, and that they change no number of a run."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
import pytest
from xfw.cli.main import invoke
from xfw.plugins.discovery import EXTENSIONS
from xfw.store import claims, segments
from xfw.store.commit import Committer, load_state
from xfw.store.results import open_run
from xfw.store.rundir import RunDir, create_run, find_run
from xfw.store.seal import seal
from xfw.testing import small
from xfw.testing.plugins import write_distribution
from xfw.testing.runs import RECORDS, commit_rows, finished_run, make_manifest, metrics_of
from xfw.tracking.protocol import TrackedRun, TrackedTrial, Tracker
from xfw.tracking.session import Chosen, Tracking

EXTENSION = """
import json
from pathlib import Path

import attrs
import numpy as np
import xfw

api = 2


@attrs.frozen
class Options:
    path: str = xfw.key("calls.jsonl", help="file")
    fail: str | None = xfw.key(None, help="method that raises")
    broken: bool = xfw.key(False, help="cannot work here")


class Fake:
    name = "fake"
    Options = Options

    def __init__(self, options, run):
        self.options = options
        self.write("start", run.id, run.experiment, str(run.folder))

    @staticmethod
    def check(options):
        if options.broken:
            raise xfw.UserError("the fake service is down", hint="mend it", exit_code=2)

    def write(self, *call):
        if self.options.fail == call[0]:
            raise ValueError(f"{call[0]} was asked to fail")
        with Path(self.options.path).open("a") as file:
            file.write(json.dumps(call, default=lambda value: np.asarray(value).tolist()) + "\\n")

    def rows(self, trial, stream, coordinate, first, rows):
        self.write("rows", trial.condition, trial.trial, stream, coordinate, first, rows)
        self.write("trial", trial.condition, trial.trial, trial.label, trial.seed, trial.key, trial.config)

    def metrics(self, trial, values, status):
        self.write("metrics", trial.condition, trial.trial, values, status)

    def figure(self, name, path):
        self.write("figure", name, str(path))

    def close(self, *, finished):
        self.write("close", finished)


@xfw.hookimpl
def register_trackers():
    return [Fake]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    small.install(site)
    write_distribution(site, "fake", EXTENSION, group=EXTENSIONS)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XFW_COMMIT_SECONDS", "0")
    return tmp_path


def trained(*arguments: str, code: int = 0) -> RunDir:
    place = ["--jobs", "0", "--device", "cpu", "--quiet", "--seed", "1"]
    assert invoke(["run", "small", *place, *arguments]) == code
    return find_run(Path("results"), "@last")


def calls(kind: str) -> list[list[Any]]:
    path = Path("calls.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    return [call[1:] for call in map(json.loads, lines) if call[0] == kind]


def told(stream: str) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Return the rows of every trial in the order in which the tracker got them; their numbers must be without gap."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for condition, trial, name, _, first, rows in calls("rows"):
        if name == stream:
            mine = found.setdefault((condition, trial), [])
            assert first == len(mine)
            mine += rows
    return found


# --- what a tracker is told ------------------------------------------------------------------------------


def test_every_row_arrives_once_and_is_what_is_sealed() -> None:
    run = trained("-s", "lr=0.01,0.02", "--trials", "2", "--block-size", "3", "--track", "fake")
    with open_run(run) as results:
        for place in range(4):
            rows = told("epoch")[int(results.condition[place]), int(results.trial[place])]
            assert [row["epoch"] for row in rows] == results.coordinate("epoch").tolist()
            for name in ("loss", "correct", "better"):
                assert [row[name] for row in rows] == results.values("epoch", name)[place].tolist()


def test_trials_are_told_with_their_configuration_and_name() -> None:
    run = trained("-s", "lr=0.01,0.02", "--track", "fake")
    assert calls("start") == [[run.id, "small", str(run.path / "tracking" / "fake")]]
    found = {(condition, trial): rest for condition, trial, *rest in calls("trial")}
    label, seed, key, config = found[1, 0]
    assert (label, seed, key) == ("lr=0.02 trial 0", 1, run.manifest.members()[1].key)
    assert (config["lr"], config["width"], config["epochs"]) == (0.02, 5, 4)


def test_metrics_come_at_the_end_with_the_status() -> None:
    run = trained("--trials", "2", "--track", "fake")
    with open_run(run) as results:
        best = results.array("best").tolist()
    assert [(trial, values["best"], status) for _, trial, values, status in calls("metrics")] == [
        (0, best[0], "done"),
        (1, best[1], "done"),
    ]
    assert calls("close") == [[True]]


def test_processes_are_followed_too() -> None:
    place = ["--jobs", "2", "--device", "cpu", "--quiet", "--seed", "1", "--track", "fake"]
    assert invoke(["run", "small", "--trials", "4", *place]) == 0
    assert {pair: len(rows) for pair, rows in told("epoch").items()} == {(0, trial): 4 for trial in range(4)}


def test_live_pictures_and_those_of_analyze_are_figures() -> None:
    run = trained("--trials", "2")
    live = run.report_dir / "live" / "network.png"
    live.parent.mkdir(parents=True)
    live.write_bytes(b"png")
    assert invoke(["resume", run.id, "--track", "fake"]) == 0
    assert calls("figure") == [["live/network", str(live)]]
    assert invoke(["analyze", run.id, "curves", "--track", "fake", "--format", "png,pdf"]) == 0
    made = sorted(path.stem for path in run.report_dir.glob("*.png"))
    assert made
    assert sorted(name for name, _ in calls("figure")[1:]) == made


def test_a_finished_run_can_be_tracked_afterwards_and_only_once() -> None:
    run = trained("--trials", "2")
    assert invoke(["resume", run.id, "--track", "fake"]) == 0
    assert {pair: len(rows) for pair, rows in told("epoch").items()} == {(0, 0): 4, (0, 1): 4}
    before = Path("calls.jsonl").read_text()
    assert invoke(["resume", run.id, "--track", "fake"]) == 0
    assert Path("calls.jsonl").read_text() == before


# --- following files -------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Chosen:
    import importlib

    module = importlib.import_module("xfw_fake")
    return Chosen(module.Fake, module.Options())


def committed(run: RunDir, committer: Committer, first: int, rows: int, *, final: bool = False) -> None:
    plan = run.manifest.blocks[0]
    committer.commit(commit_rows(plan.members, plan.width, first, rows, final=final))


def test_a_resumed_run_goes_on_without_duplicates(fake: Chosen) -> None:
    run = create_run(Path("results"), make_manifest(idle=1), RECORDS)
    committer = Committer(run.block_dir(0))
    with Tracking(run, [fake], None):
        committed(run, committer, 0, 2)
        committed(run, committer, 2, 1)
    assert calls("close") == [[False]]
    again = Committer(run.block_dir(0), load_state(run.block_dir(0)))
    with Tracking(run, [fake], None):
        claim = claims.claim_block(run.block_dir(0), "cpu")
        assert claim is not None
        committed(run, again, 3, 2, final=True)
        claims.write_end(run.block_dir(0), claims.End(claim.attempt, "done", "", claims.now()))
        seal(run)
    assert {pair: [row["correct"] for row in rows] for pair, rows in told("epoch").items()} == {
        (0, 0): [0, 1, 2, 3, 4],
        (0, 1): [10, 11, 12, 13, 14],
    }
    assert [row["epoch"] for row in told("epoch")[0, 0]] == [1, 2, 3, 4, 5]
    assert calls("close") == [[False], [True]]


def test_a_segment_that_no_state_counts_is_not_told(fake: Chosen) -> None:
    run = create_run(Path("results"), make_manifest(), RECORDS)
    committer = Committer(run.block_dir(0))
    committed(run, committer, 0, 2)
    rows = {"epoch": {"correct": np.full((1, 2), 99)}}
    segments.write(run.block_dir(0), 2, {"epoch": 2}, rows, 1)
    with Tracking(run, [fake], None):
        pass
    assert [len(rows) for rows in told("epoch").values()] == [2, 2]


def test_all_rows_of_a_finished_run_are_told_though_the_clock_was_set_back(fake: Chosen) -> None:
    run = finished_run(Path("results"))
    state = run.block_dir(0) / "state-1.h5"
    earlier = segments.path_of(run.block_dir(0), 1, 1).stat().st_mtime_ns - 10**9
    os.utime(state, ns=(earlier, earlier))
    with Tracking(run, [fake], None):
        pass
    assert [len(rows) for rows in told("epoch").values()] == [4, 4]
    assert calls("close") == [[True]]


def test_a_damaged_segment_is_said_and_nothing_fails(fake: Chosen, capsys: pytest.CaptureFixture[str]) -> None:
    run = create_run(Path("results"), make_manifest(), RECORDS)
    committed(run, Committer(run.block_dir(0)), 0, 2)
    path = segments.path_of(run.block_dir(0), 1, 1)
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with Tracking(run, [fake], None):
        pass
    assert "00001-1.h5 is damaged" in capsys.readouterr().err


# --- what never happens ----------------------------------------------------------------------------------


def stored(run: RunDir) -> dict[str, Any]:
    found: dict[str, Any] = {**metrics_of(run)}
    with h5py.File(run.run_file) as file:
        found["root"] = {name: file[name][()].tolist() for name in ("key", "seed", "trial", "status", "strategy")}
    return found


def test_tracking_changes_no_stored_number() -> None:
    plain = stored(trained("--trials", "3"))
    assert stored(trained("--trials", "3", "--track", "fake")) == plain
    assert stored(trained("--trials", "3", "--track", "fake:fail=rows")) == plain


@pytest.mark.parametrize("method", ["start", "rows", "metrics", "close"])
def test_a_failing_tracker_is_shown_once_and_kept_and_fails_nothing(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("--trials", "3", "--block-size", "1", "--track", f"fake:fail={method}")
    error = capsys.readouterr().err
    assert error.count("warning: tracker 'fake' failed") == 1
    assert f"ValueError: {method} was asked to fail" in error
    assert "Traceback" in (run.path / "tracking" / "fake.txt").read_text()
    with open_run(run) as results:
        assert results.status == ["done"] * 3


def test_what_a_failed_tracker_missed_is_told_on_resume() -> None:
    run = trained("--trials", "2", "--track", "fake:fail=rows")
    assert told("epoch") == {}
    assert invoke(["resume", run.id, "--track", "fake"]) == 0
    assert {len(rows) for rows in told("epoch").values()} == {4}
    assert all(math.isfinite(row["loss"]) for rows in told("epoch").values() for row in rows)


@pytest.mark.parametrize(
    ("track", "message"),
    [
        ("fakes", "did you mean 'fake'?"),
        ("mlflow", "pip install xfw-mlflow"),
        ("fake:broken=true", "the fake service is down"),
        ("fake:paht=x", "did you mean 'path'?"),
        ("fake:broken=perhaps", "$.broken: found 'perhaps', expected true or false"),
        ("fake:path", "expected KEY=VALUE"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_done(
    track: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", "small", "--jobs", "0", "--quiet", "--track", track]) == 2
    assert message in capsys.readouterr().err
    assert not Path("results").exists()


def test_resume_and_analyze_refuse_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    run = trained()
    before = sorted(Path("results").rglob("*"))
    for command in ("resume", "analyze"):
        assert invoke([command, run.id, "--track", "fakes"]) == 2
        assert "did you mean 'fake'?" in capsys.readouterr().err
    assert sorted(Path("results").rglob("*")) == before


def test_figures_that_belong_to_no_run_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["analyze", "small", "--track", "fake"]) == 2
    assert "belong to no run" in capsys.readouterr().err


def test_the_tables_for_authors_are_those_of_the_protocol() -> None:
    text = (Path(__file__).parents[1] / "docs" / "extensions.md").read_text(encoding="utf-8")
    methods = {name for name, value in vars(Tracker).items() if callable(value) and name[:1] != "_"} | {"__init__"}
    assert set(re.findall(r"^\| `(\w+)\(", text, re.MULTILINE)) == methods - {"_no_init_or_replace_init"}
    named = set(re.findall(r"`(\w+)`", text))
    assert {field.name for kind in (TrackedRun, TrackedTrial) for field in attrs.fields(kind)} <= named
