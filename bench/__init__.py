"""Measurements: us and a peer in turn in one process tree, ratios printed. ``make bench``."""
