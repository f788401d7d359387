"""Files appear whole or not at all, whatever the disk does."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import pytest
from xfw.errors import UserError
from xfw.store import atomic


def test_write_replaces_the_whole_file(tmp_path):
    path = tmp_path / "a"
    atomic.write(path, [b"first, and longer"])
    atomic.write(path, [b"sec", b"ond"])
    assert path.read_bytes() == b"second"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_is_named_and_leaves_the_old_file(tmp_path, monkeypatch, number):
    path = tmp_path / "a"
    atomic.write(path, [b"old"])
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
    with pytest.raises(UserError, match=r"cannot write .*/a: the (disk|file)") as caught:
        atomic.write(path, [b"new"])
    assert "xfw resume" in caught.value.hint
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_real_size_limit_is_reported_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    atomic.write(path, [b"old"])
    code = (
        "import pathlib, resource, sys; from xfw.store import atomic; from xfw.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: atomic.write(pathlib.Path(sys.argv[1]), [b'x' * 5000])\n"
        "except UserError as error: sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "permitted file size" in done.stderr
    assert path.read_bytes() == b"old"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_exclusive_creation_has_one_winner(tmp_path):
    path = tmp_path / "claim"
    assert atomic.create_exclusively(path, b"first")
    assert not atomic.create_exclusively(path, b"second")
    assert path.read_bytes() == b"first"
    assert [each.name for each in tmp_path.iterdir()] == ["claim"]


def test_temporaries_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / "state.h5.123.tmp").write_bytes(b"half")
    (tmp_path / "state.h5").write_bytes(b"whole")
    atomic.remove_temporaries(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["state.h5"]


def test_temporary_name_holds_the_process_id(tmp_path):
    assert atomic.temporary_name(tmp_path / "00001.h5").name == f"00001.h5.{os.getpid()}.tmp"
