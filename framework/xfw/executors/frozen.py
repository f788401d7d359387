"""Imported last by the fork server: what it has loaded is no garbage, and blocks need not search it again and again."""

from __future__ import annotations

import gc

gc.freeze()
