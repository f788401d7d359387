"""The directory of a run: how it is made, found, listed and described. Imports no HDF5 library."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import cattrs

from xfw.errors import UserError, did_you_mean
from xfw.experiment import Records
from xfw.manifest import FORMAT, Manifest, Member
from xfw.store import atomic, schema
from xfw.store.claims import DONE, BlockState, block_state, claim_run

__all__ = ["RunDir", "create_run", "find_run", "list_runs", "new_run_id"]

MANIFEST = "run.toml"
LAST = "@last"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
RUN_ID = re.compile(r"([a-z][a-z0-9_]*)-(\d{8})-(\d{6})-([0-9a-f]{4})")


class RunDir:
    """One run on disk. ``path`` is its directory; nothing is read before it is asked for.

    ``data_dir`` stands for the folder of data sets in ``run.toml``, which may have moved since.
    """

    def __init__(self, path: Path, *, data_dir: str = "") -> None:
        self.path = path
        self.data_dir = data_dir

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    @property
    def id(self) -> str:
        """The run id, which is the name of the directory."""
        return self.path.name

    @property
    def results_dir(self) -> Path:
        """The directory that holds this run and the other ones."""
        return self.path.parent.parent

    @property
    def run_file(self) -> Path:
        """The sealed results."""
        return self.path / "run.h5"

    @property
    def report_dir(self) -> Path:
        """The directory of derived tables and figures."""
        return self.path / "report"

    def command(self, verb: str, *, run: str = "") -> str:
        """Return the command line that does something with this run, or with others beside it, as it can be typed."""
        place = "" if self.results_dir == Path("results") else f" --results-dir {shlex.quote(str(self.results_dir))}"
        return f"xfw {verb} {run or self.id}{place}"

    def block_dir(self, index: int) -> Path:
        """Return the directory of a block."""
        return self.path / "blocks" / f"{index:04d}"

    @cached_property
    def manifest(self) -> Manifest:
        """The plan of the run, as ``run.toml`` states it."""
        manifest = read_manifest(self.path / MANIFEST)
        if manifest.run != self.id:
            hint = "give the folder its name back, or put the files back where they belong"
            what = f"{self.path / MANIFEST} belongs to run {manifest.run}, found in the folder of run {self.id}"
            raise UserError(what, hint=hint, exit_code=2)
        if not self.data_dir:
            return manifest
        return attrs.evolve(manifest, execution=attrs.evolve(manifest.execution, data_dir=self.data_dir))

    @cached_property
    def records(self) -> Records:
        """What the experiment declared to store."""
        return schema.read(self.path / schema.FILE)

    def block_states(self) -> list[BlockState]:
        """Return what the files of every block say, in the order of the plan; those of a merged run are done."""
        if self.manifest.merged:
            return [BlockState(DONE, 1) for _ in self.manifest.blocks]
        return [block_state(self.block_dir(block.index)) for block in self.manifest.blocks]


def new_run_id(experiment: str, when: datetime | None = None) -> str:
    """Return a fresh run id: experiment, local time to the second, four random hexadecimal digits."""
    when = when or datetime.now()
    return f"{experiment}-{when:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def create_run(
    results_dir: Path, manifest: Manifest, records: Records | Sequence[Records] = (), *, claimed: bool = False
) -> RunDir:
    """Create the directory of a new run; an id that is taken already, or empty, is replaced by a fresh one.

    ``records`` is the experiment's declaration, or one per condition. ``claimed`` shows from the first moment that this
    process is at work on the run. Raises UserError (exit code 2) where nothing can be written.
    """
    declared = schema.merge([records] if isinstance(records, Records) else records)
    try:
        path = make_directory(results_dir, manifest)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "choose another place with --results-dir"
        raise UserError(f"cannot write to results directory {results_dir}: {reason}", hint=hint, exit_code=2) from error
    schema.write(path / schema.FILE, declared)
    for block in () if manifest.merged else manifest.blocks:
        (path / "blocks" / f"{block.index:04d}").mkdir(parents=True)
    if claimed:
        claim_run(path)
    atomic.write(path / MANIFEST, [atomic.to_toml(to_toml(attrs.evolve(manifest, run=path.name)))])
    atomic.sync_directory(path.parent)
    return RunDir(path)


def make_directory(results_dir: Path, manifest: Manifest) -> Path:
    """Create an empty directory with the run's id, or with a fresh id where that one exists."""
    run = manifest.run or new_run_id(manifest.experiment)
    while True:
        path = results_dir / manifest.experiment / run
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            run = new_run_id(manifest.experiment)
        else:
            return path


