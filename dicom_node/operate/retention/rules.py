"""Which studies may go by the settings, and the sweep that lets them go: by age, then by want of space.

Without settings nothing is deleted, ever. What goes first is what nothing has happened to for longest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from dicom_node.config.running import RetentionSettings
from dicom_node.core.audit import Audit
from dicom_node.core.calls.outage_log import OutageLog
from dicom_node.core.entities import KeptKind
from dicom_node.core.principal import NODE, Principal
from dicom_node.core.retention.rules import (
    YOUNGEST,
    RetentionChoice,
    RetentionLimits,
    StudyFacts,
    choice_by_age,
    choice_for_space,
)
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.retention.deletions import Deletion, under_way
from dicom_node.index.retention.facts import RetentionPlace, oldest
from dicom_node.operate.retention.deleter import Deleter
from dicom_node.storage.spool import Spool

#: What is left to senders between two batches of files, and how many studies are made durable at once.
_PAUSE_S, _STUDIES_AT_ONCE = 0.05, 20
_MEGABYTE = 1 << 20
_log = logging.getLogger(__name__)


def limits_of(settings: RetentionSettings) -> RetentionLimits:
    """Return what the settings say."""
    return RetentionLimits(
        images_days=settings.images_days, results_days=settings.results_days,
        keep_free_bytes=settings.keep_free_mb * _MEGABYTE,
    )  # fmt: skip


class Retention:
    """Lets studies go as the settings say; several processes may do so at once."""

    def __init__(
        self, database: Database, spool: Spool, audit: Audit, limits: RetentionLimits, pause_s: float = _PAUSE_S
    ) -> None:
        self._database = database
        self._spool = spool
        self._limits = limits
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._deleter = Deleter(database, spool, audit, self._pause)
        self._no_room = OutageLog(_log, "nothing more may go to make room", "there is room again")

    def stop(self) -> None:
        """End after the present batch; what is begun is finished later."""
        self._stopping.set()

    def run(self, actor: Principal = NODE) -> list[Deletion]:
        """Finish what was begun, then delete what may go now; return what was deleted. Raises `IndexUnavailable`."""
        with self._database.read() as connection:
            begun = under_way(connection)
        gone = self._deleter.resume(begun)
        for kind in KeptKind:
            if self._limits.days_of(kind):
                gone += self._delete_aged(kind, actor)
        return gone + self._make_room(actor)

    def plan(self) -> list[RetentionChoice]:
        """Return what would go now, and why each other thing stays; what goes for want of space in the order in which
        it would."""
        with self._database.read() as connection:
            now = now_in(connection)
        by_age = [
            choice for kind in KeptKind for facts in self._oldest(kind, now + timedelta(days=1))
            if (choice := choice_by_age(facts, self._limits, now)) is not None
        ]  # fmt: skip
        lacking = self._lacking_bytes() - sum(one.facts.bytes_of(one.kind) for one in by_age if one.goes)
        for place, choice in enumerate(by_age):
            if lacking > 0 and not choice.goes:
                by_age[place] = instead = choice_for_space(choice.facts, choice.kind, self._limits, now)
                lacking -= instead.facts.bytes_of(instead.kind) if instead.goes else 0
        return by_age

    def _delete_aged(self, kind: KeptKind, actor: Principal) -> list[Deletion]:
        with self._database.read() as connection:
            now = now_in(connection)
        facts = self._oldest(kind, now - timedelta(days=self._limits.days_of(kind)))
        choices = (choice_by_age(one, self._limits, now) for one in facts)
        going = (choice for choice in choices if choice is not None and choice.goes and choice.kind is kind)
        gone: list[Deletion] = []
        while not self._stopping.is_set() and (batch := list(islice(going, _STUDIES_AT_ONCE))):
            gone += self._deleter.delete(batch, actor)
        return gone

    def _make_room(self, actor: Principal) -> list[Deletion]:
        """Delete the oldest until enough is free: images, and results only where no image may go any more."""
        gone: list[Deletion] = []
        with self._database.read() as connection:
            now = now_in(connection)
        for kind in KeptKind if self._lacking_bytes() > 0 else ():
            facts = self._oldest(kind, now - YOUNGEST)
            choices = (choice_for_space(one, kind, self._limits, now) for one in facts)
            going = (choice for choice in choices if choice.goes and choice.facts.next_kind is kind)
            while not self._stopping.is_set() and (batch := self._enough(going)):
                gone += self._deleter.delete(batch, actor)
        self._tell_room()
        return gone

    def _enough(self, going: Iterator[RetentionChoice]) -> list[RetentionChoice]:
        """Return the next that go until enough is free, at most as many as are made durable at once."""
        lacking, batch = self._lacking_bytes(), list[RetentionChoice]()
        while lacking > 0 and len(batch) < _STUDIES_AT_ONCE and (choice := next(going, None)):
            batch.append(choice)
            lacking -= choice.facts.bytes_of(choice.kind)
        return batch

    def _oldest(self, kind: KeptKind, before: datetime) -> Iterator[StudyFacts]:
        place: RetentionPlace | None = None
        while True:
            with self._database.read() as connection:
                facts, place = oldest(connection, kind, before, place)
            yield from facts
            if place is None or self._stopping.is_set():
                return

    def _lacking_bytes(self) -> int:
        return self._limits.keep_free_bytes - self._spool.free_bytes() if self._limits.keep_free_bytes else 0

    def _tell_room(self) -> None:
        lacking = self._lacking_bytes()
        if lacking > 0 and not self._stopping.is_set():
            why = "Less is free than retention.keep_free_mb, and all that is kept is kept for a reason."
            advice = "The reasons: dicom-node purge --dry-run. Deliver, review or release, or add disk."
            self._no_room.failed(why, {"lacking_mb": lacking // _MEGABYTE, "advice": advice})
        else:
            self._no_room.worked()

    def _pause(self) -> bool:
        return not self._stopping.wait(self._pause_s)
