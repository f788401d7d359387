"""What proves that a file holds what was written: a checksum before HDF5 parses it, and the commits it was made from.

Segments and states carry theirs in 512 bytes before the HDF5 file; that of ``run.h5`` lies beside it, so that other
readers find the file where they look for it. Imports no HDF5 library.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

import attrs

from xfw.errors import UserError
from xfw.store import atomic
from xfw.store.rundir import RunDir

__all__ = [
    "HEADER",
    "Proof",
    "beside",
    "check",
    "commits",
    "digest_in",
    "identity",
    "is_stale",
    "of_newest_state",
    "replace",
    "states",
    "stored_digest",
    "write",
]

HEADER = 512
"""Bytes of the HDF5 user block that carries the kind of file and the SHA-256 of everything after it."""

STATE = re.compile(r"state(?:-([1-9][0-9]*))?\.h5")
"""Names of states: after the attempt that wrote them, without a number (counted as 0) before xfw 0.2."""

STATE_KIND = "xfw-state 2"
ENTRY = re.compile(r"([0-9a-f]{64})  [^\n]*\n# ([0-9]+) bytes, sealed from (\[[^\n]*\])\n")
AGAIN = 5

T = TypeVar("T")


@attrs.frozen
class Proof:
    """What a sealed file was when it was sealed: SHA-256, size, and the last commit of every block."""

    sha256: str
    nbytes: int
    commits: tuple[str, ...]


def beside(file: Path) -> Path:
    """Return the file that holds the checksum of ``file``, in the form that ``sha256sum -c`` reads."""
    return file.with_name(f"{file.name}.sha256")


def read(file: Path) -> list[Proof]:
    """Return the states in which ``file`` may be found; none where nothing lies beside it.

    There are several only while it is being replaced, or after that was cut short.
    """
    path = beside(file)
    if not path.exists():
        return []
    text, _, last = atomic.read(path).decode("utf-8", "replace").rpartition("# ")
    entries = list(ENTRY.finditer(text))
    whole = "".join(entry[0] for entry in entries) == text
    if not entries or not whole or last != f"{hashlib.sha256(text.encode()).hexdigest()}\n":
        raise atomic.damaged(path, "its own checksum does not match its content", again(file))
    try:
        return [Proof(entry[1], int(entry[2]), tuple(map(str, json.loads(entry[3])))) for entry in entries]
    except (ValueError, RecursionError) as error:
        raise atomic.damaged(path, error, again(file)) from error


def write(file: Path, proofs: Sequence[Proof]) -> None:
    """Replace what lies beside ``file``, atomically and durably."""
    lines = (f"{p.sha256}  {file.name}\n# {p.nbytes} bytes, sealed from {json.dumps(p.commits)}\n" for p in proofs)
    text = "".join(lines).encode()
    atomic.write(beside(file), [text, f"# {hashlib.sha256(text).hexdigest()}\n".encode()])


def replace(file: Path, temporary: Path, made_from: tuple[str, ...] = ()) -> Proof:
    """Give a file that is on the disk its final name, and put its checksum beside it.

    At every moment what lies beside ``file`` names the bytes that it holds: first both the old ones and the new.
    """
    proof = Proof(atomic.sha256_of(temporary), temporary.stat().st_size, made_from)
    older: list[Proof] = []
    if file.is_file():
        with suppress(UserError):  # what cannot be read proves nothing
            older = read(file) or [Proof(atomic.sha256_of(file), 0, ())]
    write(file, [proof, *(other for other in older if other.sha256 != proof.sha256)])
    atomic.rename(temporary, file)
    write(file, [proof])
    return proof


def check(file: Path, *, quick: bool = False) -> Proof | None:
    """Return what proves that ``file`` is as it was sealed; None where nothing lies beside it.

    Raises UserError where its bytes are other ones. ``quick`` reads them only if their size, or a change after the
    checksum was written, gives a reason to.
    """
    found = ""
    for _ in range(AGAIN):  # a writer may be about to replace both
        proofs = read(file)
        if not proofs or (quick and len(proofs) == 1 and is_untouched(file, proofs[0])):
            return proofs[0] if proofs else None
        found = atomic.sha256_of(file)
        for proof in proofs:
            if proof.sha256 == found:
                return proof
        if read(file) == proofs:
            break
    what = f"these are not the bytes that were sealed (SHA-256 {found[:12]}…, sealed was {proofs[0].sha256[:12]}…)"
    raise atomic.damaged(file, what, again(file))


def is_untouched(file: Path, proof: Proof) -> bool:
    """Say whether a file has the size it was sealed with and was not changed since its checksum was written."""
    with atomic.open_regular(file) as opened:
        status = os.fstat(opened.fileno())
    return status.st_size == proof.nbytes and status.st_ctime_ns <= beside(file).stat().st_ctime_ns


def again(file: Path) -> str:
    """Return what to do about a sealed file that cannot be trusted."""
    make = (
        f"`{RunDir(file.parent).command('resume')}` makes run.h5 again from its blocks; "
        if file.name == "run.h5"
        else ""
    )
    return f"{make}if you changed it on purpose, --as-is reads it as it is"


def stored_digest(path: Path, kind: str) -> str:
    """Return the SHA-256 that a segment or state has in front, which tells its content from any other."""
    with atomic.open_regular(path) as file:
        return digest_in(file, path, kind)


def digest_in(file: BinaryIO, path: Path, kind: str) -> str:
    """Return the same of an open file, which is left behind its header."""
    lines = file.read(HEADER).split(b"\n")
    if lines[0].rpartition(b" ")[0] != kind.rpartition(" ")[0].encode() or len(lines) < 3:
        raise atomic.damaged(path, f"it does not begin with '{kind}'")
    if lines[0] > kind.encode():
        raise UserError(f"{path} was written by a newer xfw", hint="update xfw", exit_code=2)
    return lines[1].decode("ascii", "replace").removeprefix("sha256 ")


def identity(block_dir: Path) -> str:
    """Return what tells a block's last commit from any other one; empty before the first."""
    return of_newest_state(block_dir, lambda path: stored_digest(path, STATE_KIND)) or ""


def states(block_dir: Path) -> dict[int, Path]:
    """Return the state files of a block by the attempt that wrote them, oldest first."""
    matches = {path: STATE.fullmatch(path.name) for path in block_dir.glob("state*.h5")}
    return dict(sorted((int(match[1] or 0), path) for path, match in matches.items() if match))


def of_newest_state(block_dir: Path, read: Callable[[Path], T]) -> T | None:
    """Return what ``read`` makes of the state that counts: of the newest attempt that has committed; None before."""
    while path := next(reversed(states(block_dir).values()), None):
        try:
            return read(path)
        except UserError:
            if path.exists():  # else a later attempt has just replaced it
                raise
    return None


def commits(run: RunDir) -> tuple[str, ...]:
    """Return what changes whenever a block commits, ends or begins anew: state, attempts and last commit of each."""
    states = zip(run.manifest.blocks, run.block_states(), strict=True)
    return tuple(f"{s.state} {s.attempts} {identity(run.block_dir(block.index))}" for block, s in states)


def is_stale(run: RunDir, proof: Proof | None) -> bool:
    """Say whether blocks have gone on since ``run.h5`` was sealed; those whose files were removed since have not."""
    if proof is None or run.manifest.merged or not (run.path / "blocks").is_dir():
        return False
    then, now = proof.commits, commits(run)
    if len(then) != len(now):
        return True
    return any(new != old and (not new.endswith(" ") or old.endswith(" ")) for old, new in zip(then, now, strict=True))
