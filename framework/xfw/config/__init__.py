"""Configurations: keys, defaults, presets, files and the command line."""
