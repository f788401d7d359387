"""Devices: what is there, what was asked for, and how many blocks run at once."""

from __future__ import annotations

import os

import pytest
import xfw
from xfw.plan.device import default_jobs, present_devices, resolve_device, total_memory


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[str]:
    """A machine with the devices of the parameter, the preferred one first."""
    found: list[str] = request.param
    monkeypatch.setattr("xfw.plan.device.present_devices", lambda: found)
    return found


GPUS, MAC, PLAIN = ["cuda:0", "cuda:1", "cpu"], ["mps", "cpu"], ["cpu"]


@pytest.mark.parametrize(
    ("machine", "asked", "expected"),
    [
        (GPUS, "auto", "cuda"),
        (GPUS, "cuda", "cuda"),
        (GPUS, "cuda:1", "cuda:1"),
        (GPUS, "cpu", "cpu"),
        (MAC, "auto", "mps"),
        (MAC, "mps", "mps"),
        (PLAIN, "auto", "cpu"),
        (PLAIN, "cpu", "cpu"),
    ],
    indirect=["machine"],
)
@pytest.mark.usefixtures("machine")
def test_a_device_that_is_there_is_used(asked: str, expected: str) -> None:
    assert resolve_device(asked) == expected


@pytest.mark.parametrize(
    ("machine", "asked"),
    [(GPUS, "cuda:2"), (GPUS, "mps"), (MAC, "cuda"), (PLAIN, "cuda"), (PLAIN, "cuda:0"), (PLAIN, "mps")],
    indirect=["machine"],
)
def test_an_absent_device_is_refused_with_those_that_are_there(machine: list[str], asked: str) -> None:
    with pytest.raises(xfw.UserError, match=f"device '{asked}' is not there") as error:
        resolve_device(asked)
    assert f"this machine has: {', '.join(machine)}" in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("text", ["gpu", "", "cuda:", "cuda:x", "CPU", "xla"])
def test_an_unknown_device_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(xfw.UserError, match="expected auto, cpu, cuda, cuda:N or mps"):
        resolve_device(text)


@pytest.mark.parametrize(
    ("machine", "device", "jobs"),
    [(GPUS, "cuda", 2), (GPUS, "cuda:1", 1), (MAC, "mps", 1)],
    indirect=["machine"],
)
@pytest.mark.usefixtures("machine")
def test_one_block_runs_on_each_visible_gpu(device: str, jobs: int) -> None:
    assert default_jobs(device) == jobs


def test_one_block_runs_on_each_core_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert default_jobs("cpu") == 3


def test_the_cpu_is_always_there_and_last() -> None:
    assert present_devices()[-1] == "cpu"


def test_only_cuda_limits_the_memory_of_a_block() -> None:
    assert total_memory("cpu") is None
    assert total_memory("mps") is None
