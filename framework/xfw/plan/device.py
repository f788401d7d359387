"""Find out which devices are there, and check the one that was asked for."""

from __future__ import annotations

import os
import re

from xfw.errors import UserError

__all__ = ["default_jobs", "present_devices", "resolve_device", "total_memory"]

EXPECTED = "expected auto, cpu, cuda, cuda:N or mps"


def present_devices() -> list[str]:
    """Return the devices of this machine, the preferred one first. Imports torch."""
    import torch

    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def resolve_device(text: str) -> str:
    """Return the device to use: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; refuse one that is not there."""
    if text == "cpu":
        return text
    if not re.fullmatch(r"auto|mps|cuda(:\d+)?", text):
        raise UserError(f"unknown device '{text}'", hint=EXPECTED, exit_code=2)
    present = present_devices()
    if text == "auto":
        return present[0].partition(":")[0]
    if text not in present and not (text == "cuda" and present[0].startswith("cuda")):
        raise UserError(f"device '{text}' is not there", hint=f"this machine has: {', '.join(present)}", exit_code=2)
    return text


def default_jobs(device: str) -> int:
    """Return how many blocks run at once: one per core on the CPU, one per visible GPU, else one."""
    if device == "cpu":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device == "cuda":
        return sum(name.startswith("cuda") for name in present_devices())
    return 1


def total_memory(device: str) -> int | None:
    """Return the device's whole memory in bytes (not what is free); None where it sets no limit of its own."""
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
