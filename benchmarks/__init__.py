"""Measurements, each a program of its own: `python -m benchmarks.startup`. Figures: docs/explanation/performance.md."""
