"""Weights & Biases, offline: what lies in its files after a run, read without its own reader.

A ``.wandb`` file is a header of 7 bytes and a LevelDB log: blocks of 32 KiB with records of checksum (4 bytes),
length (2), type (1: whole, 2: first, 3: middle, 4: last part) and data; each datum is one protocol buffer.
"""

from __future__ import annotations

import json
import os
import re
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from xfw.cli.main import invoke
from xfw.store.results import open_run
from xfw.store.rundir import RunDir, find_run
from xfw.testing import small
from xfw.testing.runs import metrics_of
from xfw_wandb.tracker import WandbOptions, flat

wandb = pytest.importorskip("wandb", reason="the package wandb is not installed: nothing of xfw-wandb is tested")

BLOCK, HEADER = 32 * 1024, 7


def data(path: Path) -> Iterator[bytes]:
    """Yield the records of a .wandb file."""
    content, place, parts = path.read_bytes(), HEADER, b""
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


class Session:
    """One W&B session: identity, configuration, rows, summary."""

    def __init__(self, path: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        self.run: Any = None
        self.ended = False
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.defined: dict[str, str] = {}
        self.folder = path.parent
        for datum in data(path):
            record = Record()
            record.ParseFromString(datum)
            self._take(record)

    @property
    def config(self) -> dict[str, Any]:
        return {item.key: json.loads(item.value_json) for item in self.run.config.update}

    def _take(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self.run = record.run
        elif kind == "history":
            items = {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            self.rows.append({name: value for name, value in items.items() if name not in ("_runtime", "_timestamp")})
        elif kind == "summary":
            for item in record.summary.update:
                self.summary[".".join(item.nested_key) or item.key] = json.loads(item.value_json)
        elif kind == "exit":
            self.ended = True
        elif kind == "metric":
            self.defined[record.metric.glob_name or record.metric.name] = record.metric.step_metric


def read(path: Path) -> Session:
    """Read a session when W&B's own process has written its end, which it does in its own time."""
    deadline = time.monotonic() + 30
    while not (session := Session(path)).ended and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session.ended
    return session


def sessions(run: RunDir) -> dict[str, list[Session]]:
    """Return the sessions of every W&B run of a run's directory, by id and in order of time."""
    found: dict[str, list[Session]] = {}
    for path in sorted((run.path / "tracking").rglob("*.wandb")):
        session = read(path)
        found.setdefault(session.run.run_id.removeprefix(f"{run.id}-"), []).append(session)
    return found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site, work = tmp_path / "site", tmp_path / "work"
    site.mkdir()
    work.mkdir()
    monkeypatch.syspath_prepend(str(small.install(site)))
    monkeypatch.chdir(work)
    monkeypatch.setenv("XFW_COMMIT_SECONDS", "0")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return work


def trained(*arguments: str, track: str = "wandb:mode=offline") -> RunDir:
    place = ["--jobs", "0", "--device", "cpu", "--quiet", "--seed", "1", *(["--track", track] if track else [])]
    assert invoke(["run", "small", *place, *arguments]) == 0
    return find_run(Path("results"), "@last")


def test_a_trial_is_a_wandb_run_with_all_its_rows_and_metrics() -> None:
    run = trained("-s", "lr=0.01,0.02", "--trials", "2")
    found = sessions(run)
    assert sorted(found) == ["0-0", "0-1", "1-0", "1-1"]
    with open_run(run) as results:
        for place in range(4):
            (session,) = found[f"{results.condition[place]}-{results.trial[place]}"]
            assert [row["_step"] for row in session.rows] == [0, 1, 2, 3]
            assert [row["epoch/epoch"] for row in session.rows] == [1, 2, 3, 4]
            losses = np.array([row["epoch/loss"] for row in session.rows], np.float32)
            assert (losses == results.values("epoch", "loss")[place]).all()
            assert [row["epoch/better"] for row in session.rows] == results.values("epoch", "better")[place].tolist()
            assert session.summary["best"] == results.array("best")[place]
            assert session.summary["status"] == "done"
            assert session.defined == {"epoch/*": "epoch/epoch"}


def test_identity_and_configuration() -> None:
    run = trained("-s", "lr=0.01,0.02", "-s", "width=3")
    (session,) = sessions(run)["1-0"]
    assert (session.run.project, session.run.run_group, session.run.job_type) == ("small", run.id, "train")
    assert (session.run.display_name, list(session.run.tags)) == ("lr=0.02 trial 0", ["small", "quick"])
    assert {name: session.config[name] for name in ("lr", "width", "epochs")} == {"lr": 0.02, "width": 3, "epochs": 4}
    origin = session.config["xfw"]
    assert (origin["id"], origin["condition"], origin["trial"], origin["seed"]) == (run.id, 1, 0, 1)
    assert origin["execution"]["device"] == "cpu"


def test_options_name_project_group_and_job_type(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    track = f"wandb:mode=offline,project=net-fragments,group=paper,job_type=eval,dir={elsewhere}"
    run = trained(track=track)
    assert sessions(run) == {}
    (path,) = elsewhere.rglob("*.wandb")
    found = read(path).run
    assert (found.project, found.run_group, found.job_type) == ("net-fragments", "paper", "eval")


def test_more_trials_than_may_be_open_are_taken_up_again() -> None:
    run = trained("--trials", "3", track="wandb:mode=offline,open=1")
    for parts in sessions(run).values():
        assert [row["_step"] for session in parts for row in session.rows] == [0, 1, 2, 3]
        assert parts[-1].summary["status"] == "done"


def test_a_finished_run_is_sent_afterwards_and_only_once() -> None:
    run = trained(track="")
    assert sessions(run) == {}
    for _ in range(2):
        assert invoke(["resume", run.id, "--track", "wandb:mode=offline"]) == 0
    ((session,),) = sessions(run).values()
    assert len(session.rows) == 4


def test_figures_of_analyze_go_to_a_wandb_run_of_the_group() -> None:
    run = trained("--trials", "2", track="")
    assert invoke(["analyze", run.id, "curves", "--format", "png", "--track", "wandb:mode=offline"]) == 0
    (session,) = sessions(run)["report"]
    assert (session.run.job_type, session.run.run_group) == ("report", run.id)
    made = {path.stem for path in run.report_dir.glob("*.png")}
    assert made
    assert {name.partition(".")[0] for row in session.rows for name in row} - {"_step"} == made
    assert len(list(session.folder.rglob("*.png"))) == len(made)


def test_tracking_changes_no_stored_number_and_writes_nowhere_else(folder: Path) -> None:
    plain = metrics_of(trained("--trials", "2", track=""))
    assert metrics_of(trained("--trials", "2")) == plain
    assert sorted(path.name for path in folder.iterdir()) == ["results"]


def test_texts_and_arrays_of_a_row() -> None:
    found = flat({"t": np.array("a", object), "n": np.int64(3), "v": np.arange(3.0), "big": np.arange(100.0)})
    assert {name: value for name, value in found.items() if name != "big"} == {
        "t": "a",
        "n": 3,
        "v/0": 0.0,
        "v/1": 1.0,
        "v/2": 2.0,
    }
    assert isinstance(found["big"], wandb.Histogram)


def test_every_option_is_documented() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    table = page.partition("| option |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [field.name for field in attrs.fields(WandbOptions)]


def test_without_the_package_nothing_is_computed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert invoke(["run", "small", "--jobs", "0", "--track", "wandb:mode=offline"]) == 2
    assert "--track wandb needs the package wandb\n  pip install wandb" in capsys.readouterr().err
    assert not Path("results").exists()


def test_without_a_login_nothing_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "small", "--jobs", "0", "--track", "wandb:mode=online"]) == 2
    assert "you are not logged in to W&B" in capsys.readouterr().err
    assert not Path("results").exists()


def test_the_extension_imports_no_wandb_until_it_is_used() -> None:
    import subprocess

    code = "import sys, xfw_wandb; xfw_wandb.register_trackers(); print('wandb' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "False"]
