"""Single flipped bits and truncations in every file of a run: whoever reads it gets the right data or a clear error.

``XFW_DAMAGES`` sets how many there are (default 90, dealt over the kinds of file), ``XFW_DAMAGE_SEED`` which.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from xfw.cli.main import invoke
from xfw.errors import UserError
from xfw.experiment import Array, Records
from xfw.manifest import Member
from xfw.plan.history import block_timings
from xfw.store import artifacts, claims
from xfw.store.commit import Commit, Committer, load_state
from xfw.store.contents import gathered
from xfw.store.lineage import trial_sources
from xfw.store.merge import merge
from xfw.store.results import open_run
from xfw.store.rundir import RunDir, create_run
from xfw.store.seal import seal
from xfw.testing.runs import RECORDS, commit_rows, make_manifest
from xfw.testing.small import install

DAMAGES = int(os.environ.get("XFW_DAMAGES", "90"))
SEED = int(os.environ.get("XFW_DAMAGE_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
KINDS = {
    "plan": "run.toml",
    "declaration": "records.json",
    "sealed": "run.h5",
    "checksum": "run.h5.sha256",
    "claim": "blocks/*/claim-*.toml",
    "end": "blocks/*/end-*.toml",
    "state": "blocks/*/state-*.h5",
    "segment": "blocks/*/segments/*.h5",
    "artifact": "artifacts/*/*.npy",
}
COMMANDS = 20
"""Every so many damages all commands of the command line read the run, beside the functions that they call."""


def made_run(results_dir: Path, seed: int) -> RunDir:
    """Return a finished run of two conditions in two blocks, with texts, arrays of unequal shape and an artifact."""
    arrays = (Array("mask", "int64", "kept units"), Array("word", "text", "a word"), Array("big", "float32", "weights"))
    declared = Records(RECORDS.streams, (*RECORDS.arrays, *arrays), RECORDS.default)
    manifest = make_manifest(trials=2, sweep={"lr": [0.01, 0.02]}, blocks=2, idle=1, seed=seed)
    run = create_run(results_dir, manifest, declared)
    for plan in run.manifest.blocks:
        directory, lanes = run.block_dir(plan.index), (plan.members, plan.width)
        claim = claims.claim_block(directory, "cpu")
        assert claim is not None
        committer = Committer(directory)
        committer.commit(commit_rows(*lanes, 0, 2))
        last: Commit = commit_rows(*lanes, 2, 2, final=True)
        more = {
            "mask": [np.arange(member.condition + 1) for member in plan.members],
            "word": np.array([f"trial {member.trial}" for member in plan.members], object),
            "big": np.full((plan.width, 600), plan.index, np.float32),
        }
        committer.commit(attrs.evolve(last, arrays={**last.arrays, **more}))
        claims.write_end(directory, claims.End(claim.attempt, "done", "", claims.now()))
    seal(run)
    return run


@pytest.fixture(scope="module", autouse=True)
def small_limit() -> Iterator[None]:
    """Let arrays of two kilobytes become artifacts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "LIMIT", 2000)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunDir, RunDir]]:
    folder = tmp_path_factory.mktemp("damage")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "site").mkdir()
        patch.syspath_prepend(str(install(folder / "site", "demo")))
        yield made_run(folder / "results", 7), made_run(folder / "results", 8)


