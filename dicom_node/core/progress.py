"""How far a work has come: told by whoever does it, heard by whoever asked for it, also across the border of a process.

Deep in the work nobody knows who asked: `tell` finds the listener that the work was begun with. A work that nobody
listens to tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Takes the name of a step that has begun. It must not raise: the work goes on, heard or not.
Listener = Callable[[str], None]


def _nobody(_: str) -> None:
    """Hear nothing."""


_listener: ContextVar[Listener] = ContextVar("progress_listener", default=_nobody)


def tell(step: str) -> None:
    """Say that a step of the present work begins."""
    _listener.get()(step)


def listener() -> Listener:
    """Return who hears of the present work, to be told from another thread."""
    return _listener.get()


@contextmanager
def told_to(hears: Listener) -> Iterator[None]:
    """Do the work of the block so that this listener hears of it, and nobody else."""
    before = _listener.set(hears)
    try:
        yield
    finally:
        _listener.reset(before)
