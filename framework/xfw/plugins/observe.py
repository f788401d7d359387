"""Keep the failures of extensions to themselves, and trace hook calls for ``XFW_TRACE``."""

from __future__ import annotations

import functools
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pluggy

from xfw.plugins.contract import hooks_of

__all__ = ["isolated", "trace_calls"]


def isolated(module: ModuleType, name: str) -> Any:
    """Return an extension's observers such that an exception is shown once and the block goes on."""
    return SimpleNamespace(**{hook: guarded(getattr(module, hook), hook, name) for hook in hooks_of(module)})


def guarded(function: Callable[..., Any], hook: str, name: str) -> Callable[..., Any]:
    """Return an observer that reports its first exception and swallows all."""
    failures: list[BaseException] = []

    @functools.wraps(function)
    def observe(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except Exception as error:  # noqa: BLE001 - an observer must not stop the experiment
            if not failures:
                print(f"warning: extension '{name}' failed in {hook}; the run goes on:", file=sys.stderr)  # noqa: T201
                traceback.print_exc()
            failures.append(error)
            return None

    return observe


def trace_calls(manager: pluggy.PluginManager) -> None:
    """Print every hook call with its time on the error stream."""
    started: list[float] = []

    def before(*_: Any) -> None:
        started.append(time.perf_counter())

    def after(_outcome: Any, hook: str, *_: Any) -> None:
        milliseconds = (time.perf_counter() - started.pop()) * 1e3
        print(f"xfw: {hook} {milliseconds:.3f} ms", file=sys.stderr)  # noqa: T201

    manager.add_hookcall_monitoring(before, after)