def plain(value: Any) -> Any:
    """Return a value in a form that can be compared: arrays as their type, shape and bytes."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return str(array.dtype), array.shape, array.tolist() if array.dtype.kind == "O" else array.tobytes()
    if attrs.has(type(value)):
        return {field.name: plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def read_results(run: RunDir, _other: RunDir) -> Any:
    with open_run(run) as results:
        names = ("run", "preset", "config", "provenance", "conditions", "axes", "versions", "execution", "seed")
        columns = ("seeds", "origin", "trial", "condition", "key", "status", "attempts", "strategy", "parameters")
        arrays = {name: (results.array(name), results.unit(name)) for name in results.arrays()}
        streams = {
            f"{stream}/{name}": (results.values(stream, name), results.unit(f"{stream}/{name}"))
            for stream in results.streams()
            for name in results.variables(stream)
        }
        ragged = [results.ragged(place) for place in range(len(results.trial))]
        return [*(getattr(results, name) for name in (*names, *columns)), arrays, streams, ragged]


def read_sources(run: RunDir, _other: RunDir) -> Any:
    (source,) = trial_sources(run, [Member(1, 1, "")], {1: 1})
    return dict(source.arrays), source.config, source.last("epoch"), source.weights("best")


def read_merged(run: RunDir, other: RunDir) -> Any:
    made = merge([run, other], run.results_dir.parent / "merged", ("xfw",))
    return read_results(made, made)[3:]


def read_blocks(run: RunDir, _other: RunDir) -> Any:
    with gathered(run) as blocks:
        return [
            (block.status, block.records, {name: [block.array(name, lane) for lane in (0, 1)] for name in block.arrays})
            for block in blocks
        ]


def read_history(run: RunDir, _other: RunDir) -> Any:
    timings = [timing for timing in block_timings(run.results_dir, "demo") if timing.manifest.run == run.id]
    if not timings:
        raise UserError("the run was left out")
    return timings


READERS: dict[str, Callable[[RunDir, RunDir], Any]] = {
    "results": read_results,
    "blocks": read_blocks,
    "states": lambda run, _: [load_state(run.block_dir(index)) for index in (0, 1)],
    "plan": lambda run, _: (run.manifest, run.records, run.block_states()),
    "--from": read_sources,
    "history": read_history,
}
LINES = (
    ("runs", "--json"),
    ("show", "RUN", "--json"),
    ("export", "RUN", "--format", "csv", "-o", "OUT"),
    ("analyze", "RUN", "summary", "--json"),
    ("compare", "RUN", "--json"),
)


def said(run: RunDir, line: tuple[str, ...], out: Path) -> tuple[int, str]:
    """Return the exit code of a command and what it printed and wrote."""
    words = [{"RUN": run.id, "OUT": str(out)}.get(word, word) for word in line]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = invoke([*words, "--results-dir", str(run.results_dir)])
    files = [path.read_text() for path in sorted(out.glob("*.csv"))] if code == 0 and line[0] == "export" else []
    return code, text.getvalue() + "".join(files)


def outcome(reader: Callable[[RunDir, RunDir], Any], run: RunDir, other: RunDir) -> Any:
    """Return what was read in a comparable form, or the error that a user is shown."""
    try:
        return plain(reader(RunDir(run.path), other))
    except UserError as error:
        return error


def damages(data: bytes, chance: random.Random) -> bytes:
    """Return data with one flipped bit, or (one time in ten) cut short."""
    if chance.random() < 0.1:
        return data[: chance.randrange(len(data))]
    place = chance.randrange(8 * len(data))
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_file_gives_the_right_data_or_a_clear_error(runs, tmp_path, kind):
    run, other = runs
    chance = random.Random(f"{SEED} {kind}")
    right = {name: outcome(reader, run, other) for name, reader in READERS.items()}
    printed = {line: said(run, line, tmp_path) for line in LINES}
    assert not [value for value in right.values() if isinstance(value, UserError)]
    assert {code for code, _ in printed.values()} == {0}
    noticed = 0
    for number in range(max(DAMAGES // len(KINDS), 1)):
        path = chance.choice(sorted(run.path.glob(KINDS[kind])))
        whole = path.read_bytes()
        path.write_bytes(damages(whole, chance))
        where = f"XFW_DAMAGE_SEED={SEED}: damage {number} of {kind}"
        try:
            found = {name: outcome(reader, run, other) for name, reader in READERS.items()}
            for name, value in found.items():
                assert isinstance(value, UserError) or value == right[name], f"{where}: {name} read other data"
            noticed += any(isinstance(value, UserError) for value in found.values())
            if number % COMMANDS == 0:
                for line, (_, text) in printed.items():
                    code, now = said(run, line, tmp_path)
                    assert code == 2 or now == text or "damaged" in now or "error" in now, f"{where}: {line}: {now}"
        finally:
            path.write_bytes(whole)
    assert noticed > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stand_in", ["empty", "directory", "pipe", "missing"])
def test_what_stands_in_the_place_of_a_file_is_named(runs, tmp_path, kind, stand_in):
    run, other = runs
    path = sorted(run.path.glob(KINDS[kind]))[0]
    right = {name: outcome(reader, run, other) for name, reader in READERS.items()}
    aside = path.rename(tmp_path / "aside")
    try:
        {"empty": path.touch, "directory": path.mkdir, "pipe": lambda: os.mkfifo(path), "missing": lambda: None}[
            stand_in
        ]()
        found = {name: outcome(reader, run, other) for name, reader in READERS.items()}
        codes = {line[0]: said(run, line, tmp_path)[0] for line in LINES}
    finally:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        aside.rename(path)
    if stand_in != "missing":
        assert all(isinstance(value, UserError) or value == right[name] for name, value in found.items())
        assert any(path.name in str(value) for value in found.values() if isinstance(value, UserError))
    assert codes["runs"] == 0


def test_merging_reads_only_what_was_sealed(runs, tmp_path):
    run, other = runs
    right = outcome(read_merged, run, other)
    assert not isinstance(right, UserError)
    whole = run.run_file.read_bytes()
    run.run_file.write_bytes(damages(whole, random.Random(SEED)))
    try:
        assert isinstance(outcome(read_merged, run, other), UserError)
    finally:
        run.run_file.write_bytes(whole)
