"""Data sets by name: what is embedded, what is found in a data directory, what is downloaded."""
