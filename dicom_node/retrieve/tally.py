"""What a retrieval counts: expected, here, refused, sent elsewhere; and why something is missing.

`fetch_singly` is how a source counts objects that it fetches one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from dicom_node.core.errors import NotFound, RefusedObject, SourceFault, SourceUnavailable


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a retrieval has come. `expected` is `None` until the source has told, or when it never does."""

    expected: int | None = None
    received: int = 0
    failed: int = 0
    reason: str = ""


class Tally:
    """Counts that one thread writes and any may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: int | None = None
        self._stored: set[str] = set()
        self._refused: dict[str, str] = {}
        self._failed_there = 0
        self._sent_elsewhere = 0
        # Known once the index has been asked.
        self._strangers = 0
        self._here: int | None = None

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        with self._lock:
            elsewhere = self._sent_elsewhere if self._here is None else min(self._sent_elsewhere, self._here)
            received = len(self._stored) - self._strangers + elsewhere
            failed = max(len(self._refused), self._failed_there)
            reason = next(iter(self._refused.values()), "") or self._doubt(elsewhere)
            return Progress(self._expected, received, failed, reason)

    @property
    def stored(self) -> frozenset[str]:
        """The objects that came and are durable and indexed."""
        with self._lock:
            return frozenset(self._stored)

    def has(self, sop_instance_uid: str) -> bool:
        """Tell whether this object has come and was stored."""
        with self._lock:
            return sop_instance_uid in self._stored

    @property
    def sent_elsewhere(self) -> int:
        """How many objects the source says it sent to another receiver (C-MOVE)."""
        return self._sent_elsewhere

    def expect(self, count: int | None) -> None:
        """Note how many objects the source says there are."""
        with self._lock:
            self._expected = count

    def store(self, sop_instance_uid: str) -> None:
        """Count an object that is durable and indexed."""
        with self._lock:
            self._stored.add(sop_instance_uid)
            self._refused.pop(sop_instance_uid, None)

    def refuse(self, sop_instance_uid: str, why: str) -> None:
        """Count an object that did not come, or in a form that cannot be stored; the first reason stays."""
        with self._lock:
            self._refused.setdefault(sop_instance_uid, why)

    def count_failed_there(self, failed: int) -> None:
        """Note how many objects the source says it could not send, those refused here among them."""
        with self._lock:
            self._failed_there = failed

    def count_sent_elsewhere(self, sent: int) -> None:
        """Note how many objects the source says it sent to another receiver."""
        with self._lock:
            self._sent_elsewhere = sent

    def confirm(self, here: int, stored_here: int) -> None:
        """Correct the counts by what the index has of the study, and of the objects that came this way."""
        with self._lock:
            self._here = here
            self._strangers = len(self._stored) - stored_here

    def _doubt(self, elsewhere: int) -> str:
        if elsewhere < self._sent_elsewhere:
            return (
                f"The PACS says it sent {self._sent_elsewhere} objects, {elsewhere} are here. Check that "
                "move_destination is this node there, with this node's address and port."
            )
        return f"{self._strangers} objects were of another study." if self._strangers else ""


# --- objects fetched one by one ------------------------------------------------------------------------------------

#: Objects in a row at which the PACS may break off or fall silent before it is taken for gone.
_MOST_BREAKS = 3

T = TypeVar("T")


def fetch_singly(objects: Iterable[T], name_of: Callable[[T], str], fetch: Callable[[T], None], tally: Tally) -> None:
    """Fetch each object; one that fails is counted with its reason under its name, and the next is tried.

    A PACS that answers with an error is asked for all the others; one that does not answer is given up. Raises
    `SourceUnavailable` then, and whatever else `fetch` raises.
    """
    breaks = 0
    for one in objects:
        try:
            fetch(one)
            breaks = 0
        except (NotFound, RefusedObject, SourceFault) as error:
            tally.refuse(name_of(one), str(error))
            breaks = 0
        except SourceUnavailable as error:
            tally.refuse(name_of(one), str(error))
            breaks += 1
            if breaks == _MOST_BREAKS:
                raise
