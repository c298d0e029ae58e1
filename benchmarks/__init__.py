"""Measurements, each a program of its own: `python -m benchmarks.startup`. Figures go into docs/performance.md."""
