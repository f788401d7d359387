"""Files that appear whole or not at all, and are checked before they are believed.

Writing: temporary name, sync, rename, sync of the directory. Reading: regular files only, and of small texts
the checksum in their first line.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import cattrs
import tomli_w

from xfw.errors import UserError

__all__ = [
    "create_exclusively",
    "damaged",
    "from_toml",
    "open_regular",
    "publish",
    "read",
    "remove_temporaries",
    "rename",
    "sha256_of",
    "storage_error",
    "structured",
    "temporary_name",
    "to_toml",
    "unreadable",
    "write",
    "write_synced",
    "writing",
]

T = TypeVar("T")

NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the permitted file size",
}
SUFFIX = ".tmp"
FIRST_LINE = re.compile(rb"# xfw sha256 ([0-9a-f]{64})\n")
RESTORE = "it was left as it is; restore it from a copy, or start a new run"


def write(path: Path, parts: Iterable[bytes], last: Callable[[], bytes] | None = None) -> None:
    """Write ``path`` durably: after this returns it survives a power loss; before, ``path`` is as it was.

    ``last`` gives bytes that replace the first part when all the others are written (a checksum, say).
    Raises UserError (for example on a full disk) and leaves nothing half written.
    """
    temporary = temporary_name(path)
    try:
        write_synced(temporary, parts, last)
        rename(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` for writing piece by piece; it appears, durably, when the block ends without an error."""
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def rename(temporary: Path, path: Path) -> None:
    """Give a file that is on the disk its final name, durably."""
    try:
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def publish(path: Path, data: bytes) -> None:
    """Replace ``path`` for readers, without waiting for the disk (for what a crash may lose)."""
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def create_exclusively(path: Path, data: bytes) -> bool:
    """Create ``path`` durably and return True, or return False where it exists: one caller wins."""
    temporary = temporary_name(path)
    try:
        write_synced(temporary, [data])
        os.link(temporary, path)
        sync_directory(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def remove_temporaries(directory: Path) -> None:
    """Remove what writers left behind in ``directory``; the caller must be its only writer."""
    for path in directory.glob(f"*{SUFFIX}"):
        path.unlink(missing_ok=True)


def storage_error(path: Path, error: OSError) -> UserError:
    """Return the error a user can act on for a write that the operating system refused."""
    if error.errno in NO_SPACE:
        hint = "make room and run `xfw resume`: everything up to the last commit is kept"
        return UserError(f"cannot write {path}: {NO_SPACE[error.errno]}", hint=hint)
    return UserError(f"cannot write {path}: {error.strerror or error}")


def temporary_name(path: Path) -> Path:
    """Return the name under which this process prepares ``path``."""
    return path.with_name(f"{path.name}.{os.getpid()}{SUFFIX}")


def write_synced(path: Path, parts: Iterable[bytes], last: Callable[[], bytes] | None = None) -> None:
    """Write the parts one after another and wait until they are on the disk."""
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        if last is not None:
            file.seek(0)
            file.write(last())
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk (a no-op where directories cannot be opened)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damaged(path: Path, reason: object, hint: str = RESTORE) -> UserError:
    """Return the error for a file that is there and readable, but does not hold what it should."""
    return UserError(f"{path} is damaged: {reason}", hint=hint, exit_code=2)


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error for a file that the operating system did not let us read; that says nothing of its content."""
    hint = "raise the limit (`ulimit -n`)" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
    return UserError(f"cannot read {path}: {error.strerror or error}", hint=hint, exit_code=2)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading; UserError where there is none, or a directory, device or pipe in its place."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise damaged(path, "it is not a regular file")
        return path.open("rb")
    except OSError as error:
        if path.is_symlink() and not path.exists():
            raise damaged(path, "it is a link that leads nowhere") from error
        raise unreadable(path, error) from error


def read(path: Path, most: int = -1) -> bytes:
    """Return the content of a regular file, up to ``most`` bytes; UserError where it cannot be read."""
    with open_regular(path) as file:
        try:
            return file.read(most)
        except OSError as error:
            raise unreadable(path, error) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a regular file; UserError where it cannot be read."""
    with open_regular(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise unreadable(path, error) from error


def to_toml(content: dict[str, Any]) -> bytes:
    """Return values as TOML behind a comment that holds the SHA-256 of everything after it."""
    body = tomli_w.dumps(content).encode()
    return b"# xfw sha256 %b\n%b" % (hashlib.sha256(body).hexdigest().encode(), body)


def from_toml(path: Path, hint: str = RESTORE, most: int = 1 << 30) -> dict[str, Any]:
    """Read a file of ``to_toml`` of ``most`` bytes; UserError where its content is not what was written.

    One without the comment is taken as it is: xfw wrote none before format 1.2 of ``run.h5``.
    """
    data = read(path, most)
    if not data:
        raise damaged(path, "it is empty", hint)
    if data.startswith(b"#"):
        line = FIRST_LINE.match(data)
        if line is None or hashlib.sha256(data[line.end() :]).hexdigest().encode() != line[1]:
            raise damaged(path, "its checksum does not match its content", hint)
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise damaged(path, error, hint) from error


def structured(path: Path, content: Any, kind: type[T], hint: str = RESTORE, converter: Any = None) -> T:
    """Return the content of a file as an attrs class; UserError names the file and what does not fit."""
    try:
        return (converter or cattrs).structure(content, kind)  # type: ignore[no-any-return]
    except cattrs.BaseValidationError as error:
        problems = cattrs.transform_error(error)
        start = "required field missing @ $."
        missing = ", ".join(problem.removeprefix(start) for problem in problems if problem.startswith(start))
        others = [problem for problem in problems if not problem.startswith(start)]
        raise damaged(path, "; ".join([f"it lacks {missing}", *others] if missing else others), hint) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}", hint) from error
