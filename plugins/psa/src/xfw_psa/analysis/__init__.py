"""The tables, files and figures of the paper, as analyzers."""

from __future__ import annotations

from xfw import Analyzer

__all__ = ["ANALYZERS"]

ANALYZERS: tuple[Analyzer, ...] = ()
"""All analyzers of psa, in the order of the documentation."""
