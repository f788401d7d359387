"""Files that appear whole or not at all: temporary name, sync, rename, sync of the directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from xfw.errors import UserError

__all__ = ["create_exclusively", "publish", "remove_temporaries", "storage_error", "write"]

NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the permitted file size",
}
SUFFIX = ".tmp"


def write(path: Path, parts: Iterable[bytes], last: Callable[[], bytes] | None = None) -> None:
    """Write ``path`` durably: after this returns it survives a power loss; before, ``path`` is as it was.

    ``last`` gives bytes that replace the first part when all the others are written (a checksum, say).
    Raises UserError (for example on a full disk) and leaves nothing half written.
    """
    temporary = temporary_name(path)
    try:
        write_synced(temporary, parts, last)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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
