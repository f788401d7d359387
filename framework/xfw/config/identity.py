"""Write a configuration as canonical JSON, and hash it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["canonical", "config_hash"]


def canonical(value: Any) -> str:
    """Return canonical JSON: keys sorted, no blanks, ASCII only; equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def config_hash(configs: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the conditions' configurations, in their order.

    The hash of a run of one condition is that of its configuration alone. The seed is no part of a
    configuration, so runs that differ in it only have equal hashes.
    """
    text = canonical(configs[0] if len(configs) == 1 else list(configs))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
