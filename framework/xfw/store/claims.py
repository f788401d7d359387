"""Who runs a block or supervises a run, whether that process is still there, and how each attempt ended."""

from __future__ import annotations

import os
import platform
import re
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs

from xfw.errors import UserError
from xfw.store import atomic

__all__ = [
    "HEARTBEAT",
    "BlockState",
    "Claim",
    "End",
    "Superseded",
    "at_work",
    "attempt_count",
    "block_state",
    "check_newest",
    "claim_block",
    "claim_path",
    "claim_run",
    "is_alive",
    "process_start",
    "supervisors",
    "write_end",
]

HEARTBEAT = 10.0
"""Seconds between two touches of a claim; three missed ones count as lost."""

SUPERVISOR = "supervisor"
UNKNOWN = "unknown"
LARGEST = 1 << 16
"""Bytes that a claim has at most."""

T = TypeVar("T")
Numbered = TypeVar("Numbered", "Claim", "End")

DONE, FAILED, REFUSED, INTERRUPTED, CRASHED = "done", "failed", "refused", "interrupted", "crashed"
PENDING, RUNNING, LOST = "pending", "running", "lost"
ENDS = (DONE, FAILED, REFUSED, INTERRUPTED)


@attrs.frozen
class Claim:
    """The owner of one attempt at a block, or of the supervision of a run.

    ``start`` tells a process from a later one with the same id, where the table of processes can be trusted;
    ``boot_id`` and ``pid_namespace`` say in whose table ``pid`` counts.
    """

    attempt: int
    host: str
    pid: int
    start: str
    boot_id: str
    device: str
    time: str
    pid_namespace: str = ""

    @property
    def owner(self) -> str:
        """Name the process."""
        return f"process {self.pid} on {self.host}"


@attrs.frozen
class End:
    """How an attempt ended: ``state`` is done, failed, refused or interrupted; ``exit_code`` is for users."""

    attempt: int
    state: str
    reason: str
    time: str
    exit_code: int = 1


@attrs.frozen
class BlockState:
    """What a block's files say about it."""

    state: str
    attempts: int
    claim: Claim | None = None
    end: End | None = None

    @property
    def owner(self) -> str:
        """Name the process of the newest attempt."""
        return self.claim.owner if self.claim else "nobody"

    @property
    def resumable(self) -> bool:
        """Say whether a new attempt may start."""
        return self.state not in (DONE, RUNNING)


def claim_path(block_dir: Path, attempt: int) -> Path:
    """Return the file that claims an attempt, counted from 1."""
    return block_dir / f"claim-{attempt}.toml"


def end_path(block_dir: Path, attempt: int) -> Path:
    """Return the file that says how an attempt ended."""
    return block_dir / f"end-{attempt}.toml"


def attempt_count(block_dir: Path) -> int:
    """Return the number of the newest attempt, 0 before the first."""
    return max(numbers(block_dir, "claim"), default=0)


def numbers(directory: Path, name: str) -> list[int]:
    """Return the numbers N of the files ``name-N.toml``, in order."""
    matches = [re.fullmatch(rf"{name}-([1-9][0-9]*)\.toml", path.name) for path in directory.glob(f"{name}-*.toml")]
    return sorted(int(match[1]) for match in matches if match)


def claim_block(block_dir: Path, device: str) -> Claim | None:
    """Claim the next attempt by exclusive creation; return None where another process has the block or has done it."""
    newest = block_state(block_dir)
    if not newest.resumable:
        return None
    claim = claim_of_this_process(newest.attempts + 1, device)
    created = atomic.create_exclusively(claim_path(block_dir, claim.attempt), to_toml(claim))
    return claim if created else None


def claim_of_this_process(attempt: int, device: str = "") -> Claim:
    """Return a claim in the name of this process."""
    trusted = process_table_is_ours()
    return Claim(
        attempt=attempt,
        host=socket.gethostname(),
        pid=os.getpid(),
        start=process_start(os.getpid()) if trusted else "",
        boot_id=boot_id(),
        device=device,
        time=now(),
        pid_namespace=pid_namespace() if trusted else "",
    )


def check_newest(block_dir: Path, attempt: int) -> None:
    """Raise Superseded unless ``attempt`` is the newest: whoever was taken for lost must not write any more."""
    newest = attempt_count(block_dir)
    if newest != attempt:
        what = f"attempt {newest} has taken over" if newest > attempt else f"{claim_path(block_dir, attempt)} is gone"
        raise Superseded(f"{what}; attempt {attempt} writes nothing more")


class Superseded(UserError):  # noqa: N818 - the way an attempt ends that has lost its block
    """The block belongs to a later attempt, because this one was taken for lost, or its directory was removed."""


def claim_run(run_dir: Path) -> Path:
    """Say that this process supervises a run, and return the file that does; it is to be touched, and removed."""
    for number in numbers(run_dir, SUPERVISOR):
        path = run_dir / f"{SUPERVISOR}-{number}.toml"
        try:
            claim = read(path, Claim)
        except UserError:
            continue
        if same_table(claim) and (claim.pid, claim.start) == (os.getpid(), process_start(os.getpid())):
            return path
        if not is_alive(path, claim):
            path.unlink(missing_ok=True)
    number = max(numbers(run_dir, SUPERVISOR), default=0) + 1
    while True:
        path = run_dir / f"{SUPERVISOR}-{number}.toml"
        if atomic.create_exclusively(path, to_toml(claim_of_this_process(number))):
            return path
        number += 1