def list_runs(results_dir: Path) -> list[RunDir]:
    """Return all runs below a results directory, oldest first. Links are not followed."""
    return [RunDir(path) for path in sorted(run_paths(results_dir), key=age)]


def run_paths(results_dir: Path) -> Iterator[Path]:
    """Yield the directories ``<experiment>/<run id>`` that hold a ``run.toml``."""
    for parent in directories(results_dir):
        for path in directories(parent):
            match = RUN_ID.fullmatch(path.name)
            if match and match[1] == parent.name and (path / MANIFEST).exists():
                yield path


def directories(path: Path) -> Iterator[Path]:
    """Yield the real directories in ``path``; nothing where it does not exist."""
    if path.is_dir():
        yield from (child for child in path.iterdir() if child.is_dir() and not child.is_symlink())


def age(path: Path) -> tuple[str, str, int, str]:
    """Return a key that sorts runs by their time, to the second by name and then by ``run.toml``."""
    match = RUN_ID.fullmatch(path.name)
    date, second = (match[2], match[3]) if match else ("", "")
    return date, second, (path / MANIFEST).stat().st_mtime_ns, path.name


def find_run(results_dir: Path, text: str) -> RunDir:
    """Return the run that ``text`` names: a run id, ``@last`` or an experiment (its newest run); never a path."""
    if text != LAST and not NAME.fullmatch(text):
        raise UserError(f"'{text}' is not the name of a run", hint=HOW_TO_NAME, exit_code=2)
    runs = list_runs(results_dir)
    if not runs:
        raise UserError(f"there are no runs in {results_dir}", hint="start one with `xfw run`", exit_code=2)
    experiment = text.replace("-", "_")
    matching = [run for run in runs if text in (LAST, run.id) or run.path.parent.name == experiment]
    if not matching:
        known = {run.id for run in runs} | {run.path.parent.name for run in runs}
        raise UserError(
            f"no run '{text}' in {results_dir}", hint=f"{closest(text, known)}\n  {HOW_TO_NAME}", exit_code=2
        )
    return matching[-1]


HOW_TO_NAME = "give a run id, an experiment (its newest run) or @last; `xfw runs` lists them"


def closest(text: str, known: set[str]) -> str:
    """Suggest the nearest name; a list of every run would hide it."""
    suggestion = did_you_mean(text, known)
    return suggestion if len(known) <= 8 or suggestion.startswith("did") else f"{len(known)} names are known"


def to_toml(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest as TOML holds it: nothing where the value is None, one text per member."""
    content: dict[str, Any] = without_none(cattrs.unstructure(manifest))
    for block, plan in zip(content["blocks"], manifest.blocks, strict=True):
        block["members"] = [f"{member.condition} {member.trial} {member.key}" for member in plan.members]
    return content


def without_none(value: Any) -> Any:
    """Drop the entries that are None from mappings, at any depth."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value


def read_manifest(path: Path) -> Manifest:
    """Read ``run.toml``; a damaged one, or one of a newer xfw, raises UserError."""
    content = atomic.from_toml(path)
    version = content.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise UserError(f"{path} was written by a newer xfw", hint="update xfw", exit_code=2)
    converter = cattrs.Converter()
    converter.register_structure_hook(Member, lambda text, _: read_member(text))
    manifest = atomic.structured(path, content, Manifest, converter=converter)
    if any(not 0 <= member.condition < len(manifest.conditions) for member in manifest.members()):
        raise atomic.damaged(path, f"a trial names a condition beyond the {len(manifest.conditions)} that there are")
    return manifest


def read_member(text: str) -> Member:
    """Return the member that a text such as ``0 7 9f86d081884c7d65`` stands for."""
    condition, trial, key = text.split(" ")
    return Member(int(condition), int(trial), key)
