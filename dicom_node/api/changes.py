"""Tells listeners that studies changed: one thread looks at the database for all, and only while any listens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.errors import IndexUnavailable
from dicom_node.index.counts import changed_studies, last_change
from dicom_node.index.database import Database
from dicom_node.index.view_types import ChangeToken

#: How many may listen at once; each holds one thread of the API's pool of 40.
MAX_LISTENERS = 16
_POLL_S = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """The state of the index after something changed, and which studies that was (at most 100)."""

    number: int
    study_instance_uids: Sequence[str]


class ChangeFeed:
    """Watches the index of one node; safe to share between threads."""

    def __init__(self, database: Database, poll_s: float = _POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._changed = threading.Condition()
        self._latest = Change(0, ())
        self._listeners = 0
        self._watching = False
        self._closed = False

    def join(self) -> Change | None:
        """Begin to listen and return where the feed stands; `None` when too many listen, or the feed is closed."""
        with self._changed:
            if self._closed or self._listeners >= MAX_LISTENERS:
                return None
            self._listeners += 1
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="api-changes", daemon=True).start()
            return self._latest

    def leave(self) -> None:
        """Stop listening; once for each `join` that succeeded."""
        with self._changed:
            self._listeners -= 1
            self._changed.notify_all()

    def wait(self, seen: Change, timeout_s: float) -> Change:
        """Wait until there is something newer than `seen`, the feed closes, or the time is up; return the latest."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._latest.number != seen.number, timeout_s)
            return self._latest

    @property
    def closed(self) -> bool:
        """Whether the server is stopping."""
        return self._closed

    def close(self) -> None:
        """Send everybody away; the server is stopping."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _watch(self) -> None:
        token: ChangeToken | None = None
        while self._wanted():
            token = self._look(token)
            with self._changed:
                self._changed.wait_for(lambda: self._closed or not self._listeners, self._poll_s)

    def _wanted(self) -> bool:
        with self._changed:
            self._watching = self._listeners > 0 and not self._closed
            return self._watching

    def _look(self, token: ChangeToken | None) -> ChangeToken | None:
        try:
            with self._database.read() as connection:
                newest = last_change(connection)
                changed = [] if token is None or token == newest else changed_studies(connection, token)
        except IndexUnavailable:
            _log.warning("changes cannot be watched: the database does not answer; tried again")
            return token
        if token is not None and newest != token:
            with self._changed:
                self._latest = Change(self._latest.number + 1, changed)
                self._changed.notify_all()
        return newest
