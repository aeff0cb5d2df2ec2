"""Ratios measured in one run; each module is one command, `python -m benchmarks.NAME`."""
