"""Telling other services what a run does: from its files, beside it, without a trace in its numbers."""
