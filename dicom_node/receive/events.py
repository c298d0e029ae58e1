"""What was received and is not settled: one queue between the acceptor's attendant and the journal's consumer."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from dicom_node.receive.channel import AssociationClosed, RecordStored, ReportAnswered


@dataclass(frozen=True, slots=True)
class AcceptorDied:
    """The acceptor died, and every association with it."""

    at_s: float


ReceiveEvent = RecordStored | AssociationClosed | ReportAnswered | AcceptorDied


class ReceiveEvents:
    """Events in the order in which they happened, and how many objects of which study are not settled. Thread-safe.

    An object counts from the moment it is put here until it is `settled`: as long a study of it is not complete.
    """

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[ReceiveEvent | None] = queue.SimpleQueue()
        self._unsettled: Counter[str] = Counter()
        self._lock = threading.Lock()

    def put(self, event: ReceiveEvent) -> None:
        """Append what happened. Never blocks."""
        if isinstance(event, RecordStored):
            with self._lock:
                self._unsettled[event.study_instance_uid] += 1
        self._events.put(event)

    def close(self) -> None:
        """Wake the one who waits in `get`, which returns `None` to it."""
        self._events.put(None)

    def get(self, timeout_s: float | None = None) -> ReceiveEvent | None:
        """Return the next event, `None` for the end. Raises `queue.Empty` after the time."""
        return self._events.get(timeout=timeout_s)

    def is_empty(self) -> bool:
        """Tell whether nothing waits."""
        return self._events.empty()

    def settled(self, events: Iterable[ReceiveEvent]) -> None:
        """Say that these are dealt with: their objects have rows, or never will in this process."""
        with self._lock:
            for event in events:
                if isinstance(event, RecordStored):
                    self._unsettled[event.study_instance_uid] -= 1
                    if not self._unsettled[event.study_instance_uid]:
                        del self._unsettled[event.study_instance_uid]

    def backlog(self) -> int:
        """Return how many records are not settled."""
        return self._unsettled.total()

    def unsettled_studies(self) -> frozenset[str]:
        """Return the studies of which an acknowledged object has no row yet; they are not complete."""
        with self._lock:
            return frozenset(self._unsettled)
