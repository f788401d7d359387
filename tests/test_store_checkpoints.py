"""Checkpoints: files in the safetensors format that other programs read, named by their content."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import xfw
from xfw.store.checkpoints import read_checkpoint, write_checkpoint

TENSORS = {
    "body.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "body.count": np.array(7, dtype=np.int64),
    "mask": np.array([True, False, True]),
    "empty": np.zeros((0, 4)),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "end", "0-3", TENSORS, {"pass": "12"})
    found, about = read_checkpoint(path)
    assert about == {"pass": "12"}
    assert found.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        assert found[name].dtype == expected.dtype
        assert np.array_equal(found[name], expected)
        assert found[name].shape == expected.shape


def test_the_file_has_the_published_format(tmp_path: Path) -> None:
    data = write_checkpoint(tmp_path, "end", "0-3", TENSORS, {}).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + length])
    assert (8 + length) % 8 == 0
    entry = entries["body.weight"]
    assert (entry["dtype"], entry["shape"]) == ("F32", [2, 3])
    first, last = entry["data_offsets"]
    assert data[8 + length :][first:last] == TENSORS["body.weight"].tobytes()
    ends = sorted(entry["data_offsets"] for name, entry in entries.items() if name != "__metadata__")
    assert [end for _, end in ends[:-1]] == [start for start, _ in ends[1:]]
    assert ends[-1][1] == len(data) - 8 - length


def test_the_safetensors_library_reads_it(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    found = library.load_file(write_checkpoint(tmp_path, "end", "0-3", TENSORS, {"pass": "12"}))
    assert all(np.array_equal(found[name], expected) for name, expected in TENSORS.items())


def test_equal_content_is_written_once_and_other_content_beside_it(tmp_path: Path) -> None:
    first = write_checkpoint(tmp_path, "end", "0-3", TENSORS, {})
    before = first.stat().st_mtime_ns
    assert write_checkpoint(tmp_path, "end", "0-3", TENSORS, {}) == first
    assert first.stat().st_mtime_ns == before
    other = write_checkpoint(tmp_path, "end", "0-3", TENSORS | {"mask": np.array([True])}, {})
    assert other != first
    assert first.exists()


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "end", "0-3", TENSORS, {})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(xfw.UserError, match="not that of its name"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "new\nline"])
def test_a_name_that_is_no_plain_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(xfw.UserError, match="expected letters"):
        write_checkpoint(tmp_path, name, "0-3", TENSORS, {})
    assert not list(tmp_path.iterdir())
