"""``xfw data``: list, describe, fetch, check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from xfw.cli.data import data
from xfw.data import mnist
from xfw.errors import WrongInput

SHARED = Path(os.environ.get("XFW_DATA_DIR", "/nowhere"))
needs_mnist = pytest.mark.skipif(not (SHARED / "MNIST" / "raw").is_dir(), reason="MNIST is not in XFW_DATA_DIR")


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at no data set of the user's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def call(*arguments: str) -> str:
    return CliRunner().invoke(data, arguments, catch_exceptions=False, standalone_mode=True).output


def test_list_says_what_is_embedded() -> None:
    rows = {row["name"]: row for row in json.loads(call("list", "--json"))["data"]}
    assert rows["digits"]["found"] == "embedded"
    assert set(rows) == {"digits", "mnist"}


def test_describe_shows_licence_files_and_checksums() -> None:
    said = call("describe", "mnist")
    assert "CC BY-SA" in said
    assert all(file.md5 in said for file in mnist.FILES)


def test_fetch_of_an_embedded_set_has_nothing_to_do() -> None:
    assert "nothing to fetch" in call("fetch", "digits")


def test_check_without_names_tolerates_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    states = {row["name"]: row["state"] for row in json.loads(call("check", "--json"))["data"]}
    assert states == {"digits": "ok", "mnist": "missing"}


def test_check_of_a_named_missing_set_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XFW_DATA_DIR", raising=False)
    with pytest.raises(WrongInput, match="mnist"):
        call("check", "mnist")


def test_check_of_a_damaged_set_fails(tmp_path: Path) -> None:
    for file in mnist.FILES:
        path = tmp_path / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"damaged")
    with pytest.raises(WrongInput, match="cannot be used: mnist"):
        call("check", "--data-dir", str(tmp_path))


@needs_mnist
def test_check_verifies_the_original_files() -> None:
    assert "ok" in call("check", "mnist", "--data-dir", str(SHARED))


@needs_mnist
def test_fetch_of_what_is_there_only_verifies() -> None:
    assert "complete and verified" in call("fetch", "mnist", "--data-dir", str(SHARED))


def test_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, xfw.cli.data; print([m for m in ('torch', 'sklearn', 'h5py', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
