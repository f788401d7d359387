"""Plugins: discovery from metadata, loading one experiment with the extensions, and their states."""
