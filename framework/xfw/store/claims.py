"""Who runs a block, whether that process is still there, and how each attempt ended."""

from __future__ import annotations

import os
import platform
import re
import socket
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from xfw.errors import UserError
from xfw.store import atomic

__all__ = [
    "HEARTBEAT",
    "BlockState",
    "Claim",
    "End",
    "attempt_count",
    "block_state",
    "claim_block",
    "claim_path",
    "is_alive",
    "process_start",
    "write_end",
]

HEARTBEAT = 10.0
"""Seconds between two touches of a claim; three missed ones count as lost."""

DONE, FAILED, REFUSED, INTERRUPTED, CRASHED = "done", "failed", "refused", "interrupted", "crashed"
PENDING, RUNNING, LOST = "pending", "running", "lost"


@attrs.frozen
class Claim:
    """The owner of one attempt at a block."""

    attempt: int
    host: str
    pid: int
    start: str
    boot_id: str
    device: str
    time: str


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
        return f"process {self.claim.pid} on {self.claim.host}" if self.claim else "nobody"

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
    found = [re.fullmatch(r"claim-(\d+)\.toml", path.name) for path in block_dir.glob("claim-*.toml")]
    return max((int(match[1]) for match in found if match), default=0)


def claim_block(block_dir: Path, device: str) -> Claim | None:
    """Claim the next attempt by exclusive creation; return None where another process has the block or has done it."""
    newest = block_state(block_dir)
    if not newest.resumable:
        return None
    claim = Claim(
        attempt=newest.attempts + 1,
        host=socket.gethostname(),
        pid=os.getpid(),
        start=process_start(os.getpid()),
        boot_id=boot_id(),
        device=device,
        time=now(),
    )
    created = atomic.create_exclusively(claim_path(block_dir, claim.attempt), to_toml(claim))
    return claim if created else None


def write_end(block_dir: Path, end: End) -> None:
    """Store how an attempt ended, atomically."""
    atomic.write(end_path(block_dir, end.attempt), [to_toml(end)])


def block_state(block_dir: Path) -> BlockState:
    """Compute a block's state from its files; nothing of it is stored."""
    attempt = attempt_count(block_dir)
    if not attempt:
        return BlockState(PENDING, 0)
    claim = Claim(**read_toml(claim_path(block_dir, attempt)))
    ended = end_path(block_dir, attempt)
    if ended.exists():
        end = End(**read_toml(ended))
        return BlockState(end.state, attempt, claim, end)
    return BlockState(RUNNING if is_alive(block_dir, claim) else LOST, attempt, claim)


def is_alive(block_dir: Path, claim: Claim) -> bool:
    """Say whether the owner's heart beats and, on this host, its process is there."""
    if claim.host == socket.gethostname() and claim.boot_id == boot_id():
        return process_start(claim.pid) == claim.start
    try:
        age = time.time() - claim_path(block_dir, claim.attempt).stat().st_mtime
    except FileNotFoundError:
        return False
    return age <= 3 * HEARTBEAT


def process_start(pid: int) -> str:
    """Return a text that tells this process from a later one with the same id; empty where none is running."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return "" if platform.system() == "Linux" or not answers(pid) else "unknown"
    return "" if fields[0] in "ZX" else fields[19]


def answers(pid: int) -> bool:
    """Say whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
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
    """Return an attrs value as TOML."""
    return tomli_w.dumps(attrs.asdict(value)).encode()


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a small file of ours."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}", exit_code=2) from error