def supervisors(run_dir: Path) -> Sequence[Claim]:
    """Return the living processes that supervise a run; a damaged file counts for nobody."""
    living = []
    for number in numbers(run_dir, SUPERVISOR):
        path = run_dir / f"{SUPERVISOR}-{number}.toml"
        try:
            claim = read(path, Claim)
        except UserError:
            continue
        if is_alive(path, claim):
            living.append(claim)
    return living


def write_end(block_dir: Path, end: End) -> None:
    """Store how an attempt ended, atomically."""
    atomic.write(end_path(block_dir, end.attempt), [to_toml(end)])


def at_work(run_dir: Path) -> str:
    """Return the process that is at work on a run, or on one of its blocks; empty where none is.

    Of a block whose claim is damaged, its heartbeat tells.
    """
    for claim in supervisors(run_dir):
        return claim.owner
    for block_dir in sorted((run_dir / "blocks").glob("*")):
        try:
            block = block_state(block_dir)
        except UserError:
            if beats(claim_path(block_dir, attempt_count(block_dir))):
                return "a process that the damaged claim of a block does not name"
            continue
        if block.state == RUNNING:
            return block.owner
    return ""


def block_state(block_dir: Path) -> BlockState:
    """Compute a block's state from its files; nothing of it is stored. A damaged file raises UserError."""
    attempt = attempt_count(block_dir)
    if not attempt:
        return BlockState(PENDING, 0)
    path = claim_path(block_dir, attempt)
    claim = numbered(path, Claim, attempt)
    if os.path.lexists(ended := end_path(block_dir, attempt)):
        end = numbered(ended, End, attempt)
        if end.state not in ENDS:
            raise atomic.damaged(ended, f"found state '{end.state}', expected one of {', '.join(ENDS)}")
        return BlockState(end.state, attempt, claim, end)
    return BlockState(RUNNING if is_alive(path, claim) else LOST, attempt, claim)


def numbered(path: Path, kind: type[Numbered], attempt: int) -> Numbered:
    """Read what a file says of an attempt; UserError where it is of another one."""
    content = read(path, kind)
    if content.attempt != attempt:
        raise atomic.damaged(path, f"it is of attempt {content.attempt}")
    return content


def is_alive(path: Path, claim: Claim) -> bool:
    """Say whether the owner of a claim is there.

    Its own table of processes tells at once. Seen from another machine or another pid namespace (two containers may
    share name, kernel and results), only the heartbeat counts, for three intervals.
    """
    if claim.start and same_table(claim):
        start = process_start(claim.pid)
        if start != UNKNOWN or claim.start == UNKNOWN:
            return start == claim.start
    return beats(path)


def beats(path: Path) -> bool:
    """Say whether a claim was touched within three intervals, by the clock of the file system that holds it."""
    try:
        return abs(file_system_time(path) - path.stat().st_mtime) <= 3 * HEARTBEAT
    except FileNotFoundError:
        return False


def file_system_time(path: Path) -> float:
    """Return the time that a file beside ``path`` gets now; this machine's where nothing can be written there."""
    probe = path.with_name(f"clock.{os.getpid()}{atomic.SUFFIX}")
    try:
        probe.touch()
        os.utime(probe)
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)


def same_table(claim: Claim) -> bool:
    """Say whether this process sees the claim's owner in its table of processes."""
    ours = (socket.gethostname(), boot_id(), pid_namespace())
    return process_table_is_ours() and (claim.host, claim.boot_id, claim.pid_namespace) == ours


def pid_namespace() -> str:
    """Return the name of this process's pid namespace; empty where the system has none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def process_table_is_ours() -> bool:
    """Say whether /proc numbers processes as this one is numbered (after `unshare --pid` alone it does not)."""
    try:
        return Path("/proc/self").readlink().name == str(os.getpid())
    except OSError:
        return platform.system() != "Linux"


def process_start(pid: int) -> str:
    """Return a text that tells this process from a later one with the same id; empty where none is running.

    It is ``unknown`` for a process that is there, but hides when it started.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):  # it may end while it is read
        return UNKNOWN if answers(pid) else ""


def answers(pid: int) -> bool:
    """Say whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def boot_id() -> str:
    """Return what changes when this machine starts anew; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def to_toml(value: Any) -> bytes:
    """Return an attrs value as TOML behind its checksum."""
    return atomic.to_toml(attrs.asdict(value))


def read(path: Path, kind: type[T]) -> T:
    """Return the content of a small file of ours; UserError that names it where it is not what was written.

    Keys that this version does not know are passed over.
    """
    return atomic.structured(path, atomic.from_toml(path, most=LARGEST), kind, converter=CONVERTER)


def plain(value: Any, kind: type[Any]) -> Any:
    """Return a value of exactly this type: nothing is converted."""
    if type(value) is not kind:
        raise ValueError(f"found {value!r}, expected {kind.__name__}")
    return value


CONVERTER = cattrs.Converter()
for exact in (int, str):
    CONVERTER.register_structure_hook(exact, plain)
