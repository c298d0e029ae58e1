"""Deletes images or results of studies so that it can be killed anywhere: intent, files, rows, in small batches.

The steps and their rows are in `index.retention.deletions`. Between two batches senders have the machine to themselves;
what was deleted of several studies is made durable at once, before the rows say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dicom_node.core.audit import Audit, AuditedAct, AuditedEvent
from dicom_node.core.entities import DeletionState
from dicom_node.core.errors import SpoolUnavailable
from dicom_node.core.principal import Principal
from dicom_node.core.retention.rules import YOUNGEST, RetentionChoice
from dicom_node.index.database import Database
from dicom_node.index.due import now_in
from dicom_node.index.retention.deletions import (
    Deletion,
    deletions_of,
    is_wanted,
    mark,
    next_files,
    removable,
    shrink,
)
from dicom_node.storage.spool import Spool

#: So many rows' files go in one transaction, in which arrivals of their study wait.
FILES_AT_ONCE = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deleter:
    """Deletes what was chosen; `pause` lets others work between two batches, and says whether to go on."""

    database: Database
    spool: Spool
    audit: Audit
    pause: Callable[[], bool]

    def delete(self, chosen: Sequence[RetentionChoice], actor: Principal) -> list[Deletion]:
        """Delete what goes of several studies; return what was deleted. What keeps a study by now stays.

        Raises `IndexUnavailable` and `SpoolUnavailable`; what was begun is finished by `resume`.
        """
        marked = [deletion for choice in chosen if (deletion := self._mark(choice, actor)) is not None]
        return self._finish(marked)

    def resume(self, begun: Sequence[Deletion]) -> list[Deletion]:
        """Finish deletions that were begun, perhaps by a process that died."""
        return self._finish(begun)

    def _mark(self, choice: RetentionChoice, actor: Principal) -> Deletion | None:
        with self.database.write() as connection:
            return mark(connection, choice.facts, choice.kind, (choice.rule, actor), now_in(connection))

    def _finish(self, marked: Sequence[Deletion]) -> list[Deletion]:
        """Remove the files of all, then let their rows shrink: what is gone must not come back by a power cut."""
        try:
            gone = [deletion for deletion in marked if self._remove_files(deletion)]
            if gone:
                self.spool.sync()
        except OSError as error:
            raise SpoolUnavailable(
                f"Files below {self.spool.folder} cannot be deleted: {error.strerror}. Correct their rights, or repair "
                "the disk; the deletion goes on by itself."
            ) from error
        return [ended for deletion in gone if (ended := self._shrink(deletion)) is not None]

    def _remove_files(self, deletion: Deletion) -> bool:
        """Remove all files; `False`: the deletion was stopped, or waits: equal bytes were stored a moment ago."""
        with self.database.read() as connection:
            waiting = removable(connection, deletion)
        while True:
            batch, waiting = waiting[:FILES_AT_ONCE], waiting[FILES_AT_ONCE:]
            with self.database.write() as connection:
                if not is_wanted(connection, deletion) or not self._remove(batch):
                    return False
                if not waiting:
                    waiting = next_files(connection, deletion, FILES_AT_ONCE) or []
            if not waiting:
                return True
            if not self.pause():
                return False

    def _remove(self, keys: Sequence[str]) -> bool:
        return all(self.spool.remove(key, YOUNGEST.total_seconds()) for key in keys if key)

    def _shrink(self, deletion: Deletion) -> Deletion | None:
        is_done = False
        while not is_done:
            with self.database.write() as connection:
                is_done = shrink(connection, deletion, now_in(connection))
        with self.database.read() as connection:
            ended = next(one for one in deletions_of(connection, deletion.study_instance_uid)
                         if one.number == deletion.number)  # fmt: skip
        if ended.state is not DeletionState.DELETED:
            return None
        self._tell(ended)
        return ended

    def _tell(self, ended: Deletion) -> None:
        detail = {"what": ended.kind.value, "rule": ended.rule, "objects": ended.objects, "bytes": ended.size_bytes}
        _log.info("study deleted from", extra={"study": ended.study_instance_uid, **detail})
        self.audit.note(
            AuditedEvent(
                act=AuditedAct.DELETION, actor=Principal(ended.actor), study_instance_uid=ended.study_instance_uid,
                detail=detail,
            ),
            f"deletion:{ended.number}:{ended.marked_at:%Y%m%d%H%M%S}",
        )  # fmt: skip
