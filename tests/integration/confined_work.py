"""A target for confined workers: Python of strangers, which does what the request says."""

from __future__ import annotations


def perform(request: str) -> str:
    """Run one expression and tell what it gave."""
    return str(eval(request, {"__import__": __import__}))
